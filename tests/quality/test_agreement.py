"""Kendall's tau between two judges."""

from __future__ import annotations

import math

import pytest
from scipy.stats import kendalltau

from benchmarks.agreement import agreement

NONE = [0.0] * 5


def test_without_spread_it_is_scipys_tau_b() -> None:
    first, second = [1.0, 2, 3, 3, 5], [1.0, 3, 2, 4, 4]
    found = agreement(first, second, NONE, NONE)
    assert found.tau == pytest.approx(kendalltau(first, second).statistic)
    assert (found.same, found.opposite, found.tied) == (7, 1, 2)


def test_swaps_within_the_spread_are_ties() -> None:
    first, second = [1.0, 2, 3, 4, 4.01], [1.0, 2, 3, 4.01, 4]
    assert agreement(first, second, NONE, NONE).opposite == 1
    found = agreement(first, second, [0.01] * 5, [0.01] * 5)
    assert found.tau == 1
    assert (found.same, found.opposite, found.tied) == (9, 0, 1)


def test_opposite_order_and_no_order() -> None:
    assert agreement([1.0, 2, 3], [3.0, 2, 1], NONE[:3], NONE[:3]).tau == -1
    assert math.isnan(agreement([1.0, 1, 1], [3.0, 2, 1], NONE[:3], NONE[:3]).tau)
