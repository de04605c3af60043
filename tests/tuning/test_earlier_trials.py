"""`tune --from STUDY`: a new study with a wider space or more trials starts with what is known already."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..commands import Harness
from .common import QUIET, optuna_trials, runs, the_study

OLD = ("tune", "small.yaml", *QUIET, "--trials", "4", "--pruner", "none", "--epochs", "1", "--sampler", "qmc")


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tuning.plots.write", lambda *_: [])  # seconds


def ok(harness: Harness, *arguments: str) -> str:
    said = harness(*arguments)
    assert said.code == 0, said.out + said.err
    return said.out + said.err


def test_a_wider_space_starts_with_all_finished_trials(harness: Harness, small: Path) -> None:
    ok(harness, *OLD)
    old = optuna_trials()
    wider = ("--set", "search.optimizer.lr={low: 1e-5, high: 1e-1, log: true}")
    new = ("tune", "small.yaml", *QUIET, "--epochs", "1", "--pruner", "none", "--study", "wider", *wider)
    said = ok(harness, *new, "--trials", "6", "--from", "small")
    assert "4 of 4 finished trials of study small are taken over" in said
    trials = optuna_trials("wider")
    assert [(trial.params, trial.value) for trial in trials[:4]] == [(trial.params, trial.value) for trial in old]
    assert [trial.user_attrs["harness.from"] for trial in trials[:4]] == [f"small, trial {n}" for n in range(4)]
    assert len(trials) == 6
    assert trials[0].user_attrs["harness.experiment.custom"]
    assert {f"wider-{number}" for number in (4, 5)} < set(runs("trial"))
    assert "wider-0" not in runs("trial"), "its run is that of the old study"
    again = ok(harness, *new, "--trials", "6", "--from", "small")
    assert "no trial is left to train" in again
    assert len(optuna_trials("wider")) == 6


def test_trials_outside_of_a_narrower_space_are_left_behind(harness: Harness, small: Path) -> None:
    ok(harness, *OLD)
    limit = sorted(trial.params["optimizer.lr"] for trial in optuna_trials())[1]
    narrower = ("--set", f"search.optimizer.lr={{low: 1e-5, high: {limit!r}, log: true}}")
    said = ok(harness, *OLD[:-2], *narrower, "--study", "narrow", "--from", "small")
    assert "2 of 4 finished trials of study small are taken over" in said
    assert all(trial.params["optimizer.lr"] <= limit for trial in optuna_trials("narrow"))


def test_a_further_value_is_that_of_the_experiment(harness: Harness, small: Path) -> None:
    ok(harness, *OLD)
    further = ("--set", "search.objective.kind=[non-saturating, hinge]")
    said = ok(harness, *OLD, *further, "--study", "further", "--from", "small")
    assert "4 of 4 finished trials" in said
    assert {trial.params["objective.kind"] for trial in optuna_trials("further")} == {"non-saturating"}
    fixed = ("--set", "optimizer.lr=1e-3")
    said = ok(harness, *OLD, *fixed, "--study", "fixed", "--from", "small")
    assert "1 of 4 finished trials" in said, "that with the experiment's own rate"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--epochs", "2"), "train.epochs of a trial 1 -> 2"),
        (("--metric", "frechet"), "metric kid -> frechet"),
        (("--seeds", "2"), "seeds 1 -> 2"),
        (("--set", "generator.widths=[16]"), "generator.widths [16, 16] -> [16]"),
        (("--from", "smal"), "--from smal: there is no such study; the nearest names are small"),
    ],
)
def test_trials_that_cannot_be_compared_are_refused(
    harness: Harness, small: Path, arguments: tuple[str, ...], text: str
) -> None:
    ok(harness, "tune", "small.yaml", *QUIET, "--trials", "1", "--epochs", "1", "--pruner", "none")
    base = ["tune", "small.yaml", *QUIET, "--trials", "2", "--pruner", "none", "--study", "other", "--from", "small"]
    base += [] if "--epochs" in arguments else ["--epochs", "1"]
    said = harness(*base, *arguments)
    assert (said.code, text in said.err) == (2, True), said.err
    assert said.err.count("\n") == 1
    assert the_study().info.run_name == "small"


def test_steps_are_kept(harness: Harness, small: Path) -> None:
    steps = (
        *("--set", "search.discriminator.dropout={low: 0.0, high: 0.5, step: 0.125}"),
        *("--set", "search.generator.latent={low: 4, high: 17, step: 4}"),
    )
    said = ok(harness, "tune", "small.yaml", *steps, "--dry-run")
    assert "discriminator.dropout  0 to 0.5, in steps of 0.125" in said
    assert "generator.latent  4 to 16, in steps of 4, whole numbers" in said
    for sampler in ("qmc", "tpe", "grid"):
        options = ("--trials", "6", "--epochs", "1", "--pruner", "none", "--sampler", sampler, "--study", sampler)
        ok(harness, "tune", "small.yaml", *QUIET, *steps, *options)
        for trial in optuna_trials(sampler)[1:]:
            assert trial.params["discriminator.dropout"] in (0.0, 0.125, 0.25, 0.375, 0.5)
            assert trial.params["generator.latent"] in (4, 8, 12, 16)
