"""scikit-learn's 8x8 digits: the smallest real data set, which needs no download."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.base import Counts, Source, own_test_split


class Digits(Source):
    """Handwritten digits, 8x8 grey, 1,438 to train and 359 to test (Alpaydin and Kaynak 1998, UCI; CC BY 4.0)."""

    classes = 10

    def counts(self) -> Counts:
        return Counts(1_438, 359)

    def read(self, split: str) -> tuple[Tensor, Tensor]:
        from sklearn.datasets import load_digits

        found = load_digits()
        grey = torch.from_numpy(found.images)  # [1797, 8, 8], 0 to 16
        chosen = own_test_split(len(grey), 5)[split]
        pixels = (grey * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        return pixels[chosen], torch.from_numpy(found.target).to(torch.int64)[chosen]
