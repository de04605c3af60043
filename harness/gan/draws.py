"""Randomness as data: every draw is a function of (seed, stream, epoch), made before a step and handed in.

So no generator's inner state has to survive a crash, and a step is a pure function of weights, images and draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Stream = Literal["init", "order", "noise", "dropout", "samples"]


def stream_seed(seed: int, stream: Stream, epoch: int = 0) -> int:
    """The 63-bit seed of one stream in one epoch: the first bytes of a SHA-256, so that no two streams are related."""
    digest = hashlib.sha256(f"{seed}/{stream}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream_generator(seed: int, stream: Stream, epoch: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(stream_seed(seed, stream, epoch))


def sample_noise(seed: int, count: int, latent: int, part: int = 0) -> Tensor:
    """Noise [count, latent] of the stream `samples`, drawn on the CPU: the same on every device.

    The first rows do not depend on `count`. Parts are unrelated: 0 is drawn and looked at while training, 1 is scored
    on the validation split, 2 on the test split.
    """
    return torch.randn(count, latent, generator=stream_generator(seed, "samples", part))


@dataclass(frozen=True)
class StepDraws:
    """What one training step leaves to chance.

    indices: int64 [B], which images are the real ones.
    discriminator_labels, generator_labels: int64 [B], classes to generate; None where the networks are not told.
    discriminator_noise, generator_noise: [B, latent], standard normal.
    real_masks, fake_masks, generator_masks: bool, one [B, ...] a dropout layer, True for what is kept: for the
    discriminator's step on real and on generated images, and for the generator's step through the discriminator.
    """

    indices: Tensor
    discriminator_noise: Tensor
    generator_noise: Tensor
    real_masks: Sequence[Tensor]
    fake_masks: Sequence[Tensor]
    generator_masks: Sequence[Tensor]
    discriminator_labels: Tensor | None = None
    generator_labels: Tensor | None = None


def epoch_draws(
    *,
    seed: int,
    epoch: int,
    images: int,
    batch: int,
    latent: int,
    mask_shapes: Sequence[tuple[int, ...]],
    dropout: float,
    labels: Tensor | None = None,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Iterator[StepDraws]:
    """The draws of one epoch, step by step; a last, partial batch is dropped.

    labels: int64 [N] of the training images, where classes are to be drawn, as often as they occur among them.
    """
    # Apple's GPU lacks 64-bit random integers; there the draws are made on the CPU and moved.
    source = torch.device("cpu") if device.type == "mps" else device
    noise = stream_generator(seed, "noise", epoch, source)
    bits = stream_generator(seed, "dropout", epoch, source)
    order = torch.randperm(images, generator=stream_generator(seed, "order", epoch, source), device=source).to(device)

    def masks() -> list[Tensor]:
        if dropout == 0:
            return []
        return [mask.to(device) for mask in keep_masks(mask_shapes, batch, dropout, bits, source)]

    for indices in order[: images // batch * batch].view(-1, batch):
        pair = torch.randn(2, batch, latent, generator=noise, device=source).to(device, dtype)
        classes: Sequence[Tensor | None] = (None, None)
        if labels is not None:
            classes = labels[torch.randint(images, (2, batch), generator=noise, device=source).to(device)].unbind()
        yield StepDraws(indices, pair[0], pair[1], masks(), masks(), masks(), *classes)


def keep_masks(
    shapes: Sequence[tuple[int, ...]], rows: int, rate: float, generator: torch.Generator, device: torch.device
) -> list[Tensor]:
    """Bool masks [rows, *shape], True with probability 1 - rate.

    A unit gets 16 random bits, four of them cut from one 64-bit integer, and is kept where they reach a threshold:
    a tenth of the time of `bernoulli_` on a CPU, and the rate is exact to 1 / 131,072.
    """
    sizes = [rows * math.prod(shape) for shape in shapes]
    words = torch.empty((sum(sizes) + 3) // 4, dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    keep = words.view(torch.int16) >= round(rate * 2**16) - 2**15
    return [part.view(rows, *shape) for part, shape in zip(torch.split(keep[: sum(sizes)], sizes), shapes, strict=True)]
