"""The judge: a frozen network with a name and a hash, in whose features images are compared."""

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

from harness.data.base import writing
from harness.errors import HarnessError
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


def save_judge(network: JudgeNetwork, path: Path, facts: dict[str, Any]) -> str:
    """Write the weights, and `facts` with their hash to the .json beside them; returns the SHA-256. Raises OSError.

    The facts come first: where weights lie there, their hash does too.
    """
    content = save({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()})
    sha256 = hashlib.sha256(content).hexdigest()
    with writing(path.with_suffix(".json")) as file:
        file.write((json.dumps({"sha256": sha256, **facts}, indent=2) + "\n").encode())
    with writing(path) as file:
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
