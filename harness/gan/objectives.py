"""What the two networks minimise: pairs of losses on raw logits, as means over the batch, in nats."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Objective(Protocol):
    """A loss for each network; logits are [B], positive for real."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator(self, fake: Tensor) -> Tensor: ...


class NonSaturating:
    """Goodfellow et al. 2014, section 3, the form that they train with: G maximises log D(G(z)).

    Binary cross-entropy of sigmoid(logit), computed on the logit: the same sums without the sigmoid, which would lose
    its precision at the ends. Real and fake are summed, not averaged: where D can tell nothing, its loss is
    2 ln 2 = 1.386 and G's is ln 2 = 0.693.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return _cross_entropy(real, 1.0) + _cross_entropy(fake, 0.0)

    def generator(self, fake: Tensor) -> Tensor:
        return _cross_entropy(fake, 1.0)


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


OBJECTIVES: dict[str, type[Objective]] = {"non-saturating": NonSaturating}
