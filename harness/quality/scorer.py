"""Score sets of images against a split. Features and statistics of the real images are computed once and cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment.scores import KID
from harness.quality import scores
from harness.quality.cache import load_or_compute
from harness.quality.judge import Judge, format_shape
from harness.quality.score_set import ScoreSet, compute_scores
from harness.quality.scores import FUNCTIONS, ScoreInputs

MIN_IMAGES = 10  # for k-th neighbours and leave-one-out errors
LARGE_SET = 20_000  # images: computing the features of so many takes a while, and is reported
REFERENCE = "real against real"
CACHE_VERSION = 1  # increased when networks or statistics change


class Scorer:
    """Scores sets of images against real images, in the feature space of the judge.

    Scores can be compared if they have the same number of samples and the same seed: then the real images are the same.
    """

    def __init__(
        self,
        judge: Judge,
        real: Images,
        training: Images | None,
        *,
        samples: int = 10_000,
        seed: int = 0,
        device: str | torch.device | None = None,
        message: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Select the images; features are computed when they are needed.

        Args:
            judge: The judge.
            real: The split to score against. `samples` images of it are used, selected by the seed.
            training: The training images. All are used for neighbours, `samples` for memorisation and the reference.
            samples: Number of images of a set that are scored.
            seed: Seed of the selections.
            device: Where scores are computed in float64 (the CPU instead of MPS). None: the device of the judge.
            message: Receives one line before the features of many images are computed.

        Raises:
            HarnessError: `real` has fewer than `samples` images, or `samples` is less than 10.
        """
        if samples < MIN_IMAGES:
            raise HarnessError(f"quality.samples is {samples}; expected at least {MIN_IMAGES}")
        if len(real) < samples:
            raise HarnessError(
                f"quality.samples is {samples:,}, but {real.name} has {len(real):,} images: set it to that or fewer"
            )
        device = judge.device if device is None else torch.device(device)
        self.judge = judge
        self.samples = samples
        self._seed = seed
        self._device = torch.device("cpu") if device.type == "mps" else device
        self._message = message
        self._real = self._select(real)
        self._all_training = training
        self._training = None if training is None else self._select(training)
        self._unused = None if training is None else self._select(training, skip=samples)

    def score(self, pixels: Tensor, *, full: bool = True) -> ScoreSet:
        """Return the scores of generated images.

        Args:
            pixels: uint8 [N, C, H, W], N >= samples. If N is larger, the seed selects `samples` images.
            full: Compute all scores, not only KID and the Frechet distance.

        Raises:
            HarnessError: There are too few images, or they have another shape.
        """
        return self.score_all([pixels], full=full)[0]

    def score_all(self, sets: Sequence[Tensor], *, full: bool = True) -> list[ScoreSet]:
        """Return the scores of several sets of images. The judge computes the features of all in one call."""
        chosen = [self._choose(pixels) for pixels in sets]
        features, classes = self._features_and_classes(torch.cat(chosen))
        parts = torch.split(features, self.samples)
        labels = [None] * len(sets) if classes is None else torch.split(classes, self.samples)
        return [self._scores(part, predicted, full) for part, predicted in zip(parts, labels, strict=True)]

    def reference(self) -> ScoreSet:
        """Return the scores of real images: those of a perfect generator.

        Training images that memorisation does not compare with are scored like generated ones. If there are too few of
        them, one half of the real images is scored against the other. There is no memorisation score then, and the
        Frechet distance is higher, because it is computed from half the samples.
        """
        if self._unused is not None and len(self._unused) == self.samples:
            cached = self._cached_features(self._unused)
            return self._scores(cached["features"].to(self._device).double(), cached.get("classes"), full=True)
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(self._seed))
        halves = [self._real.index_select(half.to(self._real.pixels.device)) for half in order.chunk(2)]
        return Scorer(
            self.judge, halves[1], None, samples=self.samples // 2, seed=self._seed, device=self._device
        ).score(halves[0].pixels)

    def references(self) -> dict[str, tuple[ScoreSet, None]]:
        """Return the reference rows of a table, by name; none if there are too few images."""
        unused = 0 if self._unused is None else len(self._unused)
        if unused < self.samples and self.samples // 2 < MIN_IMAGES:
            self._message(
                f"no row {REFERENCE!r}: it needs {self.samples} more training images, or {2 * MIN_IMAGES} samples"
            )
            return {}
        return {REFERENCE: (self.reference(), None)}

    def neighbours(self, pixels: Tensor) -> Tensor:
        """Return the nearest training image of each image, in the feature space; both are uint8 [N, C, H, W]."""
        training = self._all_training
        if training is None:
            raise HarnessError("there are no training images to search for neighbours; pass some to the Scorer")
        closest = scores.nearest(self._features_and_classes(pixels)[0], self._all_training_features)[1]
        return training.pixels[closest.to(training.pixels.device)]

    def _scores(self, features: Tensor, classes: Tensor | None, full: bool) -> ScoreSet:
        statistics = self._real_statistics
        inputs = ScoreInputs(
            features,
            self._real_features,
            kernel_sums=statistics["kernel_sums"],
            radii=statistics["radii"],
            classes=None if classes is None else classes.cpu(),
            real_classes=self._real_outputs.get("classes"),
            training=None if self._training is None else self._training_features,
        )
        return compute_scores(KID, FUNCTIONS, inputs, KID.scores if full else KID.shown)

    def _select(self, images: Images, skip: int = 0) -> Images:
        """Return `samples` images selected by the seed, after the first `skip`. There may be fewer."""
        if len(images) == self.samples and not skip:
            return images
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self._seed))
        return images.index_select(order[skip : skip + self.samples].to(images.pixels.device))

    def _choose(self, pixels: Tensor) -> Tensor:
        expected = self._real.pixels.shape[1:]
        if pixels.ndim == 4 and pixels.shape[1:] != expected:
            raise HarnessError(
                f"images to score are {format_shape(pixels.shape[1:])}; {self._real.name} is {format_shape(expected)}"
            )
        return random_subset(pixels, self.samples, self._seed)

    def _features_and_classes(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        features, classes = self.judge.features_and_classes(pixels)
        return features.to(self._device).double(), classes

    def _cached_features(self, images: Images) -> dict[str, Tensor]:
        """Return `features` float32 [N, d] and, if the judge classifies, `classes` int64 [N]; on the CPU."""

        def compute() -> dict[str, Tensor]:
            if len(images) >= LARGE_SET:
                self._message(
                    f"computing the features of {len(images):,} images of {images.name} (once; they are stored)"
                )
            features, classes = self.judge.features_and_classes(images.pixels)
            return {"features": features} if classes is None else {"features": features, "classes": classes}

        return load_or_compute(self._key(images, "features"), compute)

    def _key(self, images: Images, what: str) -> str:
        judge = hashlib.sha256(f"{self.judge.sha256} {self.judge.code} {self.judge.device.type}".encode()).hexdigest()
        return f"{images.fingerprint}-{judge[:16]}-{what}.{CACHE_VERSION}"

    @cached_property
    def _real_outputs(self) -> dict[str, Tensor]:
        return self._cached_features(self._real)

    @cached_property
    def _real_features(self) -> Tensor:
        return self._real_outputs["features"].to(self._device).double()

    @cached_property
    def _real_statistics(self) -> dict[str, Tensor]:
        real = self._real_features

        def compute() -> dict[str, Tensor]:
            return {"kernel_sums": scores.kernel_sums(real), "radii": scores.radii(real)}

        stored = load_or_compute(self._key(self._real, "statistics"), compute)
        return {name: value.to(self._device) for name, value in stored.items()}

    @cached_property
    def _training_features(self) -> Tensor:
        assert self._training is not None
        return self._cached_features(self._training)["features"].to(self._device).double()

    @cached_property
    def _all_training_features(self) -> Tensor:
        assert self._all_training is not None
        return self._cached_features(self._all_training)["features"].to(self._device).double()


def random_subset(pixels: Tensor, samples: int, seed: int) -> Tensor:
    """Return `samples` of the images [N, C, H, W], selected by the seed. Raises HarnessError if there are fewer."""
    if len(pixels) < samples:
        raise HarnessError(
            f"got {len(pixels):,} images to score, but quality.samples is {samples:,}: "
            "generate that many, or use a lower number for all images to compare"
        )
    if len(pixels) == samples:
        return pixels
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
    return pixels[order[:samples].to(pixels.device)]
