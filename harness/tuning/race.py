"""`tune --race`: trials begin with one seed, and the better half gets twice as many, round after round.

This is sequential halving (Karnin et al. 2013) over seeds. A trial in the race is RUNNING in Optuna, and has its scores
in an attribute. A trial that drops out is PRUNED, and the trials that are left at the end are COMPLETE.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from harness.experiment.scores import Direction
from harness.tuning.seed_scores import aggregate, verdict

RACE_SEEDS = 8  # of the trials that are left at the end, by default
FINALISTS = 2  # that get all seeds
SEPARATED = 0.95  # the race ends early when the best trial is the best with this probability ...
MIN_SEEDS = 4  # ... under at least so many seeds


@dataclass(frozen=True)
class RaceState:
    """How a race stands.

    Attributes:
        survivors: Numbers of the trials that are still in the race, the best first.
        seeds: Number of seeds that each of them needs.
        ended: Whether they have them, and no further round follows.
    """

    survivors: tuple[int, ...]
    seeds: int
    ended: bool


def race_state(
    scores: Mapping[int, Sequence[float]], finished: Collection[int], seeds: int, how: str, direction: Direction
) -> RaceState:
    """Return how a race stands: a function of all scores, so that a killed command comes to the same result.

    Args:
        scores: Scores of each trial by its number, in the order of the seeds; of those that have dropped out, too.
        finished: Numbers of the trials that get no more seeds: they have dropped out, or have failed.
        seeds: Number of seeds of the trials that are left at the end.
        how: See `seed_scores.aggregate`.
        direction: minimize or maximize.
    """
    sign = 1 if direction == "minimize" else -1
    done, field = 1, [number for number, each in scores.items() if each]
    while True:
        missing = [number for number in field if len(scores[number]) < done and number not in finished]
        ranked = sorted(
            (number for number in field if len(scores[number]) >= done),
            key=lambda number: (sign * aggregate(scores[number][:done], how, direction), number),
        )
        if missing:
            return RaceState((*ranked, *missing), done, ended=False)
        sure = verdict({number: scores[number][:done] for number in ranked}, how, direction)
        separated = sure is not None and done >= MIN_SEEDS and sure.probability >= SEPARATED
        if done >= seeds or separated or len(ranked) < 2:
            return RaceState(tuple(ranked), done, ended=True)
        field = ranked[: max(FINALISTS, math.ceil(len(ranked) / 2))]
        done = min(2 * done, seeds)
