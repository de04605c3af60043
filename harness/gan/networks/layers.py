"""What several networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def dropped(hidden: Tensor, keep: Tensor, rate: float) -> Tensor:
    """`hidden` where the bool mask `keep` is set, zero elsewhere, scaled by 1 / (1 - rate) to the same mean.

    Dropout (Srivastava et al. 2014) in the inverted form, its masks handed in: a network stays a pure function of its
    inputs, and nothing is scaled when dropout is off.
    """
    return hidden * keep / (1 - rate)


class Projection(nn.Module):
    """The class-dependent part of a conditional discriminator's logit: <embedding of the label, features>.

    Miyato and Koyama 2018, eq. 3.
    """

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.randn(classes, features) / features**0.5)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """features [B, d] and labels int64 [B] to [B]. Every class is asked, and the right answer taken: a product of
        matrices, whose gradient needs no scattered additions."""
        if labels is None:
            raise ValueError("a conditional discriminator needs the labels of its images")
        answers = features @ self.embeddings.T  # [B, classes]
        return answers.gather(1, labels[:, None]).squeeze(1)
