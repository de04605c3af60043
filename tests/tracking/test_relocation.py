"""A store whose folder was moved or copied: earlier runs are whole there, and the old folder is left alone."""

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.errors import HarnessError
from harness.tracking import Store, relocation


def finished(store: Store, name: str, project: str = "gan") -> str:
    """The id of a finished run with one artifact: a text that holds its name."""
    run = store.start_run(project=project, name=name, kind="run", params={})
    run.text(name, "texts/name.txt")
    assert run.finish("FINISHED")
    return run.run_id


def text_of(store: Store, run_id: str, scratch: Path) -> str:
    into = scratch / run_id
    return store.download(run_id, "texts/name.txt", into).read_text()


def cells_with(database: Path, text: str) -> list[str]:
    """Table and column of every value in a database that contains a text."""
    found = []
    with sqlite3.connect(database) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                if connection.execute(f"SELECT 1 FROM {table} WHERE instr({column}, ?)", (text,)).fetchone():
                    found.append(f"{table}.{column}")
    return found


@pytest.fixture
def project(tmp_path: Path, database: Path) -> Path:
    """The folder `first` with a store in which one run is finished."""
    root = tmp_path / "first" / "mlruns"
    root.mkdir(parents=True)
    shutil.copy(database, root / "mlflow.db")
    finished(Store.open(root=root), "early")
    return tmp_path / "first"


def test_a_moved_store_holds_its_runs_and_writes_nothing_to_the_old_folder(project: Path, tmp_path: Path) -> None:
    store = Store.open(root=project / "mlruns")
    early = store.find("early").info.run_id
    model = store.client.create_logged_model("1", name="sampler", source_run_id=early)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text(f"artifact_path: {model.artifact_location}\nmodel_id: x\n")
    store.client.log_model_artifacts(model.model_id, str(tmp_path / "model"))
    store.client.create_registered_model("digits")
    store.client.create_model_version("digits", model.artifact_location, run_id=early, model_id=model.model_id)
    store.client.set_model_version_tag("digits", "1", "note", "kept")
    store.client.set_tag(early, "harness.storage", str(project / "mlruns" / "optuna.journal"))
    MlflowClient(store.uri).create_experiment("notebook", (project / "mlruns" / "7").as_uri())
    (project / "mlruns" / "7").mkdir()

    moved = tmp_path / "second %20?#"
    project.rename(moved)
    said: list[str] = []
    store = Store.open(root=moved / "mlruns", message=said.append)
    assert len(said) == 1
    assert f"moved or copied from {project}/mlruns: the artifact locations of 1 runs" in said[0]
    assert cells_with(moved / "mlruns" / "mlflow.db", str(project)) == []
    assert text_of(store, early, tmp_path) == "early"
    late = finished(store, "late")
    assert text_of(store, late, tmp_path) == "late"
    location = store.client.get_logged_model(model.model_id).artifact_location
    assert location.startswith((moved / "mlruns").as_uri())
    registered = store.download_registered("models:/digits/1", tmp_path / "registered")
    assert (registered / "MLmodel").read_text() == f"artifact_path: {location}\nmodel_id: x\n"
    assert store.client.get_run(early).data.tags["harness.storage"] == f"{moved}/mlruns/optuna.journal"
    assert store.client.get_experiment_by_name("notebook").artifact_location == (moved / "mlruns" / "7").as_uri()
    assert not project.exists()

    Store.open(root=moved / "mlruns", message=said.append)
    assert len(said) == 1


