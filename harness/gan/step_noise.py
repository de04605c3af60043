"""The noise of one training step: a pure function of random numbers, for one training or for several at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data import Images
from harness.experiment import Experiment


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


def noise_shape(
    experiment: Experiment, images: Images, masks: tuple[tuple[int, ...], ...], paired: bool, dtype: torch.dtype
) -> NoiseShape:
    """Return what a step leaves to chance. masks: shapes of D's dropout masks; paired: whether G's loss uses reals."""
    objective = experiment.objective
    return NoiseShape(
        latent=experiment.generator.latent,
        batch=experiment.train.batch_size,
        classes=images.classes if experiment.conditional else 0,
        masks=masks,
        dropout=experiment.discriminator.dropout,
        pack=experiment.discriminator.pack,
        paired=paired,
        augment=experiment.augment.enabled,
        blend=bool(objective.gradient_penalty or objective.dragan),
        jitter=images.shape if objective.dragan else (),
        dtype=torch.bfloat16 if experiment.train.precision == "bf16" else dtype,
    )


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
