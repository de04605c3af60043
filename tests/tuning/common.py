"""A study small enough to be run often, and what it left behind in Optuna and in MLflow."""

from __future__ import annotations

from pathlib import Path

import optuna
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from harness.experiment.dimensions import Choices, Dimension, Range
from harness.experiment.search import Search
from harness.tuning.settings import Settings
from harness.tuning.storage import open_storage

from ..commands import client

# One epoch of three steps, scored with as few images as can be.
SMALL = """
name: small
data: {name: mnist, subset: 60, validation: 100}
generator: {kind: mlp, latent: 8, widths: [16, 16]}
discriminator: {kind: mlp, widths: [16, 16], dropout: 0.3}
optimizer: {lr: 1e-3}
train: {epochs: 4, batch_size: 20, precision: fp32, device: cpu}
track: {samples_every: 4, checkpoint_every: 1, score_every: 1}
quality: {samples: 50, samples_while_training: 30}
search:
  optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
  generator.latent: {low: 4, high: 16, log: true}
  discriminator.dropout: {low: 0.0, high: 0.5}
search_prune_from: 2
"""
QUIET = ("--no-system-metrics", "--batch-runs", "1")

SPACE: dict[str, Dimension] = {
    "optimizer.lr": Range(1e-4, 1e-2, log=True),
    "generator.latent": Range(4, 16, log=True, integer=True),
    "optimizer.schedule": Choices(("constant", "linear")),
}


def settings(experiment: object, **changes: object) -> Settings:
    values: dict[str, object] = {
        "experiment": experiment,
        "search": Search(SPACE),
        "metric": "kid",
        "direction": "minimize",
        "sampler": "tpe",
        "pruner": "halving",
        "min_resource": 2,
        "reduction_factor": 3,
        "batch_runs": 1,
        "planned": 20,
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


def optuna_trials(study: str = "small") -> list[FrozenTrial]:
    storage = open_storage(None, Path("mlruns").absolute(), "")
    trials: list[FrozenTrial] = optuna.load_study(study_name=study, storage=storage).get_trials()
    return trials


def runs(kind: str) -> dict[str, Run]:
    """All runs of a kind by name; no two may have the same."""
    found = client().search_runs(["1"], f"tags.`harness.kind` = '{kind}'", max_results=1000)
    by_name = {str(run.info.run_name): run for run in found}
    assert len(by_name) == len(found)
    return by_name


def the_study() -> Run:
    (run,) = runs("study").values()
    return run


STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def assert_one_to_one(total: int, study: str = "small") -> None:
    """Every trial is one nested run with the same values and the status that goes with its state, and the reverse."""
    trials, found, parent = optuna_trials(study), runs("trial"), the_study()
    assert len(trials) == total
    assert set(found) == {f"{study}-{trial.number}" for trial in trials}
    for trial in trials:
        run = found[f"{study}-{trial.number}"]
        diverged = "harness.diverged" in trial.user_attrs
        assert run.info.status == ("FAILED" if diverged else STATUS[trial.state.name]), trial
        assert ("harness.pruned" in run.data.tags) == (trial.state.name == "PRUNED")
        assert ("harness.diverged" in run.data.tags) == diverged
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["harness.trial"] == str(trial.number)
        assert trial.user_attrs.get("harness.run_id", run.info.run_id) == run.info.run_id
        for path, value in trial.params.items():
            assert run.data.params[path] == str(value)
        reported = {point.step: point.value for point in client().get_metric_history(run.info.run_id, "quality/kid")}
        assert trial.intermediate_values.items() <= reported.items()
        if trial.state.name == "COMPLETE":
            assert run.data.metrics["validation/kid"] == trial.value
            assert not any(name.startswith("test/") for name in run.data.metrics)
    assert not client().search_runs(["1"], "attributes.status = 'RUNNING'")
