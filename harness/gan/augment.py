"""Differentiable augmentation (Zhao et al. 2020, DiffAugment): D sees real and generated images alike distorted.

No flips: a mirrored digit is no digit. Outside of an image, and where a piece is cut out, it is black.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.experiment import Augment

BLACK = -1.0


def augment(images: Tensor, draws: Tensor | None, options: Augment) -> Tensor:
    """Images [N, C, H, W] in [-1, 1], each distorted as its row of draws [N, 6], uniform in [0, 1), says.

    In the paper's order: brightness, contrast, translation, cutout. What is off changes no bit. It is differentiable in
    the images, any number of times, and a pure function of both.
    """
    if draws is None:
        return images
    brightness, contrast, *places = draws.unbind(1)  # [N] each; in bf16, places would be rounded
    if options.brightness:
        images = images + _spread(brightness, options.brightness).to(images.dtype)
    if options.contrast:
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * (1 + _spread(contrast, options.contrast)).to(images.dtype)
    if options.translation:
        down, right = (
            _shift(place, side, options.translation).to(images.dtype)
            for place, side in zip(places[:2], images.shape[2:], strict=True)
        )
        images = down @ (images - BLACK) @ right.mT + BLACK
    if options.cutout:
        rows, columns = (
            _outside(place, side, options.cutout).to(images.dtype)
            for place, side in zip(places[2:], images.shape[2:], strict=True)
        )
        kept = 1 - (1 - rows)[:, None, :, None] * (1 - columns)[:, None, None, :]  # [N, 1, H, W]
        images = (images - BLACK) * kept + BLACK
    return images


def _spread(draws: Tensor, most: float) -> Tensor:
    """[N] in [0, 1) to [N, 1, 1, 1] in [-most, most)."""
    return ((2 * draws - 1) * most)[:, None, None, None]


def _shift(draws: Tensor, side: int, share: float) -> Tensor:
    """Matrices [N, 1, side, side] that move rows by up to `share` of the side, whole pixels, either way.

    Products with them are quicker than gathering, and their gradients are products too.
    """
    most = int(share * side + 0.5)
    moved = (draws * (2 * most + 1)).floor() - most
    rows = torch.arange(side, device=draws.device, dtype=draws.dtype)
    return (rows[:, None] - rows[None, :] == moved[:, None, None]).to(draws.dtype)[:, None]


def _outside(draws: Tensor, side: int, share: float) -> Tensor:
    """[N, side]: 0 along one side of the square that is cut out, 1 elsewhere; its centre lies anywhere in the image."""
    length = int(share * side + 0.5)
    first = (draws * (side + 1 - length % 2)).floor() - length // 2
    places = torch.arange(side, device=draws.device, dtype=draws.dtype)
    inside = (places >= first[:, None]) & (places < first[:, None] + length)
    return 1 - inside.to(draws.dtype)
