"""A study that is killed and continued: the run of a trial that was pruned is whole, and so is the study's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness import cli
from tests.commands import Harness, client
from tests.faults_lib.kills import life
from tests.faults_lib.snapshot import snapshot

from ..tuning.common import QUIET, assert_one_to_one, optuna_trials, runs, the_study

pytestmark = pytest.mark.usefixtures("small_models")
ONE = ("tune", "small.yaml", *QUIET, "--trials", "1", "--set", "search_budget.track.samples_every=1")


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tuning.plots.write", lambda *_: [])  # seconds


def kill_before(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", *ONE])
    with life() as process, process.killed_before(step):
        cli.main()


@pytest.mark.parametrize(
    "step",
    [
        "append metrics quality/kid 1",  # Optuna knows that the trial is pruned, its run does not
        "append image neighbours 1",
    ],
)
def test_a_pruned_trial_that_is_killed_in_its_end_is_whole(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("optuna.trial.Trial.should_prune", lambda trial: True)
        kill_before(patch, step)
    said = harness(*ONE)
    assert said.code == 0, said.err
    (trial,) = optuna_trials()
    assert trial.state.name == "PRUNED"
    found = snapshot(client(), runs("trial")["small-0"].info.run_id)
    assert found["status"] == "KILLED"
    assert (found["tags"]["harness.pruned"], found["tags"]["harness.epoch"]) == ("1", "1")
    assert {name: [step for step, _ in points] for name, points in found["metrics"].items()} == {
        name: [1] for name in found["metrics"]
    }
    assert set(found["images"].values()) == {1}
    assert {name for name, _ in found["images"]} == {"samples+step+1", "neighbours+step+1"}
    assert {"samples/epoch-0001.png", "neighbours/epoch-0001.png"} <= set(found["files"])
    assert found["files"]["checkpoints/last.pt"].startswith("epoch 1,")


def test_a_study_that_is_killed_before_the_picture_of_its_best_trial_draws_it(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_before(monkeypatch, "append image samples 1")
    assert snapshot(client(), the_study().info.run_id)["images"] == {}
    said = harness(*ONE)
    assert said.code == 0, said.err
    assert_one_to_one(1)
    found = snapshot(client(), the_study().info.run_id)
    drawn = {(f"samples+step+{epoch}", suffix): 1 for epoch in (1, 2, 3, 4) for suffix in (".png", ".webp")}
    assert found["images"] == drawn
    assert found["status"] == "FINISHED"
