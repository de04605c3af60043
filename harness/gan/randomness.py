"""Randomness as data: noise, order and masks are functions of (seed, stream, epoch), sampled before a step.

So a crash loses no state of a random generator, and a training step is a pure function of weights, images and noise.
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
DISTORTIONS = 6  # random numbers for each augmented image (augment.py)


def stream_seed(seed: int, stream: Stream, epoch: int = 0) -> int:
    """Return the 63-bit seed of one stream in one epoch: the first bytes of a SHA-256, so streams are unrelated."""
    digest = hashlib.sha256(f"{seed}/{stream}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream_generator(seed: int, stream: Stream, epoch: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a random generator with the seed of one stream in one epoch."""
    return torch.Generator(device).manual_seed(stream_seed(seed, stream, epoch))


def sample_noise(seed: int, count: int, latent: int, part: int = 0) -> Tensor:
    """Return noise [count, latent] of the stream `samples`, sampled on the CPU: the same on every device.

    From 16 values on, all but the last 16 are the same for every `count`: torch samples the last 16 again if their
    number is not a multiple of 16.

    Args:
        seed: of the training.
        count: number of samples.
        latent: size of the noise vector.
        part: parts are independent. 0 is rendered while training, 1 is scored on the validation split, 2 on the test
            split, and 3 gives the second noise of latent walks.
    """
    return torch.randn(count, latent, generator=stream_generator(seed, "samples", part))


class StepNoise(NamedTuple):
    """All randomness of one training step; with several updates of D in a step, that of one of them.

    With K members of batched training, every tensor has a leading axis [K, ...].

    Attributes:
        indices: int64 [B], the real images.
        discriminator_noise: [B, inputs], G's input for D's update: standard normal, with the one-hot label appended in
            a conditional experiment.
        generator_noise: [B, inputs], the same for G's own update.
        discriminator_masks: one dropout mask [rows, ...] a layer, for D's update; a row is an image or a pack, real
            images come first, then generated ones. 0 drops a unit, 1 / (1 - rate) keeps it.
        generator_masks: the same for G's update.
        discriminator_labels: int64 [B], the classes to generate for D's update; None if the experiment is
            unconditional.
        generator_labels: the same for G's update.
        discriminator_augment: [images, 6], uniform in [0, 1): how each image that D sees in its update is distorted.
        generator_augment: the same for G's update.
        blend: [B], uniform in [0, 1): the position between generated and real images (WGAN-GP) or between perturbed and
            real ones (DRAGAN) at which the gradient is penalised.
        jitter: [B, C, H, W], uniform in [0, 1): the perturbation of the real images (DRAGAN).
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
    """The output of the random generators for one step, from which `build_step_noise` builds `StepNoise`.

    Attributes:
        indices: int64 [B], the real images.
        noise: [2, B, latent], for D's update and for G's.
        bits: int64, 64 random bits each, enough for 16 bits a unit of all masks; None without dropout.
        classes: int64 [2, B]; None if the experiment is unconditional.
        augment: [images, 6], for D's update, then for G's.
        blend: see `StepNoise`.
        jitter: see `StepNoise`.
    """

    indices: Tensor
    noise: Tensor
    bits: Tensor | None = None
    classes: Tensor | None = None
    augment: Tensor | None = None
    blend: Tensor | None = None
    jitter: Tensor | None = None


class Randomness:
    """The random numbers of one training: `begin` an epoch, then call `step` for each of its steps.

    The generators are seeded again for every epoch. They, and the memory of the order, never move, so a CUDA graph can
    use them.
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
        """Create the generators of the streams that are needed.

        Args:
            seed: of the training.
            images: number of training images.
            shape: which random numbers a step needs, and how many.
            labels: int64 [N] of the training images, if classes are sampled: as often as they occur among them.
            paired: every generated image gets the class of the real image that it is compared with.
            device: of the tensors.
        """
        # Apple's GPU has no 64-bit random integers: sample them on the CPU.
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
        """The random generators that the steps of an epoch use."""
        return tuple(self._streams.values())

    def tensors(self) -> list[Tensor]:
        """Return the tensors that a step changes."""
        return [self._step]

    def begin(self, epoch: int) -> None:
        """Seed epoch `epoch`, counted from 1, and shuffle the images. A last, partial batch is dropped."""
        for stream, generator in self._streams.items():
            generator.manual_seed(stream_seed(self._seed, stream, epoch))
        order = stream_generator(self._seed, "order", epoch, self._source)
        shuffled = torch.randperm(self._images, generator=order, device=self._source)
        self._order.copy_(shuffled[: self._order.numel()].view_as(self._order))
        self._step.zero_()

    def raw(self) -> RandomNumbers:
        """Return the random numbers of the next step."""
        indices = self._order.index_select(0, self._step).squeeze(0)
        self._step += 1
        shape, source, noise_stream = self.shape, self._source, self._streams["noise"]
        noise = torch.randn(2, shape.batch, shape.latent, generator=noise_stream, device=source)
        classes = bits = None
        if self._labels is not None and self._paired:
            classes = self._labels[indices].expand(2, -1)
        elif self._labels is not None:
            chosen = torch.randint(self._images, (2, shape.batch), generator=noise_stream, device=source)
            classes = self._labels[chosen.to(self._device)]
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
        """Return the noise of the next step."""
        return build_step_noise(self.raw(), self.shape, self.shape.latent, self.shape.dropout)


