"""Stacked MNIST: three random digits as the red, green and blue of one image, which makes 1,000 modes to be hit."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.base import Message, Source, silent

TRAINING, TEST = 128_000, 26_000  # images: as PacGAN (Lin et al. 2018) and R3GAN (Huang et al. 2024) have it
SEEDS = {"train": 40_000, "test": 40_001}  # which digits are stacked: the same ones for everybody


class StackedMNIST(Source):
    """128,000 to train and 26,000 to test, 28x28 in colour (Metz et al. 2017).

    Every channel is a digit of MNIST's own split, drawn with replacement. They are unlabelled: the 1,000 modes are
    what a generator is to find by itself.
    """

    classes = 0

    def prepare(self, message: Message = silent) -> None:
        _mnist().prepare(message)

    def read(self, split: str) -> tuple[Tensor, None]:
        digits, _ = _mnist().read(split)
        flat = digits.flatten(1)  # [M, 784]
        count = TEST if split == "test" else TRAINING
        drawn = torch.randint(len(flat), (count * 3,), generator=torch.Generator().manual_seed(SEEDS[split]))
        images = torch.empty(count, 3, *digits.shape[2:], dtype=torch.uint8)
        torch.index_select(flat, 0, drawn, out=images.view(count * 3, -1))  # in place: 300 MB, once
        return images, None

    def missing(self) -> str | None:
        return _mnist().missing()


def digit_frequencies() -> Tensor:
    """How often each digit occurs among MNIST's training images, float64 [10], summing to 1."""
    _, labels = _mnist().read("train")
    assert labels is not None
    return labels.bincount(minlength=10).double() / len(labels)


def _mnist() -> Source:
    from harness.data.sources import DATASETS  # which has Stacked MNIST itself as an entry

    return DATASETS["mnist"]()
