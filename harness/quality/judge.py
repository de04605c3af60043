"""The judge: a frozen classifier with a name and a hash, in whose feature space images are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from harness.data import Images, cache_folder
from harness.errors import HarnessError
from harness.quality.cache import atomic_write
from harness.quality.networks import NETWORKS, JudgeNetwork


class Judge:
    """A frozen feature network with its identity.

    Attributes:
        network: maps uint8 [N, C, H, W] to features [N, d], or to a pair of these and logits [N, classes].
        name: printed with every score.
        sha256: of the weights file; printed with every score.
        device: of the network.
        shape: (C, H, W) of the images that it was trained on; None if it accepts other ones.
        code: hash of a custom network's source code, so that cached features follow its changes.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        sha256: str,
        device: str | torch.device = "cpu",
        shape: tuple[int, ...] | None = None,
        code: str = "",
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.name = name
        self.sha256 = sha256
        self.device = torch.device(device)
        self.shape = shape
        self.code = code

    def features_and_classes(self, pixels: Tensor, batch: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return features and predicted classes of images, in one pass.

        Args:
            pixels: uint8 [N, C, H, W].
            batch: images at a time; None: chosen by their size.

        Returns:
            Features, float32 [N, d], and classes, int64 [N]; None from a network without logits.

        Raises:
            HarnessError: the images have another type or shape, or a custom network fails or returns something else.
        """
        self._check(pixels)
        batch = batch or max(1, min(500, 1_000_000 // pixels[0].numel()))
        features, classes = [], []
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for part in torch.split(pixels, batch):
                found, logits = self._forward(part.to(self.device))
                features.append(found.float())
                if logits is not None:
                    classes.append(logits.argmax(1))
        joined = torch.cat(features)
        if not joined.isfinite().all():
            raise HarnessError(f"judge {self.name} returned NaN or infinite features; use other weights")
        return joined, torch.cat(classes) if classes else None

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        try:
            answer = self.network(pixels)
        except (RuntimeError, TypeError, ValueError) as error:
            if isinstance(self.network, JudgeNetwork):
                raise
            raise HarnessError(f"judge {self.name} failed on uint8 {list(pixels.shape)}: {error}") from error
        found, logits = answer if isinstance(answer, tuple) else (answer, None)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(pixels):
            arrived = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise HarnessError(
                f"judge {self.name} returned {arrived} for {len(pixels)} images; expected features [N, d]"
            )
        return found, logits

    def _check(self, pixels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or not pixels.numel():
            arrived = f"{str(pixels.dtype).removeprefix('torch.')} {list(pixels.shape)}"
            raise HarnessError(f"images to judge are {arrived}; expected uint8 [N, C, H, W], values 0 to 255, N > 0")
        if self.shape is not None and tuple(pixels.shape[1:]) != self.shape:
            raise HarnessError(
                f"images to judge are {format_shape(pixels.shape[1:])}, but judge {self.name} was trained on "
                f"{format_shape(self.shape)}; score images of that size, or choose the judge of another data set"
            )


def format_shape(shape: tuple[int, ...]) -> str:
    """Return a shape as text, such as 1x28x28."""
    return "x".join(str(size) for size in shape)


def load_judge(
    which: str,
    images: Images,
    device: str | torch.device = "cpu",
    message: Callable[[str], None] = lambda _: None,
    progress: Callable[[float], None] | None = None,
    weights: Path | None = None,
) -> Judge:
    """Load the judge `first`, `second`, or `package.module:Class` (a custom feature network).

    The shipped judges are for data sets by name. For another data set a judge is trained on it, once, and stored in the
    cache folder under the images' fingerprint.

    Args:
        which: the judge.
        images: the training split without the validation images.
        device: of the network.
        message: is called with a line before a judge is trained.
        progress: is called with the share of the training done, in (0, 1].
        weights: of a custom network.

    Raises:
        HarnessError: the judge is unknown, its weights have a wrong hash, or there are no labels to train one.
    """
    if ":" in which:
        from harness.quality.custom_judge import load_custom_judge

        return load_custom_judge(which, weights, device)
    if which not in NETWORKS:
        raise HarnessError(f"quality.judge is {which!r}; expected {', '.join(NETWORKS)}, or package.module:Class")
    name, shipped = _name(which, images), _shipped(which, images)
    if shipped.is_file():
        facts = resources.files("harness.quality") / "weights" / f"{name}.json"
        return _read_judge(which, name, shipped, facts, device, "install gan-harness again")

    path = cache_folder() / "judges" / f"{images.fingerprint}-{which}.safetensors"
    try:
        if not path.exists():  # a shared cache folder may be read-only once it is filled
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # one of several processes trains
                if not path.exists():
                    _train_once(which, images, device, path, name, message, progress)
    except OSError as error:
        raise HarnessError(
            f"cannot store a judge in {path.parent} ({error.strerror or error}); set HARNESS_DATA to a folder you own"
        ) from error
    return _read_judge(which, name, path, path.with_suffix(".json"), device, "delete it; it is then trained again")


def has_judge(which: str, images: Images) -> bool:
    """Return whether this judge exists for such images: a custom or a shipped one, or one trained on their labels."""
    return ":" in which or _shipped(which, images).is_file() or (images.labels is not None and images.classes > 1)


def _shipped(which: str, images: Images) -> Traversable:
    return resources.files("harness.quality") / "weights" / f"{_name(which, images)}.safetensors"


def _name(which: str, images: Images) -> str:
    return f"{images.name.split('/')[0]}-{which}"


def _train_once(
    which: str,
    images: Images,
    device: str | torch.device,
    path: Path,
    name: str,
    message: Callable[[str], None],
    progress: Callable[[float], None] | None,
) -> None:
    from harness.quality.train_judge import accuracy, train_judge

    message(f"training the judge {name} on {len(images):,} images (once; it is stored in {path.parent})")
    network = train_judge(which, images, device=device, progress=progress)
    right = accuracy(network, images)
    message(f"the judge {name} classifies {right:.1%} of its training images correctly")
    facts = {"shape": list(images.pixels.shape[1:]), "classes": images.classes, "training_accuracy": right}
    save_judge(network, path, facts)


def save_judge(network: JudgeNetwork, path: Path, facts: dict[str, Any]) -> str:
    """Write the weights to `path` and `facts`, with their hash, to the .json beside it; returns the SHA-256.

    The .json comes first: if the weights exist, so does their hash.

    Raises:
        OSError: a file cannot be written.
    """
    content = save({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()})
    sha256 = hashlib.sha256(content).hexdigest()
    atomic_write(path.with_suffix(".json"), (json.dumps({"sha256": sha256, **facts}, indent=2) + "\n").encode())
    atomic_write(path, content)
    return sha256


def _read_judge(
    which: str, name: str, path: Traversable, facts_path: Traversable, device: str | torch.device, repair: str
) -> Judge:
    try:
        content = path.read_bytes()
        facts = json.loads(facts_path.read_text())
        expected, channels, classes = facts["sha256"], facts["shape"][0], facts["classes"]
    except (OSError, ValueError, KeyError) as error:
        raise HarnessError(f"cannot read the judge {path} and the facts beside it ({error}); {repair}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected:
        raise HarnessError(f"judge {path} has SHA-256 {sha256[:12]}..., expected {expected[:12]}...; {repair}")
    with torch.device("meta"):  # creates no weights, and leaves the global random state unchanged
        network = NETWORKS[which](channels, classes)
    try:
        network.load_state_dict(load(content), assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise HarnessError(f"judge {path} does not fit the network {which!r} of this version; {repair}") from error
    if torch.device(device).type == "cuda":
        # In float64 neither TF32, nor the precision that training asked for, nor cuDNN's choice can change a score.
        network.double()
    return Judge(network, name=name, sha256=sha256, device=device, shape=tuple(facts["shape"]))
