"""A race: rounds of seeds, as a function of the scores alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from harness.tuning.race import RaceState, race_state

SCORES = {number: [number + seed / 10 for seed in range(8)] for number in range(12)}  # the lower number is better


def race(
    scores: dict[int, list[float]], seeds: int, pick: Callable[[list[int]], int] = lambda missing: missing[0]
) -> tuple[dict[int, list[float]], RaceState]:
    """Train one seed at a time, of any trial that needs one, until the race ends."""
    known = {number: each[:1] for number, each in scores.items()}
    while not (now := race_state(known, (), seeds, "mean", "minimize")).ended:
        missing = [number for number in now.survivors if len(known[number]) < now.seeds]
        number = pick(missing)
        known[number] = scores[number][: len(known[number]) + 1]
    return known, now


def test_the_better_half_gets_twice_as_many_seeds() -> None:
    now = race_state({number: each[:1] for number, each in SCORES.items()}, (), 8, "mean", "minimize")
    assert now == RaceState((0, 1, 2, 3, 4, 5), 2, ended=False)
    noise = {number: [random.Random(100 * number + seed).gauss() for seed in range(8)] for number in range(12)}
    known, now = race(noise, 8)
    assert sorted(map(len, known.values()), reverse=True) == [8, 8, 4, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert len(now.survivors) == 2


def test_a_race_with_four_seeds_costs_as_much_as_twice_its_trials() -> None:
    noise = {number: [random.Random(100 * number + seed).gauss() for seed in range(8)] for number in range(10)}
    known, _ = race(noise, 4)
    assert sum(map(len, known.values())) == 10 + 5 + 2 * 3


def test_the_race_ends_when_the_best_is_separated() -> None:
    known, now = race(SCORES, 8)
    assert now == RaceState((0, 1, 2), 4, ended=True)
    assert max(map(len, known.values())) == 4, "the last four seeds are saved"


@pytest.mark.parametrize("order", range(20))
def test_the_order_in_which_seeds_are_trained_changes_nothing(order: int) -> None:
    noise = {number: [random.Random(100 * number + seed).gauss() for seed in range(8)] for number in range(9)}
    assert race(noise, 8, random.Random(order).choice) == race(noise, 8)


def test_a_trial_that_has_failed_makes_room_for_nobody() -> None:
    """It is not waited for, and the others go on."""
    scores = {0: [0.0], 1: [1.0, 1.0], 2: [2.0], 3: [3.0]}
    assert race_state(scores, (), 4, "mean", "minimize") == RaceState((1, 0), 2, ended=False)
    assert race_state(scores, {0}, 4, "mean", "minimize") == RaceState((1,), 2, ended=True)


def test_a_higher_score_can_be_better_and_the_worst_seed_can_count() -> None:
    scores = {0: [1.0, 9.0], 1: [4.0, 4.0]}
    assert race_state(scores, (), 2, "mean", "maximize").survivors == (0, 1)
    assert race_state(scores, (), 2, "worst", "maximize").survivors == (1, 0)


def test_a_race_of_one_trial_is_over() -> None:
    assert race_state({3: [1.0]}, (), 8, "mean", "minimize") == RaceState((3,), 1, ended=True)
