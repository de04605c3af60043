"""Randomness as data: every draw is a function of (seed, stream, epoch), made before a step and handed in.

So no generator's inner state has to survive a crash, and a step is a pure function of weights, images and draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
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

    From 16 values on, all but the last 16 are the same whatever `count` is: torch draws the last 16 anew where their
    number is no multiple of 16. Parts are unrelated: 0 is drawn and looked at while training, 1 is scored on the
    validation split, 2 on the test split, 3 is where walks turn to.
    """
    return torch.randn(count, latent, generator=stream_generator(seed, "samples", part))


class StepDraws(NamedTuple):
    """What one training step leaves to chance.

    indices: int64 [B], which images are the real ones.
    discriminator_noise, generator_noise: [B, inputs], what G is fed for D's update and for its own: standard normal,
    with the one-hot label joined to it where the networks are told the class.
    discriminator_masks, generator_masks: one [2B, ...], of real images and then generated ones, and one [B, ...] a
    dropout layer: 0 for what is dropped, 1 / (1 - rate) for what is kept.
    discriminator_labels, generator_labels: int64 [B], the classes asked for; None where the networks are not told.

    The draws of a population have a member axis before all others.
    """

    indices: Tensor
    discriminator_noise: Tensor
    generator_noise: Tensor
    discriminator_masks: tuple[Tensor, ...] = ()
    generator_masks: tuple[Tensor, ...] = ()
    discriminator_labels: Tensor | None = None
    generator_labels: Tensor | None = None


class RawDraws(NamedTuple):
    """What comes out of the random generators for one step, before it is made into `StepDraws`.

    noise: [2, B, latent]. bits: int64, 64 random bits each, enough for 16 a unit of all masks; None without dropout.
    classes: int64 [2, B]; None where the networks are not told.
    """

    indices: Tensor
    noise: Tensor
    bits: Tensor | None
    classes: Tensor | None


