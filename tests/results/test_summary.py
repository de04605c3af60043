"""Which run is meant where one is wanted: of a study the best trial that is still there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from harness.errors import HarnessError
from harness.results import summary
from harness.tracking import Store

from ..commands import Harness

Trial = tuple[str, Mapping[str, float], Mapping[str, str]]  # status, metrics, tags


@pytest.fixture
def copy(filled: Path, tmp_path: Path) -> str:
    """A database with the runs of the gallery, in which they may be deleted."""
    shutil.copy(filled / "mlruns" / "mlflow.db", tmp_path / "copy.db")
    return f"sqlite:///{tmp_path / 'copy.db'}"


def test_without_the_best_trial_a_study_means_the_next_best(gallery: Harness, copy: str, tmp_path: Path) -> None:
    store = Store.open(copy, create=False)
    trials = store.children(store.find("small").info.run_id, {"harness.kind": "trial"})
    ranked = sorted(trials, key=lambda trial: trial.data.metrics["validation/kid"])
    there, picture = ("--tracking-uri", copy), tmp_path / "digits.png"
    said = gallery("sample", "small", "--out", str(picture), "--count", "4", *there)
    assert (said.code, said.err) == (0, "")

    best, second = (trial.data.tags["harness.trial"] for trial in ranked[:2])
    store.client.delete_run(ranked[0].info.run_id)
    line = f"trial {best}, the best of study small, is deleted: trial {second}, the next best, is taken"
    said = gallery("sample", "small", "--out", str(picture), "--count", "4", *there)
    assert said.code == 0
    assert said.err.startswith(line)
    assert said.err.count("\n") == 1
    assert f"mlflow runs restore --run-id {ranked[0].info.run_id}" in said.err
    said = gallery("compare", "small", "quick", *there)
    assert said.code == 0
    assert line in said.err
    assert f"small-{second}" in said.out

    for trial in ranked[1:]:
        store.client.delete_run(trial.info.run_id)
    sample = ("sample", "small", "--out", str(picture))
    for command in (sample, ("compare", "small", "quick"), ("history", "small"), ("serve", "small")):
        said = gallery(*command, *there)
        assert (said.code, said.err.count("\n")) == (2, 1), command
        assert f"trial {best}, the best of study small, is deleted, and no other is complete" in said.err
    said = gallery("promote", "small", "--as", "digits", *there)
    assert (said.code, said.err.count("\n")) == (2, 1)


def study(store: Store, trials: list[Trial], **params: str) -> Run:
    """A study of trials that ended with that status, those metrics and those tags."""
    log = store.start_run(project="gan", name="s", kind="study", params={f"study.{k}": v for k, v in params.items()})
    for number, (status, metrics, tags) in enumerate(trials):
        trial = store.start_run(
            project="gan",
            name=f"s-{number}",
            kind="trial",
            params={},
            parent=log.run_id,
            tags={"harness.trial": str(number), **tags},
        )
        trial.metrics(1, metrics)
        trial.finish(status)
    log.finish("KILLED")
    return MlflowClient(store.uri).get_run(log.run_id)


PRUNED: Trial = ("KILLED", {"quality/kid": 0.1}, {"harness.pruned": "1"})


def test_a_study_without_a_complete_trial_says_what_it_has(workplace: Path) -> None:
    store = Store.open(create=False)
    failed = ("FAILED", {"quality/kid": 0.2}, {"harness.error": "no luck"})
    with pytest.raises(HarnessError, match="no trial of study s is complete: 2 pruned, 1 failed"):
        summary.resolve_run(store, study(store, [failed, PRUNED, PRUNED], metric="kid", direction="minimize"))


def test_of_a_study_that_was_stopped_the_best_so_far_is_meant(workplace: Path) -> None:
    """By its own metric and direction; one that diverged has a score, too."""
    store = Store.open(create=False)
    said: list[str] = []
    trials: list[Trial] = [
        ("FINISHED", {"validation/coverage": 0.5, "validation/kid": 0.1}, {}),
        ("FAILED", {"validation/coverage": 0.1, "validation/kid": 9.0}, {"harness.diverged": "in epoch 2"}),
        ("FINISHED", {"validation/coverage": 0.7, "validation/kid": 0.2}, {}),
        ("FINISHED", {"validation/coverage": 0.9, "validation/kid": 0.0}, {"harness.trial": "3, abandoned"}),
        PRUNED,
    ]
    found = study(store, trials, metric="coverage", direction="maximize")
    assert summary.resolve_run(store, found, said.append).info.run_name == "s-2"
    assert said == ["study s has not ended: trial 2, the best so far, is taken"]
