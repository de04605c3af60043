"""Runs that are copied to another store: everything that MlflowClient returns is the same, but for the ids."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from harness.errors import HarnessError
from harness.experiment.tags import Kind, Tag
from harness.files import sqlite_uri
from harness.tracking import RunLog, Store, artifacts
from harness.tracking.copy_runs import Copied, copy_family, find_families

PARENT = "mlflow.parentRunId"
_ID = re.compile(r"(?:m-)?[0-9a-f]{32}")


@pytest.fixture
def other(tmp_path: Path, database: Path) -> Store:
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy(database, folder / "mlflow.db")
    return Store.open(sqlite_uri(folder / "mlflow.db"), root=folder)


@pytest.fixture
def gallery(filled: Path) -> Store:
    return Store.open(sqlite_uri(filled / "mlruns" / "mlflow.db"), root=filled / "mlruns")


def copy_all(source: Store, target: Store) -> list[Copied]:
    return [copy_family(source, target, family) for family in find_families(source, source.runs(limit=1000))]


def everything(store: Store) -> dict[str, dict[str, Any]]:
    """What MlflowClient returns of every run, by `harness.id`; ids of runs are replaced by theirs."""
    client = store.client
    runs = list(store.runs(limit=1000, children=True))
    names = {run.info.run_id: run.data.tags[Tag.ID] for run in runs}
    return {run.data.tags[Tag.ID]: everything_of(client, run, names) for run in runs}


def everything_of(client: MlflowClient, run: Run, names: dict[str, str]) -> dict[str, Any]:
    outputs = sorted(
        ((output, client.get_logged_model(output.model_id)) for output in run.outputs.model_outputs),
        key=lambda pair: (pair[1].name, pair[0].step),
    )
    names = names | {model.model_id: f"model-{number}" for number, (_, model) in enumerate(outputs)}

    def named(text: str) -> str:
        return _ID.sub(lambda found: names.get(found[0], found[0]), text)

    info = run.info
    return {
        "info": (info.run_name, info.status, info.start_time, info.end_time, info.user_id, info.lifecycle_stage),
        "project": client.get_experiment(info.experiment_id).name,
        "params": dict(run.data.params),
        "tags": {key: named(value) for key, value in run.data.tags.items()},
        "metrics": {
            key: sorted(
                (point.step, point.timestamp, repr(point.value))
                for point in client.get_metric_history(info.run_id, key)
            )
            for key in run.data.metrics
        },
        "newest": {key: repr(value) for key, value in run.data.metrics.items()},
        "datasets": [
            (each.dataset.to_dictionary(), [(tag.key, tag.value) for tag in each.tags])
            for each in run.inputs.dataset_inputs
        ],
        "files": files(client, info.run_id, named),
        "models": [
            (output.step, model.name, str(model.status), dict(model.tags), files(client, model.model_id, named))
            for output, model in outputs
        ],
    }


def files(client: MlflowClient, owner: str, named: Any) -> dict[str, str | bytes]:
    with TemporaryDirectory() as folder:
        root = Path(artifacts.repository(client, owner).download_artifacts("", folder))
        return {
            path.relative_to(root).as_posix(): content(path, named)
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


def content(path: Path, named: Any) -> str | bytes:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return path.read_bytes()
    if path.name == "MLmodel":  # where the model is, which differs by store
        text = re.sub(r"artifact_path: .*", "artifact_path:", text)
    return str(named(text))


def small_run(store: Store, **options: Any) -> RunLog:
    given: dict[str, Any] = {"project": "p", "name": "one", "kind": Kind.RUN, "params": {"lr": "0.1"}}
    return store.start_run(**given | options)


def test_a_copy_is_the_same_but_for_the_ids(gallery: Store, other: Store) -> None:
    copied = copy_all(gallery, other)
    theirs, ours = everything(gallery), everything(other)
    assert len(theirs) > 10
    assert sum(each.created for each in copied) == len(theirs) == len(ours)
    for harness_id, expected in theirs.items():
        for part, value in expected.items():
            assert ours[harness_id][part] == value, f"{part} of {expected['info'][0]}"


def test_copying_again_changes_nothing(gallery: Store, other: Store) -> None:
    copy_all(gallery, other)
    before = everything(other)
    assert all(each.created == each.items == 0 for each in copy_all(gallery, other))
    assert everything(other) == before


def test_copying_again_adds_what_is_new(store: Store, other: Store, tmp_path: Path) -> None:
    with_picture = np.zeros((4, 4), np.uint8)
    log = small_run(store)
    log.metrics(1, {"loss": 1.0, "nothing": float("nan")})
    log.text("first", "notes.md")
    log.flush(10)
    (first,) = copy_all(store, other)
    running = other.get_run(first.run_id)
    assert running is not None
    assert running.info.status == "RUNNING"

    log.metrics(2, {"loss": 0.5})
    log.image("samples", 2, with_picture)
    log.text("other", "notes.md")
    log.tags({"mood": "good"})
    log.finish("FINISHED")
    (second,) = copy_all(store, other)
    assert (second.run_id, second.created) == (first.run_id, 0)
    assert everything(other) == everything(store)


def test_tags_of_an_earlier_end_go_when_the_run_was_resumed(store: Store, other: Store) -> None:
    log = small_run(store)
    log.tags({Tag.ERROR: "RuntimeError: no"})
    log.finish("FAILED")
    copy_all(store, other)
    resumed = store.resume_run(log.run_id)
    resumed.metrics(1, {"loss": 1.0})
    resumed.mark_changed()
    resumed.finish("FINISHED")
    copy_all(store, other)
    (run,) = other.runs()
    assert run.info.status == "FINISHED"
    assert Tag.ERROR not in run.data.tags


def test_a_child_brings_its_parents_and_no_siblings(store: Store, other: Store) -> None:
    parent = small_run(store, kind=Kind.STUDY, name="study")
    children = [small_run(store, kind=Kind.TRIAL, name=f"trial-{n}", parent=parent.run_id) for n in range(2)]
    for log in (*children, parent):
        log.finish("FINISHED")
    run = store.get_run(children[1].run_id)
    assert run is not None
    (family,) = find_families(store, [run])
    copied = copy_family(store, other, family)
    assert (copied.name, copied.created) == ("study", 2)
    (child,) = other.children(copied.run_id)
    assert child.info.run_name == "trial-1"


def test_a_description_that_was_edited_in_the_target_keeps_the_user_s_words(store: Store, other: Store) -> None:
    log = small_run(store, note="mine")
    log.describe("made by harness")
    log.finish("FINISHED")
    (copied,) = copy_all(store, other)
    other.client.set_tag(copied.run_id, "mlflow.note.content", "edited there")
    store.describe(log.run_id, lambda _: "made later")
    copy_all(store, other)
    run = other.get_run(copied.run_id)
    assert run is not None
    text = run.data.tags["mlflow.note.content"]
    assert text.startswith("edited there")
    assert text.endswith("made later")


def test_other_params_in_the_target_are_refused_before_anything_is_written(store: Store, other: Store) -> None:
    parent = small_run(store, kind=Kind.REPLICATES, name="seeds")
    log = small_run(store, parent=parent.run_id)
    log.finish("FINISHED")
    parent.finish("FINISHED")
    theirs = small_run(other, params={"lr": "0.2"}, tags={Tag.ID: log.harness_id})
    theirs.finish("FINISHED")
    before = everything(other)
    with pytest.raises(HarnessError, match=r"with other params \(lr is 0.2 there, 0.1 here\): nothing was copied"):
        copy_all(store, other)
    assert everything(other) == before


def test_a_run_that_was_trained_further_in_the_target_is_left_alone(store: Store, other: Store) -> None:
    log = small_run(store, tags={Tag.EPOCH: "3"})
    log.finish("KILLED")
    (copied,) = copy_all(store, other)
    other.client.set_tag(copied.run_id, Tag.EPOCH, "5")
    with pytest.raises(HarnessError, match=r"trained further in .* to epoch 5: nothing was copied; it is at epoch 3"):
        copy_all(store, other)


def test_a_run_that_is_deleted_in_the_target_is_refused(store: Store, other: Store) -> None:
    log = small_run(store)
    log.finish("FINISHED")
    (copied,) = copy_all(store, other)
    other.client.delete_run(copied.run_id)
    with pytest.raises(HarnessError, match=r"run one is deleted in .*restore"):
        copy_all(store, other)


def test_a_run_that_harness_did_not_log_is_refused(store: Store, other: Store) -> None:
    foreign = store.client.create_run(store.experiment_id("p"))
    with pytest.raises(HarnessError, match="was not logged by harness and cannot be copied"):
        copy_family(store, other, [foreign])
