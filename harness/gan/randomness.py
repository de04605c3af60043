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

Stream = Literal["init", "order", "noise", "dropout", "augment", "penalty", "samples"]
DISTORTIONS = 6  # random numbers for each image that is augmented (harness/gan/augment.py)


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


class StepNoise(NamedTuple):
    """What one training step leaves to chance; with several updates of D for one of G, what one of these does.

    indices: int64 [B], which images are the real ones.
    discriminator_noise, generator_noise: [B, inputs], what G is fed for D's update and for its own: standard normal,
    with the one-hot label joined to it where the networks are told the class.
    discriminator_masks, generator_masks: one [rows, ...] a dropout layer, of what D judges in its own update (real
    images, then generated ones: 2B of them, packs counting as one) and in G's: 0 for what is dropped, 1 / (1 - rate)
    for what is kept.
    discriminator_labels, generator_labels: int64 [B], the classes asked for; None where the networks are not told.
    discriminator_augment, generator_augment: [images, 6], uniform in [0, 1): how each image that D sees is distorted.
    blend: [B], uniform in [0, 1): where between generated and real images WGAN-GP looks; DRAGAN, jittered and real.
    jitter: [B, C, H, W], uniform in [0, 1): how far from real images that is in each pixel.

    The noise of batched training has a member axis before all others.
    """

    indices: Tensor
    discriminator_noise: Tensor
    generator_noise: Tensor
    discriminator_masks: tuple[Tensor, ...] = ()
    generator_masks: tuple[Tensor, ...] = ()
    discriminator_labels: Tensor | None = None
    generator_labels: Tensor | None = None
    discriminator_augment: Tensor | None = None
    generator_augment: Tensor | None = None
    blend: Tensor | None = None
    jitter: Tensor | None = None


class RandomNumbers(NamedTuple):
    """What comes out of the random generators for one step, before it is made into `StepNoise`.

    noise: [2, B, latent]. bits: int64, 64 random bits each, enough for 16 a unit of all masks; None without dropout.
    classes: int64 [2, B]; None where the networks are not told. augment: [images, 6], of D's update, then of G's.
    """

    indices: Tensor
    noise: Tensor
    bits: Tensor | None = None
    classes: Tensor | None = None
    augment: Tensor | None = None
    blend: Tensor | None = None
    jitter: Tensor | None = None