def test_a_copy_and_its_original_are_independent(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    before = (project / "mlruns" / "mlflow.db").read_bytes()
    run = finished(Store.open(root=copy / "mlruns"), "in the copy")
    assert (project / "mlruns" / "mlflow.db").read_bytes() == before
    assert not list(project.rglob(f"*{run}*"))

    original = Store.open(root=project / "mlruns")
    early = original.find("early").info.run_id
    (project / "mlruns/artifacts/gan" / early / "artifacts/texts/name.txt").write_text("changed")
    assert text_of(Store.open(root=copy / "mlruns"), early, tmp_path) == "early"
    shutil.rmtree(copy)
    assert text_of(Store.open(root=project / "mlruns"), early, tmp_path) == "changed"


def test_what_was_pending_in_a_moved_store_is_shipped_to_it(project: Path, tmp_path: Path) -> None:
    store = Store.open(root=project / "mlruns")
    run = store.start_run(project="gan", name="cut", kind="run", params={})
    run.flush(30)
    run._shipper._shipper.ship = lambda **_: None  # type: ignore[method-assign]  # the store is away
    run.metrics(1, {"loss": 2.0})
    run.text("pending", "texts/name.txt")
    run.finish("KILLED", timeout=0)
    run._shipper.join()

    for place in (tmp_path / "copy", tmp_path / "moved"):
        if place.name == "copy":
            shutil.copytree(project, place)
        else:
            project.rename(place)
        store = Store.open(root=place / "mlruns")
        assert any("shipped" in line for line in store.sync())
        assert store.history(run.run_id, "loss") == {1: 2.0}
        assert store.client.get_run(run.run_id).info.status == "KILLED"
        assert text_of(store, run.run_id, tmp_path / place.name) == "pending"
    assert not project.exists()


def test_locations_of_the_users_own_stay(project: Path, tmp_path: Path) -> None:
    elsewhere = (tmp_path / "elsewhere" / "artifacts" / "mine").as_uri()
    beside = (tmp_path / "firsthand" / "mlruns" / "artifacts" / "mine").as_uri()
    client = Store.open(root=project / "mlruns").client
    for name, location in (("mine", elsewhere), ("beside", beside), ("bucket", "s3://bucket/artifacts/bucket")):
        client.create_experiment(name, location)
    project.rename(tmp_path / "second")
    client = Store.open(root=tmp_path / "second" / "mlruns").client
    found = [client.get_experiment_by_name(name).artifact_location for name in ("mine", "beside", "bucket")]
    assert found == [elsewhere, beside, "s3://bucket/artifacts/bucket"]


def test_a_database_that_is_copied_alone_reads_the_artifacts_of_its_original(project: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    shutil.copy(project / "mlruns" / "mlflow.db", tmp_path / "backup" / "mlflow.db")
    for _ in range(2):  # once more with artifacts of its own
        store = Store.open(f"sqlite:///{tmp_path / 'backup' / 'mlflow.db'}", root=tmp_path / "other")
        assert text_of(store, store.find("early").info.run_id, tmp_path) == "early"
        finished(store, "late", "another project")


def test_the_old_folder_may_be_closed_to_this_user(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project, tmp_path / "copy")
    stat = Path.stat

    def closed(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(project):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", closed)
    store = Store.open(root=tmp_path / "copy" / "mlruns")
    assert text_of(store, store.find("early").info.run_id, tmp_path) == "early"


def test_a_store_opened_through_a_link_is_where_it_was(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    said: list[str] = []
    store = Store.open(root=tmp_path / "link" / "mlruns", message=said.append)
    assert text_of(store, store.find("early").info.run_id, tmp_path) == "early"
    project.rename(tmp_path / "second")
    project.symlink_to(tmp_path / "second")
    Store.open(root=tmp_path / "second" / "mlruns", message=said.append)
    assert said == []


def test_an_empty_store_moves_without_a_word(tmp_path: Path, database: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(database, tmp_path / "mlruns" / "mlflow.db")
    said: list[str] = []
    store = Store.open(root=tmp_path / "mlruns", message=said.append)
    assert said == []
    assert store.client.get_experiment("0").artifact_location == (tmp_path / "mlruns" / "artifacts" / "0").as_uri()


def test_a_store_is_not_rewritten_while_a_process_writes_to_it(project: Path, tmp_path: Path) -> None:
    run = Store.open(root=project / "mlruns").start_run(project="gan", name="alive", kind="run", params={})
    run.flush(30)
    moved = tmp_path / "second"
    project.rename(moved)
    locations = cells_with(moved / "mlruns" / "mlflow.db", f"{project}/mlruns/artifacts")
    try:
        with pytest.raises(HarnessError, match=r"moved from .*first/mlruns while process \d+ writes run alive"):
            Store.open(root=moved / "mlruns")
        assert cells_with(moved / "mlruns" / "mlflow.db", f"{project}/mlruns/artifacts") == locations
    finally:
        moved.rename(project)  # where it finds itself again
        assert run.finish("FINISHED")
    project.rename(moved)
    store = Store.open(root=moved / "mlruns")
    assert store.find("alive").info.artifact_uri.startswith(moved.as_uri())


def test_a_rewrite_that_fails_changes_nothing(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "second"
    project.rename(moved)
    before = cells_with(moved / "mlruns" / "mlflow.db", str(project))

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    with monkeypatch.context() as patch:
        patch.setattr(relocation, "_rewrite_models", fail)
        with pytest.raises(HarnessError, match="cannot be rewritten: attempt to write a readonly database"):
            Store.open(root=moved / "mlruns")
    assert cells_with(moved / "mlruns" / "mlflow.db", str(project)) == before
    assert Store.open(root=moved / "mlruns").find("early").info.artifact_uri.startswith(moved.as_uri())


def test_of_several_that_open_a_moved_store_at_once_one_rewrites_it(project: Path, tmp_path: Path) -> None:
    moved = tmp_path / "second"
    project.rename(moved)
    said: list[str] = []
    barrier = threading.Barrier(4)

    def open_it() -> None:
        barrier.wait()
        relocation.relocate(moved / "mlruns" / "mlflow.db", moved / "mlruns" / "spool", said.append)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1
    assert cells_with(moved / "mlruns" / "mlflow.db", str(project)) == []
