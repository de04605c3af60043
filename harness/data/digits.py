"""scikit-learn's 8x8 digits: the smallest real data set, which needs no download."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.source import Counts, DataSource, random_test_split


class Digits(DataSource):
    """Handwritten digits, 8x8 grey, 1,438 to train and 359 to test (Alpaydin and Kaynak 1998, UCI; CC BY 4.0)."""

    classes = 10

    def counts(self) -> Counts:
        """Return the fixed sizes of the splits."""
        return Counts(1_438, 359)

    def read(self, split: str) -> tuple[Tensor, Tensor]:
        """Return a split; the test split is a random fifth of the images."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        grey = torch.from_numpy(digits.images)  # [1797, 8, 8], 0 to 16
        indices = random_test_split(len(grey), 5)[split]
        pixels = (grey * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        return pixels[indices], torch.from_numpy(digits.target).to(torch.int64)[indices]