@dataclass(frozen=True)
class NoiseShape:
    """Which random numbers a step needs, and how many.

    Attributes:
        latent: size of the noise vector.
        batch: images of a batch.
        classes: of a conditional experiment, else 0.
        masks: shape of each dropout mask for one pack.
        dropout: rate, in [0, 1).
        pack: images that D judges as one.
        paired: whether D sees the real images in G's update, too.
        augment: whether images are augmented.
        blend: whether a penalty interpolates between images.
        jitter: shape (C, H, W) of an image if real images are perturbed, else empty.
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
        """Number of images that D sees in its own update, and in G's."""
        return 2 * self.batch, (2 if self.paired else 1) * self.batch

    @property
    def words(self) -> int:
        """Number of 64-bit integers for the masks of one step, at 16 bits a unit."""
        rows = sum(self.seen) // self.pack
        return (rows * sum(math.prod(mask) for mask in self.masks) + 3) // 4


def build_step_noise(raw: RandomNumbers, shape: NoiseShape, latents: int | Tensor, rates: float | Tensor) -> StepNoise:
    """Build a step's noise from its random numbers.

    Args:
        raw: [...], or [K, ...] for K members of batched training.
        shape: of one member; members may differ in latent size and dropout rate only.
        latents: the latent size, or int64 [K].
        rates: the dropout rate, or float64 [K].
    """
    noise = raw.noise.to(shape.dtype)
    labels: tuple[Tensor | None, ...] = (None, None)
    if raw.classes is not None:
        noise = concat_onehot(
            noise, raw.classes, shape.classes, latents if isinstance(latents, int) else latents.view(-1, 1, 1)
        )
        labels = raw.classes.unbind(-2)
    rows = [images // shape.pack for images in shape.seen]
    masks = [] if raw.bits is None else dropout_masks(raw.bits, shape.masks, sum(rows), rates, shape.dtype)
    split = [torch.split(mask, rows, dim=-1 - len(units)) for mask, units in zip(masks, shape.masks, strict=False)]
    discriminator_masks, generator_masks = (tuple(parts) for parts in zip(*split, strict=True)) if split else ((), ())
    augment = (None, None) if raw.augment is None else torch.split(raw.augment, list(shape.seen), dim=-2)
    return StepNoise(
        raw.indices,
        discriminator_noise=noise.select(-3, 0),
        generator_noise=noise.select(-3, 1),
        discriminator_masks=discriminator_masks,
        generator_masks=generator_masks,
        discriminator_labels=labels[0],
        generator_labels=labels[1],
        discriminator_augment=augment[0],
        generator_augment=augment[1],
        blend=raw.blend,
        jitter=raw.jitter,
    )


def concat_onehot(noise: Tensor, labels: Tensor, classes: int, latents: int | Tensor) -> Tensor:
    """Append the one-hot label to the noise: [..., latent + classes].

    Args:
        noise: [..., latent].
        labels: int64 [...].
        classes: number of classes.
        latents: the one is at `latents` + label, right after the noise, also if the noise is padded with zeros.
    """
    return F.pad(noise, (0, classes)).scatter_(-1, (labels + latents).unsqueeze(-1), 1.0)


def dropout_masks(
    bits: Tensor, shapes: Sequence[tuple[int, ...]], rows: int, rates: float | Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """Return masks that are 1 / (1 - rate) with probability 1 - rate, else 0 (Srivastava et al. 2014).

    Each unit gets 16 random bits, a quarter of a 64-bit integer, and is kept if they reach a threshold. On a CPU this
    takes a tenth of the time of `bernoulli_`; the rate is exact to 1 / 131,072.

    Args:
        bits: int64 [words], or [K, words].
        shapes: shape of each mask for one row.
        rows: images or packs.
        rates: the dropout rate, or float64 [K].
        dtype: of the masks.

    Returns:
        One mask [rows, *shape] for each shape, or [K, rows, *shape].
    """
    sizes = [rows * math.prod(shape) for shape in shapes]
    if isinstance(rates, Tensor):
        rates = rates.view(-1, 1)
        threshold: int | Tensor = (rates * 2**16).round().sub(2**15).clamp(max=2**15 - 1).to(torch.int16)
        scale: float | Tensor = (1 / (1 - rates)).to(dtype)
    else:
        threshold, scale = min(round(rates * 2**16) - 2**15, 2**15 - 1), 1 / (1 - rates)
    units = bits.view(torch.int16)
    masks = torch.ge(units, threshold, out=torch.empty(units.shape, dtype=dtype, device=bits.device)).mul_(scale)
    parts = torch.split(masks[..., : sum(sizes)], sizes, dim=-1)
    return [part.view(*bits.shape[:-1], rows, *shape) for part, shape in zip(parts, shapes, strict=True)]
