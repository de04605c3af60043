"""Augmentation: each distortion by hand on a tiny image, and derivatives of any order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.experiment import Augment
from harness.gan.augment import augment
from harness.gan.randomness import DISTORTIONS

SIDE = 8
BRIGHTNESS, CONTRAST, DOWN, RIGHT, ROW, COLUMN = range(DISTORTIONS)


def some(count: int = 2, channels: int = 1, height: int = SIDE, width: int = SIDE) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, height, width, generator=random, dtype=torch.float64) * 2 - 1


def draws(count: int = 2, **named: float) -> Tensor:
    """In the middle of everything, where nothing is moved, but for what is named."""
    drawn = torch.full((count, DISTORTIONS), 0.5, dtype=torch.float64)
    for name, value in named.items():
        drawn[:, globals()[name.upper()]] = value
    return drawn


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """By whole pixels, black from outside."""
    height, width = images.shape[2:]
    moved = torch.full_like(images, -1.0)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[:, :, row, column] = images[:, :, row - down, column - right]
    return moved


@pytest.mark.parametrize(("share", "most"), [(0.25, 2), (0.125, 1), (0.3, 2), (1.0, 8)])
def test_every_shift_is_reached_equally_often_and_fills_with_black(share: float, most: int) -> None:
    images, options = some(channels=3), Augment(translation=share)
    ways = 2 * most + 1
    for down in range(-most, most + 1):
        for right in (-most, 0, most):
            # The middle and the first of the draws that stand for this shift.
            for within in (0.5, 1e-9):
                drawn = draws(down=(down + most + within) / ways, right=(right + most + within) / ways)
                expected = shifted(images, down, right)
                assert torch.allclose(augment(images, drawn, options), expected, rtol=0, atol=1e-12)
    last = draws(down=1 - 2**-24, right=1 - 2**-24)  # the largest that is drawn
    assert torch.allclose(augment(images, last, options), shifted(images, most, most), rtol=0, atol=1e-12)


def test_each_image_is_moved_by_its_own_draws_and_sides_need_not_be_alike() -> None:
    images, drawn = some(height=8, width=4), draws()
    drawn[1, DOWN], drawn[1, RIGHT] = 0.999, 0
    moved = augment(images, drawn, Augment(translation=0.25))
    assert torch.allclose(moved[:1], images[:1])
    assert torch.allclose(moved[1:], shifted(images[1:], 2, -1))


@pytest.mark.parametrize(("share", "length"), [(0.5, 4), (0.4, 3), (1.0, 8)])
def test_a_square_is_cut_out_whose_centre_lies_anywhere(share: float, length: int) -> None:
    images, options = some(channels=2), Augment(cutout=share)
    # As in the authors' code: from -length/2 to side - length/2 where that is even, else one less.
    firsts = range(-(length // 2), SIDE - length // 2 + (1 if length % 2 == 0 else 0))
    seen = set()
    for index, first in enumerate(firsts):
        row = (index + 0.5) / len(firsts)
        cut = augment(images, draws(row=row, column=0.0), options)
        expected = images.clone()
        rows, columns = slice(max(first, 0), first + length), slice(0, length - length // 2)
        expected[:, :, rows, columns] = -1
        assert torch.allclose(cut, expected, rtol=0, atol=1e-12), f"rows from {first}"
        seen.add(first)
    assert len(seen) == len(firsts)


def test_brightness_and_contrast_are_their_formulas() -> None:
    images = some(channels=3)
    brighter = augment(images, draws(brightness=0.9), Augment(brightness=0.5))
    assert torch.allclose(brighter, images + 0.4, rtol=0, atol=1e-12)
    darker = augment(images, draws(brightness=0.0), Augment(brightness=0.5))
    assert torch.allclose(darker, images - 0.5, rtol=0, atol=1e-12)
    harder = augment(images, draws(contrast=0.75), Augment(contrast=0.5))
    mean = images.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(harder, mean + 1.25 * (images - mean), rtol=0, atol=1e-12)
    assert torch.allclose(harder.mean((1, 2, 3)), mean.flatten())


def test_the_order_is_brightness_contrast_translation_cutout() -> None:
    images = some()
    drawn = draws(brightness=0.9, contrast=0.75, down=0.9, right=0.1, row=0.4, column=0.6)
    one_by_one = images
    for options in (Augment(brightness=0.5), Augment(contrast=0.5), Augment(translation=0.25), Augment(cutout=0.5)):
        one_by_one = augment(one_by_one, drawn, options)
    everything = Augment(brightness=0.5, contrast=0.5, translation=0.25, cutout=0.5)
    assert everything.enabled
    assert torch.allclose(augment(images, drawn, everything), one_by_one)
    assert (augment(images, drawn, everything) == -1).any(), "what is cut out stays black"


def test_off_changes_no_bit() -> None:
    images = some().float()
    assert not Augment().enabled
    assert augment(images, None, Augment()) is images
    assert torch.equal(augment(images, draws(brightness=0.9, down=0.9), Augment()), images)


def test_bf16_images_are_moved_no_further_than_asked() -> None:
    """A draw near 1 would be 1 in bf16, one pixel too far."""
    images = some().bfloat16()
    drawn = draws(down=1 - 2**-24, right=0.5).float()
    moved = augment(images, drawn, Augment(translation=0.25))
    assert moved.dtype == torch.bfloat16
    assert torch.allclose(moved.double(), shifted(images.double(), 2, 0), atol=2**-7)


EVERYTHING = Augment(brightness=0.5, contrast=0.5, translation=0.25, cutout=0.5)
RANDOM = torch.rand(2, DISTORTIONS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_it_is_differentiable_again_and_again() -> None:
    images = some(height=4, width=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: augment(each, RANDOM, EVERYTHING), images)

    def curved(each: Tensor) -> Tensor:  # what is linear in the images has no second derivative to check
        return augment(each, RANDOM, EVERYTHING).pow(3)

    assert torch.autograd.gradgradcheck(curved, images)


def test_many_members_at_once_are_distorted_as_each_alone() -> None:
    images = torch.stack([some(), some().flip(0), some() / 2])
    drawn = torch.rand(3, 2, DISTORTIONS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    together = torch.func.vmap(lambda each, its: augment(each, its, EVERYTHING))(images, drawn)
    alone = torch.stack([augment(each, its, EVERYTHING) for each, its in zip(images, drawn, strict=True)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-12)
