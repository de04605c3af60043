"""Population-based training (Jaderberg et al. 2017): which members copy others, and which values they try next.

Everything here is a function of scores, values, seed and epoch, so a study that was killed decides again as before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.experiment.dimensions import Choices, Dimension, Range, Value
from harness.experiment.schedules import SCHEDULABLE
from harness.experiment.scores import Direction
from harness.experiment.search import Search

QUANTILE = 0.25  # share of the members that copy, and of those that are copied
RESAMPLE = 0.25  # probability that a value is drawn at random from its range, instead of being changed a little
FACTORS = (0.8, 1.2)  # of a value that is changed a little

Lineage = list[tuple[int, int]]


def check_space(search: Search) -> None:
    """Raise HarnessError if the members of a population cannot change all searched fields while they train."""
    for path in search.space:
        if path not in SCHEDULABLE:
            raise HarnessError(
                f"--method pbt changes values while training, and {path} is fixed when a run starts: fix it with "
                f"--set {path}=VALUE, or search {', '.join(SCHEDULABLE)}"
            )
    if search.conditions:
        raise HarnessError("--method pbt needs a search without conditions")


def choose_parents(
    scores: Mapping[int, float], broken: Collection[int], direction: Direction, seed: int, epoch: int
) -> dict[int, int]:
    """Return which member copies which other one: truncation selection (section 4.1.1 of the paper).

    Each of the worst quarter copies one of the best quarter at random. Members that have diverged copy, too.

    Args:
        scores: Scores of the members that can be copied, by number. NaN is the worst.
        broken: Numbers of the members that have diverged.
        direction: minimize or maximize.
        seed: Seed of the study.
        epoch: The epoch that has ended.
    """
    sign = 1 if direction == "minimize" else -1
    ranked = sorted(scores, key=lambda number: (_worst_if_nan(sign * scores[number]), number))
    if not ranked:
        return {}
    count = max(1, math.floor(QUANTILE * (len(scores) + len(broken))))
    best = ranked[:count]
    worst = [number for number in ranked[::-1][: max(0, count - len(broken))] if number not in best]
    return {
        number: best[int(_generator(seed, epoch, number).integers(len(best)))] for number in sorted([*broken, *worst])
    }


def any_parents(healthy: Collection[int], broken: Collection[int], seed: int, epoch: int) -> dict[int, int]:
    """Return which healthy member each diverged one copies in an epoch without scores: one at random."""
    numbers = sorted(healthy)
    return {
        number: numbers[int(_generator(seed, epoch, number).integers(len(numbers)))]
        for number in sorted(broken)
        if numbers
    }


def explore(
    values: Mapping[str, Any], space: Mapping[str, Dimension], seed: int, epoch: int, number: int
) -> dict[str, Value]:
    """Return values near those of a parent (section 4.1.2 of the paper).

    A number is multiplied by 0.8 or 1.2, or with probability 0.25 drawn at random from its range; a choice becomes its
    neighbour in the list, or is drawn at random. A value that is off (0 or null) stays off, others stay on.

    Args:
        values: The values of the parent, by dotted path.
        space: The search space.
        seed: Seed of the study.
        epoch: The epoch that has ended.
        number: Number of the member.
    """
    random = _generator(seed, epoch, number, 1)
    found: dict[str, Value] = {}
    for path, dimension in space.items():
        draws = random.random(3).tolist()  # the same number for every field, so that fields do not depend on each other
        if path not in values:  # null in the experiment, and not among the choices
            continue
        before = values[path]
        after = _neighbour(before, dimension, *draws)
        found[path] = after if bool(after) == bool(before) else before
    return found


def _neighbour(value: Any, dimension: Dimension, kind: float, quantile: float, side: float) -> Value:
    up = side >= 0.5
    if kind < RESAMPLE:
        return dimension.quantile(quantile)
    if isinstance(dimension, Range):
        near = dimension.nearest(value * FACTORS[up])
        if near == value and dimension.step:  # the step is larger than the change
            near = dimension.nearest(value + (dimension.step if up else -dimension.step))
        return near
    assert isinstance(dimension, Choices)
    index = dimension.values.index(value) + (1 if up else -1)
    return dimension.values[min(max(index, 0), len(dimension.values) - 1)]


def ancestors(lineages: Mapping[int, Lineage], number: int, epoch: int) -> list[tuple[int, int]]:
    """Return whose weights a member has: pairs of a first epoch and a member, from the first to the last.

    Args:
        lineages: For every member the epochs after which it copied, each with the member that it copied.
        number: Number of the member.
        epoch: The last epoch.
    """
    found: list[tuple[int, int]] = []
    last = epoch
    while True:
        before = [(ended, parent) for ended, parent in lineages.get(number, []) if ended <= last]
        if not before:
            return [(1, number), *found[::-1]]
        ended, parent = max(before)
        found.append((ended + 1, number))
        number, last = parent, ended - 1


def _worst_if_nan(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)