class Draws:
    """All draws of one training, step by step: `begin` an epoch, then ask for each of its steps in turn.

    The generators are seeded anew for every epoch, and neither they nor the order's memory ever move, so that a CUDA
    graph can draw from them too.
    """

    def __init__(
        self,
        *,
        seed: int,
        images: int,
        batch: int,
        latent: int,
        mask_shapes: Sequence[tuple[int, ...]] = (),
        dropout: float = 0.0,
        labels: Tensor | None = None,
        classes: int = 0,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """labels: int64 [N] of the training images, where classes are to be drawn, as often as they occur among them.

        dtype: of noise and masks.
        """
        # Apple's GPU lacks 64-bit random integers; there the draws are made on the CPU and moved.
        self._source = torch.device("cpu") if device.type == "mps" else device
        self._seed, self._images, self._batch, self._labels = seed, images, batch, labels
        self._device = device
        self.shape = DrawShape(latent, classes, tuple(mask_shapes), dropout, batch, dtype)
        self.steps = images // batch
        self._order = torch.empty(self.steps, batch, dtype=torch.int64, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._noise, self._bits = torch.Generator(self._source), torch.Generator(self._source)

    @property
    def generators(self) -> tuple[torch.Generator, torch.Generator]:
        """What the steps of an epoch draw from."""
        return self._noise, self._bits

    def tensors(self) -> list[Tensor]:
        """What a step of these draws changes."""
        return [self._step]

    def begin(self, epoch: int) -> None:
        """Before the first step of an epoch, counted from 1. A last, partial batch is dropped."""
        self._noise.manual_seed(stream_seed(self._seed, "noise", epoch))
        self._bits.manual_seed(stream_seed(self._seed, "dropout", epoch))
        order = stream_generator(self._seed, "order", epoch, self._source)
        shuffled = torch.randperm(self._images, generator=order, device=self._source)
        self._order.copy_(shuffled[: self.steps * self._batch].view_as(self._order))
        self._step.zero_()

    def raw(self) -> RawDraws:
        """The next step's random numbers."""
        indices = self._order.index_select(0, self._step).squeeze(0)
        self._step += 1
        shape, source = self.shape, self._source
        noise = torch.randn(2, self._batch, shape.latent, generator=self._noise, device=source)
        classes = bits = None
        if self._labels is not None:
            drawn = torch.randint(self._images, (2, self._batch), generator=self._noise, device=source)
            classes = self._labels[drawn.to(self._device)]
        if shape.dropout:
            bits = torch.empty(shape.words, dtype=torch.int64, device=source)
            bits = bits.random_(-(2**63), None, generator=self._bits).to(self._device)
        return RawDraws(indices, noise.to(self._device), bits, classes)

    def step(self) -> StepDraws:
        """The next step's draws."""
        return made(self.raw(), self.shape, self.shape.latent, self.shape.dropout)


@dataclass(frozen=True)
class DrawShape:
    """How large a step's draws are; `dropout` is a rate."""

    latent: int
    classes: int
    masks: tuple[tuple[int, ...], ...]
    dropout: float
    batch: int
    dtype: torch.dtype

    @property
    def words(self) -> int:
        """64-bit integers for the masks of one step: three passes through D, 16 bits a unit."""
        return (3 * self.batch * sum(math.prod(mask) for mask in self.masks) + 3) // 4


def made(raw: RawDraws, shape: DrawShape, latents: int | Tensor, rates: float | Tensor) -> StepDraws:
    """A step's draws out of its random numbers.

    Those of a population [K, ...] come with `latents` int64 [K] and `rates` float64 [K], its members' own.
    """
    noise = raw.noise.to(shape.dtype)
    asked: tuple[Tensor | None, ...] = (None, None)
    if raw.classes is not None:
        noise = told(noise, raw.classes, shape.classes, latents if isinstance(latents, int) else latents.view(-1, 1, 1))
        asked = raw.classes.unbind(-2)
    masks = [] if raw.bits is None else keep_masks(raw.bits, shape.masks, 3 * shape.batch, rates, shape.dtype)
    rows = [2 * shape.batch, shape.batch]
    split = [torch.split(mask, rows, dim=-1 - len(units)) for mask, units in zip(masks, shape.masks, strict=False)]
    both, generated = (tuple(parts) for parts in zip(*split, strict=True)) if split else ((), ())
    return StepDraws(
        raw.indices,
        discriminator_noise=noise.select(-3, 0),
        generator_noise=noise.select(-3, 1),
        discriminator_masks=both,
        generator_masks=generated,
        discriminator_labels=asked[0],
        generator_labels=asked[1],
    )


def told(noise: Tensor, labels: Tensor, classes: int, latents: int | Tensor) -> Tensor:
    """Noise [..., latent] with the one-hot label, int64 [...], joined to it: [..., latent + classes].

    The label's one is at `latents` + label: right after the noise, also where zeros have made that wider.
    """
    return F.pad(noise, (0, classes)).scatter_(-1, (labels + latents).unsqueeze(-1), 1.0)


def keep_masks(
    bits: Tensor, shapes: Sequence[tuple[int, ...]], rows: int, rates: float | Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """Masks [rows, *shape]: 1 / (1 - rate) with probability 1 - rate, else 0 (Srivastava et al. 2014, inverted).

    bits: int64 [words], or [K, words] with `rates` float64 [K], which gives masks [K, rows, *shape]. A unit gets 16
    random bits, four of them cut from one 64-bit integer, and is kept where they reach a threshold: a tenth of the
    time of `bernoulli_` on a CPU, and the rate is exact to 1 / 131,072.
    """
    sizes = [rows * math.prod(shape) for shape in shapes]
    if isinstance(rates, Tensor):
        rates = rates.view(-1, 1)
        threshold: int | Tensor = (rates * 2**16).round().sub(2**15).clamp(max=2**15 - 1).to(torch.int16)
        scale: float | Tensor = (1 / (1 - rates)).to(dtype)
    else:
        threshold, scale = min(round(rates * 2**16) - 2**15, 2**15 - 1), 1 / (1 - rates)
    units = bits.view(torch.int16)
    kept = torch.ge(units, threshold, out=torch.empty(units.shape, dtype=dtype, device=bits.device)).mul_(scale)
    parts = torch.split(kept[..., : sum(sizes)], sizes, dim=-1)
    return [part.view(*bits.shape[:-1], rows, *shape) for part, shape in zip(parts, shapes, strict=True)]
