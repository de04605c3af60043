"""The decisions of population-based training: who copies whom, which values come next, and whose weights those are."""

from __future__ import annotations

import math

import pytest

from harness import experiment as experiments
from harness.errors import HarnessError
from harness.experiment.dimensions import Choices, Dimension, Range
from harness.experiment.search import Search
from harness.tuning.pbt import ancestors, any_parents, check_space, choose_parents, explore

SPACE: dict[str, Dimension] = {
    "optimizer.lr": Range(1e-4, 1e-2, log=True),
    "discriminator.dropout": Range(0.0, 0.5),
    "train.ema_half_life": Choices((1000.0, 5000.0, 20000.0)),
}
VALUES = {"optimizer.lr": 1e-3, "discriminator.dropout": 0.3, "train.ema_half_life": 5000.0}


@pytest.mark.parametrize(("direction", "best"), [("minimize", {0, 1, 2}), ("maximize", {9, 10, 11})])
def test_each_of_the_worst_quarter_copies_one_of_the_best_quarter(direction: str, best: set[int]) -> None:
    scores = {number: float(number) for number in range(12)}
    parents = choose_parents(scores, (), direction, seed=0, epoch=3)  # type: ignore[arg-type]
    assert set(parents) == ({9, 10, 11} if direction == "minimize" else {0, 1, 2})
    assert set(parents.values()) <= best
    copied = {parent for epoch in range(50) for parent in choose_parents(scores, (), direction, 0, epoch).values()}  # type: ignore[arg-type]
    assert copied == best


def test_members_that_have_diverged_copy_first_and_are_never_copied() -> None:
    scores = {0: 0.1, 1: 0.2, 2: 0.3, 3: math.nan}
    for epoch in range(20):
        parents = choose_parents(scores, [7], "minimize", seed=1, epoch=epoch)
        assert parents == {7: 0}
        assert choose_parents(scores, (), "minimize", 1, epoch) == {3: 0}
        assert any_parents([0, 1], [7], 1, epoch)[7] in (0, 1)
    assert any_parents([], [7], 1, 1) == {}
    assert choose_parents({}, [7], "minimize", 1, 1) == {}


def test_new_values_are_near_the_old_ones_or_drawn_from_the_range() -> None:
    near = drawn = 0
    for number in range(400):
        values = explore(VALUES, SPACE, seed=0, epoch=1, number=number)
        assert values == explore(VALUES, SPACE, seed=0, epoch=1, number=number)
        rate = values["optimizer.lr"]
        assert isinstance(rate, float)
        assert 1e-4 <= rate <= 1e-2
        if any(rate == pytest.approx(1e-3 * factor) for factor in (0.8, 1.2)):
            near += 1
        else:
            drawn += 1
        assert isinstance(values["discriminator.dropout"], float)
        assert 0 < values["discriminator.dropout"] <= 0.5
        assert values["train.ema_half_life"] in (1000.0, 5000.0, 20000.0)
    assert near / 400 == pytest.approx(0.75, abs=0.08), drawn


def test_values_at_a_bound_stay_inside_and_what_is_off_stays_off() -> None:
    edge = {"optimizer.lr": 1e-2, "discriminator.dropout": 0.0, "train.ema_half_life": 20000.0}
    for number in range(100):
        values = explore(edge, SPACE, 0, 1, number)
        assert values["optimizer.lr"] <= 1e-2  # type: ignore[operator]
        assert values["discriminator.dropout"] == 0.0
    assert explore({"optimizer.lr": 1e-3}, SPACE, 0, 1, 0).keys() == {"optimizer.lr"}


def test_a_step_that_is_larger_than_a_fifth_of_the_value_is_one_step() -> None:
    space: dict[str, Dimension] = {"discriminator.dropout": Range(0.1, 0.5, step=0.1)}
    found = {
        explore({"discriminator.dropout": 0.2}, space, 0, 1, number)["discriminator.dropout"] for number in range(99)
    }
    assert found == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_ancestors_follow_the_copies_back_to_the_first_epoch() -> None:
    lineages = {0: [], 1: [(2, 0)], 2: [(2, 1), (4, 1)]}
    assert ancestors(lineages, 0, 6) == [(1, 0)]
    assert ancestors(lineages, 1, 6) == [(1, 0), (3, 1)]
    # After epoch 4, member 2 copied member 1, which had copied member 0 after epoch 2.
    assert ancestors(lineages, 2, 6) == [(1, 0), (3, 1), (5, 2)]


def test_both_copies_of_one_epoch_are_of_the_weights_before_it() -> None:
    # Nobody is copied in an epoch in which it copies; 2 copied 1 after the same epoch in which 1 copied 0.
    assert ancestors({0: [], 1: [(2, 0)], 2: [(2, 1)]}, 2, 4) == [(1, 1), (3, 2)]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"generator.latent": {"low": 4, "high": 16}}, "generator.latent is fixed when a run starts"),
        ({"objective.kind": {"hinge": {}, "lsgan": {"optimizer.lr": {"low": 1e-4, "high": 1e-2}}}}, "objective.kind"),
    ],
)
def test_what_a_running_member_cannot_change_is_refused(space: dict[str, object], message: str) -> None:
    base = experiments.load("notebook")
    from harness.experiment.search import parse

    search = parse(base, space, {})
    with pytest.raises(HarnessError, match=message):
        check_space(search)
    check_space(Search(SPACE))
