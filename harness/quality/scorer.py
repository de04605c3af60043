"""Scoring sets of images against one split: everything about the real images is worked out once, and kept on disk."""

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
from harness.quality.score_set import ScoreSet, compute
from harness.quality.scores import FUNCTIONS, ScoreInputs

FEWEST = 10  # images: the k-th neighbours and the leave-one-out errors need some
MANY = 20_000  # images to look at: more than these take long enough for a word about it
REFERENCE = "real against real"
VERSION = 1  # of what is kept on disk: raised when networks or statistics change


class Scorer:
    """Scores sets of images against `real` as the judge sees it.

    real: the split that is scored against; `samples` of it, chosen by `seed` where it has more.
    training: what generators were trained on: all of it for neighbours; `samples` of it, likewise, for memorisation and
    the reference.
    device: where the sums are made (float64, so never MPS); the judge's where it is None.
    notice: told when so many images must be looked at that it takes a while.

    Keep seed and samples the same over everything that is to be compared: then the reference images are the same.
    Raises HarnessError where `real` has fewer than `samples` images, or samples is below 10.
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
        if samples < FEWEST:
            raise HarnessError(f"quality.samples is {samples}; expected at least {FEWEST}")
        if len(real) < samples:
            raise HarnessError(
                f"quality.samples is {samples:,}, but {real.name} has {len(real):,} images: set it to that or fewer"
            )
        device = judge.device if device is None else torch.device(device)
        self.judge = judge
        self.samples = samples
        self._seed = seed
        self._device = torch.device("cpu") if device.type == "mps" else device
        self._notice = message
        self._real = self._some(real)
        self._all_training = training
        self._training = None if training is None else self._some(training)
        self._fresh = None if training is None else self._some(training, skip=samples)

    def score(self, pixels: Tensor, *, full: bool = True) -> ScoreSet:
        """The scores of generated images, uint8 [N, C, H, W]; N >= samples, of which the seed chooses where it is more.

        full: all scores; else the primary and the secondary ones, KID and Frechet distance. Raises HarnessError for too
        few images, or other ones.
        """
        return self.score_all([pixels], full=full)[0]

    def score_all(self, sets: Sequence[Tensor], *, full: bool = True) -> list[ScoreSet]:
        """The scores of several sets of images, all of which the judge looks at in one go."""
        chosen = [self._choose(pixels) for pixels in sets]
        features, classes = self._see(torch.cat(chosen))
        parts = torch.split(features, self.samples)
        of = [None] * len(sets) if classes is None else torch.split(classes, self.samples)
        return [self._scores(part, known, full) for part, known in zip(parts, of, strict=True)]

    def reference(self) -> ScoreSet:
        """Real against real, the row that every table needs: what a perfect generator would get.

        Fresh training images, none of which memorisation compares with, are scored as though they were generated. Where
        there are not enough, one half of the real images is scored against the other: half as many, so that its Frechet
        distance is higher than it would be, and without memorisation.
        """
        if self._fresh is not None and len(self._fresh) == self.samples:
            seen = self._remembered_features(self._fresh)
            return self._scores(seen["features"].to(self._device).double(), seen.get("classes"), full=True)
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(self._seed))
        halves = [self._real.index_select(half.to(self._real.pixels.device)) for half in order.chunk(2)]
        return Scorer(
            self.judge, halves[1], None, samples=self.samples // 2, seed=self._seed, device=self._device
        ).score(halves[0].pixels)

    def references(self) -> dict[str, tuple[ScoreSet, None]]:
        """The rows that a table needs, by name; none where there are too few images for one."""
        fresh = 0 if self._fresh is None else len(self._fresh)
        if fresh < self.samples and self.samples // 2 < FEWEST:
            self._notice(
                f"no row {REFERENCE!r}: it takes {self.samples} more training images, or {2 * FEWEST} to compare"
            )
            return {}
        return {REFERENCE: (self.reference(), None)}

    def neighbours(self, pixels: Tensor) -> Tensor:
        """For each image, uint8 [N, C, H, W], the nearest of all training images in the judge's features, likewise."""
        training = self._all_training
        if training is None:
            raise HarnessError("there are no training images to find neighbours among; give the Scorer some")
        closest = scores.nearest(self._see(pixels)[0], self._all_training_features)[1]
        return training.pixels[closest.to(training.pixels.device)]

    def _scores(self, features: Tensor, classes: Tensor | None, full: bool) -> ScoreSet:
        statistics = self._real_statistics
        inputs = ScoreInputs(
            features,
            self._real_features,
            kernel_sums=statistics["kernel_sums"],
            radii=statistics["radii"],
            classes=None if classes is None else classes.cpu(),
            real_classes=self._real_seen.get("classes"),
            training=None if self._training is None else self._training_features,
        )
        return compute(KID, FUNCTIONS, inputs, KID.scores if full else KID.shown)

    def _some(self, images: Images, skip: int = 0) -> Images:
        """`samples` of the images, chosen by the seed, after skipping as many; fewer where there are not enough."""
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
        return some_of(pixels, self.samples, self._seed)

    def _see(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        features, classes = self.judge.features_and_classes(pixels)
        return features.to(self._device).double(), classes

    def _remembered_features(self, images: Images) -> dict[str, Tensor]:
        """`features` float32 [N, d] and, where the judge classifies, `classes` int64 [N]; on the CPU."""

        def compute() -> dict[str, Tensor]:
            if len(images) >= MANY:
                self._notice(f"looking at {len(images):,} images of {images.name} once (their features are kept)")
            features, classes = self.judge.features_and_classes(images.pixels)
            return {"features": features} if classes is None else {"features": features, "classes": classes}

        return load_or_compute(self._key(images, "features"), compute)

    def _key(self, images: Images, what: str) -> str:
        judge = hashlib.sha256(f"{self.judge.sha256} {self.judge.code} {self.judge.device.type}".encode()).hexdigest()
        return f"{images.fingerprint}-{judge[:16]}-{what}.{VERSION}"

    @cached_property
    def _real_seen(self) -> dict[str, Tensor]:
        return self._remembered_features(self._real)

    @cached_property
    def _real_features(self) -> Tensor:
        return self._real_seen["features"].to(self._device).double()

    @cached_property
    def _real_statistics(self) -> dict[str, Tensor]:
        real = self._real_features

        def compute() -> dict[str, Tensor]:
            return {"kernel_sums": scores.kernel_sums(real), "radii": scores.radii(real)}

        kept = load_or_compute(self._key(self._real, "statistics"), compute)
        return {name: value.to(self._device) for name, value in kept.items()}

    @cached_property
    def _training_features(self) -> Tensor:
        assert self._training is not None
        return self._remembered_features(self._training)["features"].to(self._device).double()

    @cached_property
    def _all_training_features(self) -> Tensor:
        assert self._all_training is not None
        return self._remembered_features(self._all_training)["features"].to(self._device).double()


def some_of(pixels: Tensor, samples: int, seed: int) -> Tensor:
    """`samples` of the images [N, C, H, W], chosen by the seed where there are more. Raises HarnessError for fewer."""
    if len(pixels) < samples:
        raise HarnessError(
            f"got {len(pixels):,} images to score, but quality.samples is {samples:,}: "
            "generate that many, or set it lower for everything that is to be compared"
        )
    if len(pixels) == samples:
        return pixels
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
    return pixels[order[:samples].to(pixels.device)]
