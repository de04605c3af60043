"""Stacked MNIST: three random digits as the red, green and blue of one image, which gives 1,000 modes."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.mnist import MNIST
from harness.data.source import DataSource, Message, discard_message

TRAINING, TEST = 128_000, 26_000  # images, as in PacGAN (Lin et al. 2018) and R3GAN (Huang et al. 2024)
SEEDS = {"train": 40_000, "test": 40_001}  # of the digits that are stacked


class StackedMNIST(DataSource):
    """128,000 to train and 26,000 to test, 28x28 in colour (Metz et al. 2017).

    Every channel is a digit of the same split of MNIST, sampled with replacement. Images have no labels: a
    generator has to find the 1,000 modes without them.
    """

    classes = 0

    def prepare(self, message: Message = discard_message) -> None:
        """Prepare MNIST."""
        MNIST().prepare(message)

    def read(self, split: str) -> tuple[Tensor, None]:
        """Stack the digits of a split: uint8 [N, 3, 28, 28]; always the same images."""
        digits, _ = MNIST().read(split)
        flat = digits.flatten(1)  # [M, 784]
        count = TEST if split == "test" else TRAINING
        chosen = torch.randint(len(flat), (count * 3,), generator=torch.Generator().manual_seed(SEEDS[split]))
        images = torch.empty(count, 3, *digits.shape[2:], dtype=torch.uint8)
        torch.index_select(flat, 0, chosen, out=images.view(count * 3, -1))  # in place: 300 MB, once
        return images, None

    def missing(self) -> str | None:
        """Return why MNIST cannot be read; None if it can."""
        return MNIST().missing()


def digit_frequencies() -> Tensor:
    """Return the share of each digit among MNIST's training images, float64 [10], with sum 1."""
    _, labels = MNIST().read("train")
    assert labels is not None
    return labels.bincount(minlength=10).double() / len(labels)