class Randomness:
    """All draws of one training, step by step: `begin` an epoch, then ask for each of its steps in turn.

    The generators are seeded anew for every epoch, and neither they nor the order's memory ever move, so that a CUDA
    graph can draw from them too.
    """

    def __init__(
        self,
        *,
        seed: int,
        images: int,
        shape: NoiseShape,
        labels: Tensor | None = None,
        paired: bool = False,
        device: torch.device,
    ) -> None:
        """labels: int64 [N] of the training images, where classes are to be drawn, as often as they occur among them.

        paired: every generated image is asked for the class of the real one that it is compared with.
        """
        # Apple's GPU lacks 64-bit random integers; there the draws are made on the CPU and moved.
        self._source = torch.device("cpu") if device.type == "mps" else device
        self._seed, self._images, self._labels, self._paired = seed, images, labels, paired
        self._device = device
        self.shape = shape
        self.steps = images // shape.batch
        self._order = torch.empty(self.steps, shape.batch, dtype=torch.int64, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._streams: dict[Stream, torch.Generator] = {"noise": torch.Generator(self._source)}
        for stream, needed in (
            ("dropout", shape.dropout),
            ("augment", shape.augment),
            ("penalty", shape.blend or shape.jitter),
        ):
            if needed:
                self._streams[stream] = torch.Generator(self._source)  # type: ignore[index]

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """What the steps of an epoch draw from."""
        return tuple(self._streams.values())

    def tensors(self) -> list[Tensor]:
        """What a step of these draws changes."""
        return [self._step]

    def begin(self, epoch: int) -> None:
        """Before the first step of an epoch, counted from 1. A last, partial batch is dropped."""
        for stream, generator in self._streams.items():
            generator.manual_seed(stream_seed(self._seed, stream, epoch))
        order = stream_generator(self._seed, "order", epoch, self._source)
        shuffled = torch.randperm(self._images, generator=order, device=self._source)
        self._order.copy_(shuffled[: self._order.numel()].view_as(self._order))
        self._step.zero_()

    def raw(self) -> RandomNumbers:
        """The next step's random numbers."""
        indices = self._order.index_select(0, self._step).squeeze(0)
        self._step += 1
        shape, source, noise_stream = self.shape, self._source, self._streams["noise"]
        noise = torch.randn(2, shape.batch, shape.latent, generator=noise_stream, device=source)
        classes = bits = None
        if self._labels is not None and self._paired:
            classes = self._labels[indices].expand(2, -1)
        elif self._labels is not None:
            drawn = torch.randint(self._images, (2, shape.batch), generator=noise_stream, device=source)
            classes = self._labels[drawn.to(self._device)]
        if shape.dropout:
            bits = torch.empty(shape.words, dtype=torch.int64, device=source)
            bits = bits.random_(-(2**63), None, generator=self._streams["dropout"]).to(self._device)
        return RandomNumbers(
            indices,
            noise.to(self._device),
            bits,
            classes,
            augment=self._uniform("augment", sum(shape.seen), DISTORTIONS) if shape.augment else None,
            blend=self._uniform("penalty", shape.batch) if shape.blend else None,
            jitter=self._uniform("penalty", shape.batch, *shape.jitter) if shape.jitter else None,
        )

    def _uniform(self, stream: Stream, *size: int) -> Tensor:
        return torch.rand(size, generator=self._streams[stream], device=self._source).to(self._device)

    def step(self) -> StepNoise:
        """The next step's draws."""
        return build_step_noise(self.raw(), self.shape, self.shape.latent, self.shape.dropout)


@dataclass(frozen=True)
class NoiseShape:
    """How large a step's draws are, and which there are.

    masks: shape of each dropout mask of one pack. dropout: a rate.
    pack: images that D judges as one. paired: whether D sees the real images in G's update, too.
    augment, blend: whether there are any. jitter: shape (C, H, W) of an image, or empty for none.
    dtype: of noise and masks.
    """

    latent: int
    batch: int
    classes: int = 0
    masks: tuple[tuple[int, ...], ...] = ()
    dropout: float = 0.0
    pack: int = 1
    paired: bool = False
    augment: bool = False
    blend: bool = False
    jitter: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32

    @property
    def seen(self) -> tuple[int, int]:
        """Images that D sees in its own update, and in G's."""
        return 2 * self.batch, (2 if self.paired else 1) * self.batch

    @property
    def words(self) -> int:
        """64-bit integers for the masks of one step, 16 bits a unit."""
        rows = sum(self.seen) // self.pack
        return (rows * sum(math.prod(mask) for mask in self.masks) + 3) // 4


def build_step_noise(raw: RandomNumbers, shape: NoiseShape, latents: int | Tensor, rates: float | Tensor) -> StepNoise:
    """A step's draws out of its random numbers.

    Those of batched training [K, ...] come with `latents` int64 [K] and `rates` float64 [K], its members' own.
    """
    noise = raw.noise.to(shape.dtype)
    asked: tuple[Tensor | None, ...] = (None, None)
    if raw.classes is not None:
        noise = concat_onehot(
            noise, raw.classes, shape.classes, latents if isinstance(latents, int) else latents.view(-1, 1, 1)
        )
        asked = raw.classes.unbind(-2)
    rows = [images // shape.pack for images in shape.seen]
    masks = [] if raw.bits is None else keep_masks(raw.bits, shape.masks, sum(rows), rates, shape.dtype)
    split = [torch.split(mask, rows, dim=-1 - len(units)) for mask, units in zip(masks, shape.masks, strict=False)]
    of_discriminator, of_generator = (tuple(parts) for parts in zip(*split, strict=True)) if split else ((), ())
    augment = (None, None) if raw.augment is None else torch.split(raw.augment, list(shape.seen), dim=-2)
    return StepNoise(
        raw.indices,
        discriminator_noise=noise.select(-3, 0),
        generator_noise=noise.select(-3, 1),
        discriminator_masks=of_discriminator,
        generator_masks=of_generator,
        discriminator_labels=asked[0],
        generator_labels=asked[1],
        discriminator_augment=augment[0],
        generator_augment=augment[1],
        blend=raw.blend,
        jitter=raw.jitter,
    )


def concat_onehot(noise: Tensor, labels: Tensor, classes: int, latents: int | Tensor) -> Tensor:
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
