"""Differentiable augmentation of real and generated images (Zhao et al. 2020, DiffAugment).

There are no flips: a mirrored digit is not a digit. Pixels that are moved in from outside, or cut out, are black.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.experiment import Augment

BLACK = -1.0


def augment(images: Tensor, random: Tensor | None, options: Augment) -> Tensor:
    """Return the images, each distorted at random: brightness, contrast, translation, cutout, in the paper's order.

    A distortion that is off changes no bit. The function is pure, and differentiable in the images any number of times.

    Args:
        images: [N, C, H, W] in [-1, 1].
        random: [N, 6], uniform in [0, 1), six numbers for each image; None returns the images as they are.
        options: the strength of each distortion.
    """
    if random is None:
        return images
    brightness, contrast, *positions = random.unbind(1)  # [N] each; not bf16, which would round positions
    if options.brightness:
        images = images + _scale(brightness, options.brightness).to(images.dtype)
    if options.contrast:
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * (1 + _scale(contrast, options.contrast)).to(images.dtype)
    if options.translation:
        down, right = (
            _shift_matrices(position, side, options.translation).to(images.dtype)
            for position, side in zip(positions[:2], images.shape[2:], strict=True)
        )
        images = down @ (images - BLACK) @ right.mT + BLACK
    if options.cutout:
        rows, columns = (
            _cutout_mask(position, side, options.cutout).to(images.dtype)
            for position, side in zip(positions[2:], images.shape[2:], strict=True)
        )
        mask = 1 - (1 - rows)[:, None, :, None] * (1 - columns)[:, None, None, :]  # [N, 1, H, W]
        images = (images - BLACK) * mask + BLACK
    return images


def _scale(random: Tensor, limit: float) -> Tensor:
    """Map [N] in [0, 1) to [N, 1, 1, 1] in [-limit, limit)."""
    return ((2 * random - 1) * limit)[:, None, None, None]


def _shift_matrices(random: Tensor, side: int, share: float) -> Tensor:
    """Matrices [N, 1, side, side] that shift rows by up to `share` of the side, in whole pixels, either way.

    Products with them are faster than gathering, and their gradients are products too.
    """
    limit = int(share * side + 0.5)
    shift = (random * (2 * limit + 1)).floor() - limit
    rows = torch.arange(side, device=random.device, dtype=random.dtype)
    return (rows[:, None] - rows[None, :] == shift[:, None, None]).to(random.dtype)[:, None]


def _cutout_mask(random: Tensor, side: int, share: float) -> Tensor:
    """[N, side]: 0 along one side of the square that is cut out, 1 elsewhere; its centre lies anywhere in the image."""
    length = int(share * side + 0.5)
    first = (random * (side + 1 - length % 2)).floor() - length // 2
    positions = torch.arange(side, device=random.device, dtype=random.dtype)
    inside = (positions >= first[:, None]) & (positions < first[:, None] + length)
    return 1 - inside.to(random.dtype)
