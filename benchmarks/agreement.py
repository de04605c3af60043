"""Kendall's tau between two judges: do they put the same generators in the same order? Used by judges.py."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau over all pairs of generators, and the counts it is computed from."""

    tau: float  # tau-b, 1 for the same order; NaN where a judge cannot tell any two apart
    same: int  # pairs that both judges order alike
    opposite: int  # pairs that they order differently
    tied: int  # pairs that one judge or both cannot tell apart


def agreement(
    first: list[float], second: list[float], first_se: list[float], second_se: list[float], within: float = 2.0
) -> Agreement:
    """Return Kendall's tau-b (Kendall 1945) of two judges' scores of the same generators, with close scores as ties.

    A judge ties two generators whose scores differ by no more than `within` standard errors of the difference. A pair
    that one judge orders and the other ties lowers tau-b, but less than a pair in opposite order.

    Args:
        first: the first judge's score of each generator.
        second: the second judge's scores.
        first_se: standard errors of the first.
        second_se: standard errors of the second.
        within: 0 ties equal scores only.
    """
    a, b = _order(first, first_se, within), _order(second, second_se, within)
    tau = (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()
    pairs = (a * b)[torch.triu(torch.ones_like(a, dtype=torch.bool), diagonal=1)]
    return Agreement(tau.item(), int((pairs > 0).sum()), int((pairs < 0).sum()), int((pairs == 0).sum()))


def _order(scores: list[float], errors: list[float], within: float) -> Tensor:
    """1 where the row's generator scores higher than the column's, -1 where lower, 0 where tied, [G, G]."""
    score, error = torch.tensor(scores, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)
    difference = score[:, None] - score
    spread = (error[:, None].square() + error.square()).sqrt()
    return torch.where(difference.abs() <= within * spread, 0, difference.sign())
