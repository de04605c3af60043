"""`tune --method pbt`: members copy each other, schedules are found, and a study that is killed ends the same."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

import harness as package
from harness import cli
from harness.experiment import load
from harness.gan import checkpoints, report
from harness.runs.batched import Reports, Sessions
from harness.tuning.population import Population
from harness.tuning.storage import open_storage
from tests.commands import Harness, client
from tests.faults_lib.kills import life
from tests.faults_lib.snapshot import snapshot

from .common import assert_one_to_one, optuna_trials, runs, the_study

pytestmark = pytest.mark.usefixtures("small_models")
# Five members; the experiment has four epochs.
_PBT = (
    "tune",
    "small.yaml",
    "--method",
    "pbt",
    "--trials",
    "5",
    "--no-system-metrics",
    "--set",
    "generator.latent=8",
)
POPULATION: tuple[str, ...] = (*_PBT, "--set", "track.score_every=1", "--epochs", "5", "--perturb-every", "1")


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "plots" not in request.keywords:
        monkeypatch.setattr("harness.tuning.plots.write", lambda *_: [])  # seconds


def everything() -> dict[str, Any]:
    """What the population has left behind: its trials, and every run."""
    trials = {
        trial.number: (
            trial.state.name,
            trial.values,
            trial.intermediate_values,
            trial.user_attrs.get("harness.schedule"),
            trial.user_attrs.get("harness.parents"),
        )
        for trial in optuna_trials()
    }
    found = {name: snapshot(client(), run.info.run_id) for name, run in sorted(runs("trial").items())}
    study = snapshot(client(), the_study().info.run_id)
    study["metrics"] = {name: values for name, values in study["metrics"].items() if "seconds" not in name}
    tags = {name: value for name, value in study["tags"].items() if name != "harness.storage"}  # an absolute path
    return {"trials": trials, "runs": found, "best": study["files"]["best.yaml"], "tags": tags}


def test_a_population_finds_a_schedule_that_can_be_trained_again(harness: Harness, small: Path) -> None:
    said = harness(*POPULATION, "--epochs", "4", "--batch-runs", "1")
    assert said.code == 0, said.err
    assert_one_to_one(5)
    trials = {trial.number: trial for trial in optuna_trials()}
    copies = {number: trial.user_attrs.get("harness.parents", []) for number, trial in trials.items()}
    assert sum(len(each) for each in copies.values()) == 3, "one of five, after each of three epochs"
    found = runs("trial")
    for number, trial in trials.items():
        history = client().get_metric_history(found[f"small-{number}"].info.run_id, "schedule/optimizer.lr")
        rates = {point.step: point.value for point in history}
        assert set(rates) == {1, 2, 3, 4}
        assert rates[1] == pytest.approx(trial.params["optimizer.lr"])
        parents = client().get_metric_history(found[f"small-{number}"].info.run_id, "population/parent")
        assert [int(point.value) for point in parents if point.value != number] == [
            parent for _, parent in copies[number]
        ]
        for epoch, parent in copies[number]:
            assert rates[epoch + 1] != trials[parent].params["optimizer.lr"] or epoch == 1
    # The best member's schedule, trained from the start by one run, gives its weights.
    study = package.load_study("small")
    best = study.best
    assert study.best_experiment.schedule
    again = harness("run", "mlruns/studies/small/best.yaml", "--no-system-metrics")
    assert again.code == 0, again.err
    (run,) = runs("run").values()
    weights = [
        checkpoints.load(Path(client().download_artifacts(run_id, "checkpoints/last.pt"))).training["generator"]
        for run_id in (best.run_id, run.info.run_id)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert load(Path("mlruns/studies/small/best.yaml")).schedule == study.best_experiment.schedule
    assert json.loads(json.dumps(study.best_params))


def test_a_population_in_batches_ends_nearly_the_same(harness: Harness, small: Path) -> None:
    """Sums in another order round differently, so that only the first decisions are the same."""
    said = harness(*POPULATION, "--batch-runs", "3")
    assert said.code == 0, said.err
    assert "for a complete trial" not in said.out, "each trial has waited for the others"
    assert_one_to_one(5)
    assert sum(len(trial.user_attrs.get("harness.parents", [])) for trial in optuna_trials()) == 4


KILLS = (
    ("request create_run", 4),  # some members have no run yet
    ("replace epoch-000000", 1),  # before the first epoch
    ("append metrics quality/kid 1", 1),
    ("append metrics population/parent 2", 3),  # in the middle of the decisions after epoch 2
    ("replace last.pt", 13),  # some members are saved, and others are not
    ("replace epoch-000003", 1),  # all are saved, and the population is not
    ("append metrics quality/kid 5", 2),
    ("append tags harness.epoch", 3),  # some members have ended
)


def test_a_population_that_is_killed_ends_the_same(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*POPULATION, "--batch-runs", "5")
    text = (small / "small.yaml").read_text()
    ends = []
    for index, kill in enumerate((None, *KILLS)):
        folder = small / str(index)
        folder.mkdir()
        (folder / "small.yaml").write_text(text)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["harness", *command])
        if kill:
            with life() as process, process.killed_before(*kill):
                cli.main()
        said = harness(*command)
        assert said.code == 0, said.err
        assert_one_to_one(5)
        assert not list(Path("mlruns/studies/small").glob("population/*"))
        ends.append(everything())
        assert ends[-1] == ends[0], kill


def test_a_population_is_the_same_in_every_storage(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch, storage_url: str | None
) -> None:
    """The journal, SQLite and PostgreSQL, killed in the middle of a decision."""
    command = [*POPULATION, "--batch-runs", "5", *(() if storage_url is None else ("--storage", storage_url))]
    monkeypatch.setattr(sys, "argv", ["harness", *command])
    with life() as process, process.killed_before("append metrics population/parent 3", 2):
        cli.main()
    assert harness(*command).code == 0
    storage = open_storage(storage_url, Path("mlruns").absolute(), "")
    trials = optuna.load_study(study_name="small", storage=storage).get_trials()
    (small / "whole").mkdir()
    (small / "whole" / "small.yaml").write_text((small / "small.yaml").read_text())
    monkeypatch.chdir(small / "whole")
    assert harness(*POPULATION, "--batch-runs", "5").code == 0
    for found, expected in zip(trials, optuna_trials(), strict=True):
        assert found.state.name == "COMPLETE"
        assert found.values == expected.values
        assert found.intermediate_values == expected.intermediate_values
        for attribute in ("harness.schedule", "harness.values", "harness.parents"):
            assert found.user_attrs.get(attribute) == expected.user_attrs.get(attribute)


def test_a_population_that_is_stopped_resumes_where_it_was(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Population.evolve

    def evolve(population: Population, sessions: Sessions, reports: Reports, scores: Any) -> bool:
        if reports[0][1].epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(population, sessions, reports, scores)

    command = (*POPULATION, "--batch-runs", "5", "--set", "track.checkpoint_every=10")
    with monkeypatch.context() as patch:
        patch.setattr(Population, "evolve", evolve)
        said = harness(*command)
    assert said.code == 143, said.err
    assert [path.name for path in Path("mlruns/studies/small/population").iterdir()] == ["epoch-000002"]
    said = harness("tune", "--study", "small", "--no-system-metrics")
    assert said.code == 0, said.err
    assert_one_to_one(5)
    resumed = everything()
    (small / "whole").mkdir()
    (small / "whole" / "small.yaml").write_text((small / "small.yaml").read_text())
    monkeypatch.chdir(small / "whole")
    assert harness(*command).code == 0
    whole = everything()
    assert resumed["trials"] == whole["trials"]
    assert resumed["best"] == whole["best"]
    for name, run in whole["runs"].items():
        assert resumed["runs"][name]["metrics"] == run["metrics"]


def test_a_member_that_diverges_gets_the_weights_of_another_one(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = report.find_divergence
    seen: list[int] = []

    def find(metrics: dict[str, float], networks: object) -> str | None:
        seen.append(1)
        return "a loss is not finite" if len(seen) in (2, 6, 7, 8, 9) else original(metrics, networks)  # type: ignore[arg-type]

    monkeypatch.setattr("harness.gan.training.find_divergence", find)
    said = harness(*POPULATION, "--batch-runs", "1")
    assert said.code == 0, said.err
    assert_one_to_one(5)
    parents = [trial.user_attrs.get("harness.parents", []) for trial in optuna_trials()]
    assert [each[0][0] for each in parents if each].count(1) >= 1
    assert [number for number, each in enumerate(parents) if any(epoch == 2 for epoch, _ in each)] == [0, 1, 2, 3]
    assert all(parent == 4 for each in parents for epoch, parent in each if epoch == 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "pbt"), "generator.latent is fixed when a run starts"),
        ((*POPULATION[2:], "--pruner", "halving"), "--method pbt with --pruner"),
        ((*POPULATION[2:], "--race"), "--method pbt with --race"),
        ((*POPULATION[2:], "--sampler", "tpe"), "take qmc or random"),
        ((*POPULATION[2:], "--workers", "2"), "leave --workers and --executor out"),
        ((*POPULATION[2:], "--trials", "3"), "--trials 3: expected 4 or more"),
        ((*POPULATION[2:], "--perturb-every", "5"), "--perturb-every 5: expected a multiple of track.score_every 1"),
        (("--perturb-every", "2"), "--perturb-every 2: it is for --method pbt"),
        (("--method", "evolution"), "--method evolution: expected one of optuna, pbt"),
    ],
)
def test_what_a_population_cannot_do_is_refused_before_anything_is_tracked(
    harness: Harness, small: Path, options: tuple[str, ...], message: str
) -> None:
    said = harness("tune", "small.yaml", *options)
    assert (said.code, message in said.err) == (2, True), said.err
    assert not Path("mlruns/mlflow.db").exists() or not runs("study")


def test_a_population_cannot_grow(harness: Harness, small: Path) -> None:
    assert harness(*POPULATION, "--batch-runs", "5").code == 0
    said = harness("tune", "--study", "small", "--trials", "9")
    assert (said.code, "is a population of 5 trials, not 9" in said.err) == (2, True), said.err
