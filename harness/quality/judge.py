"""The judge: a frozen classifier with a name and a hash, in whose feature space images are compared."""

from __future__ import annotations

import hashlib
import json
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from harness.data.source import write_cache_file
from harness.errors import HarnessError
from harness.quality.networks import NETWORKS, JudgeNetwork


class Judge:
    """A frozen feature network with its identity.

    Attributes:
        network: Maps uint8 [N, C, H, W] to features [N, d], or to a pair of these and logits [N, classes].
        name: The name, printed with every score.
        sha256: The hash of the weights file, printed with every score.
        device: The device of the network.
        shape: (C, H, W) of the images that it was trained on; None if it accepts other ones.
        code: The hash of the source code of a custom network. If it changes, cached features are not used.
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


def save_judge(network: JudgeNetwork, path: Path, facts: dict[str, Any]) -> str:
    """Write the weights to `path` and `facts`, with their hash, to the .json beside it; returns the SHA-256.

    The .json comes first: if the weights exist, so does their hash.

    Raises:
        OSError: a file cannot be written.
    """
    content = save({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()})
    sha256 = hashlib.sha256(content).hexdigest()
    with write_cache_file(path.with_suffix(".json")) as file:
        file.write((json.dumps({"sha256": sha256, **facts}, indent=2) + "\n").encode())
    with write_cache_file(path) as file:
        file.write(content)
    return sha256


def read_judge(
    which: str, name: str, path: Traversable, facts_path: Traversable, device: str | torch.device, repair: str
) -> Judge:
    """Read a judge that `save_judge` wrote.

    Args:
        which: The network: `first` or `second`.
        name: The name of the judge.
        path: The weights, .safetensors.
        facts_path: The .json beside them, which has their hash.
        device: Where it runs.
        repair: What the user can do about a damaged file, for the message.

    Raises:
        HarnessError: A file is missing or damaged, or does not fit the network.
    """
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
