"""The judge: a frozen network with a name and a hash, in whose features images are compared."""

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
    """A frozen feature network and who it is.

    network: uint8 [N, C, H, W] -> features [N, d], or a pair of these and logits [N, classes].
    name, sha256: shown beside every score; the hash is that of the weights file.
    shape: (C, H, W) of the images it was trained on, or None where it takes others too.
    code: a hash of the network's source where that is not ours, so that cached features follow a change of it.
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

    def judge(self, pixels: Tensor, batch: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Features, float32 [N, d], and judged classes, int64 [N] (None from a network without logits), in one pass.

        batch: images at a time; chosen by their size where it is None. Raises HarnessError for what are not uint8
        images of this judge's shape, and when a network that is not ours fails or returns something else.
        """
        self._check(pixels)
        batch = batch or max(1, min(500, 1_000_000 // pixels[0].numel()))
        features, classes = [], []
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for part in torch.split(pixels, batch):
                found, logits = self._ask(part.to(self.device))
                features.append(found.float())
                if logits is not None:
                    classes.append(logits.argmax(1))
        joined = torch.cat(features)
        if not joined.isfinite().all():
            raise HarnessError(f"judge {self.name} returned NaN or infinite features; use other weights")
        return joined, torch.cat(classes) if classes else None

    def _ask(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
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
                f"images to judge are {by(pixels.shape[1:])}, but judge {self.name} was trained on {by(self.shape)}; "
                "score images of that size, or choose the judge of another data set"
            )


def by(shape: tuple[int, ...]) -> str:
    """1x28x28"""
    return "x".join(str(size) for size in shape)


def load_judge(
    which: str,
    images: Images,
    device: str | torch.device = "cpu",
    message: Callable[[str], None] = lambda _: None,
    progress: Callable[[float], None] | None = None,
    weights: Path | None = None,
) -> Judge:
    """The judge `first`, `second`, or `package.module:Class` (a feature network of the user's, with its `weights`).

    images: the training split, without the validation images. The shipped judges go by its name's part before the
    slash. For another data set a judge is trained on it once (`message` says so, `progress` is told the share done) and
    kept in the cache folder under the images' fingerprint. Raises HarnessError for an unknown judge, for weights with a
    wrong hash, and where there are no labels to train on.
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
            with FileLock(path.with_suffix(".lock")):  # of several processes that start together, one trains
                if not path.exists():
                    _train_once(which, images, device, path, name, message, progress)
    except OSError as error:
        raise HarnessError(
            f"cannot keep a judge in {path.parent} ({error.strerror or error}); "
            "set HARNESS_DATA to a folder of your own"
        ) from error
    return _read_judge(which, name, path, path.with_suffix(".json"), device, "delete it, and it is trained again")


def has_judge(which: str, images: Images) -> bool:
    """Whether there can be such a judge of images like these: one's own, a shipped one, or one trained on labels."""
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

    message(f"training the judge {name} on {len(images):,} images (once; it is kept in {path.parent})")
    network = train_judge(which, images, device=device, progress=progress)
    right = accuracy(network, images)
    message(f"the judge {name} is right on {right:.1%} of the images that it was trained on")
    facts = {"shape": list(images.pixels.shape[1:]), "classes": images.classes, "training_accuracy": right}
    save_judge(network, path, facts)


def save_judge(network: JudgeNetwork, path: Path, facts: dict[str, Any]) -> str:
    """Write the weights, and `facts` with their hash to the .json beside them; returns the SHA-256. Raises OSError.

    The facts come first: where weights lie there, their hash does too.
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
    with torch.device("meta"):  # no weights to be thrown away, and the caller's random state is left alone
        network = NETWORKS[which](channels, classes)
    try:
        network.load_state_dict(load(content), assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise HarnessError(f"judge {path} does not fit the network {which!r} of this version; {repair}") from error
    if torch.device(device).type == "cuda":
        # In float64 neither TF32, nor the precision that training asked for, nor cuDNN's choice can change a score.
        network.double()
    return Judge(network, name=name, sha256=sha256, device=device, shape=tuple(facts["shape"]))
