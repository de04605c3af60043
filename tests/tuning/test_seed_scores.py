"""The value of a trial with several seeds, and how sure its win is."""

from __future__ import annotations

import statistics

import pytest

from harness.tuning.seed_scores import Verdict, aggregate, can_no_longer_win, verdict


@pytest.mark.parametrize(
    ("how", "minimized", "maximized"),
    [
        ("mean", 3.0, 3.0),
        ("median", 2.0, 2.0),
        ("worst", 6.0, 1.0),
        ("mean+std", 3.0 + statistics.stdev([1, 2, 6]), 3.0 - statistics.stdev([1, 2, 6])),
    ],
)
def test_the_value_of_a_trial_is_an_aggregate_of_its_scores(how: str, minimized: float, maximized: float) -> None:
    assert aggregate([6.0, 1.0, 2.0], how, "minimize") == pytest.approx(minimized)
    assert aggregate([6.0, 1.0, 2.0], how, "maximize") == pytest.approx(maximized)
    assert aggregate([4.0], how, "minimize") == 4.0


def test_a_trial_is_given_up_when_it_is_worse_under_the_same_seeds() -> None:
    best = {0: 1.0, 1: 2.0}
    assert can_no_longer_win({0: 1.1, 1: 2.1}, best, "minimize")
    assert not can_no_longer_win({0: 1.1, 1: 1.9}, best, "minimize")
    assert not can_no_longer_win({0: 9.0}, {0: 1.0}, "minimize"), "one seed is luck"
    assert not can_no_longer_win({0: 0.9, 1: 1.9}, best, "minimize")
    assert can_no_longer_win({0: 0.9, 1: 1.9}, best, "maximize")
    # Seeds differ much more than the trials: only pairs show which trial is worse.
    assert can_no_longer_win({0: 1.01, 1: 100.01}, {0: 1.0, 1: 100.0}, "minimize")


def test_a_clear_winner_is_sure_and_a_narrow_one_is_not() -> None:
    clear = verdict({4: [1.0, 1.1, 0.9, 1.0], 7: [2.0, 2.1, 1.9, 2.2]}, "mean", "minimize")
    assert clear == Verdict(4, 1.0, (4, 7), (), 4)
    narrow = verdict({4: [1.0, 3.0, 1.0, 3.0], 7: [3.0, 1.0, 3.0, 1.1]}, "mean", "minimize")
    assert narrow is not None
    assert (narrow.best, narrow.tied) == (4, (7,))
    assert 0.4 < narrow.probability < 0.7
    most = verdict({4: [1.0, 1.1, 0.9, 1.0], 7: [2.0, 2.1, 1.9, 2.2]}, "mean", "maximize")
    assert most is not None
    assert most.best == 7


def test_the_bootstrap_is_paired() -> None:
    """A trial that is a little better under every seed is sure to be better, however much the seeds differ."""
    sure = verdict({0: [1.0, 50.0, 3.0, 20.0], 1: [1.1, 50.1, 3.1, 20.1]}, "mean", "minimize")
    assert sure is not None
    assert (sure.probability, sure.tied) == (1.0, ())


def test_only_trials_with_the_most_seeds_are_compared() -> None:
    found = verdict({0: [0.1], 1: [2.0, 2.0], 2: [1.0, 1.0], 3: []}, "mean", "minimize")
    assert found is not None
    assert (found.best, found.compared, found.seeds) == (2, (1, 2), 2)
    assert verdict({0: [1.0], 1: [2.0]}, "mean", "minimize") is None
    assert verdict({}, "mean", "minimize") is None


def test_a_verdict_in_words() -> None:
    assert Verdict(3, 0.974, (1, 3), (), 4).text == (
        "trial 3 is the best of 2 trials with 4 seeds with probability 0.97; no other trial is tied with it"
    )
    assert Verdict(3, 0.5, (1, 3), (1,), 2).text.endswith("; trial 1 is statistically tied with it")
    many = Verdict(0, 0.2, tuple(range(9)), tuple(range(1, 9)), 3).text
    assert many.endswith("; trials 1, 2, 3, 4 and 5 and 3 more are statistically tied with it")
    assert Verdict(0, 1.0, (0,), (), 8).text == "trial 0 is the only one with 8 seeds"
