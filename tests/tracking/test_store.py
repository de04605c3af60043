"""Opening stores, and the runs and experiments begun in them."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.errors import HarnessError, UnreachableError
from harness.files import safe_file_name
from harness.tracking import Store
from harness.tracking.process_tags import process_ended, this_process


def test_importing_the_package_imports_neither_mlflow_nor_torch() -> None:
    code = "import sys, harness.tracking; assert not {'mlflow', 'torch', 'numpy'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_uri_comes_from_the_argument_then_the_environment_then_the_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Store.open(root=root).uri == f"sqlite:///{root / 'mlflow.db'}"
    shutil.copy(root / "mlflow.db", tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    store = Store.open(root=root)
    assert store.uri.endswith("other.db")
    assert store.spool == root / "spool"
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        assert Store.open("sqlite:///mlruns/mlflow.db", root=root).uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns", "/tmp/mlflow.db"])
def test_folders_are_refused_as_stores(uri: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no longer keeps runs in plain folders"):
        Store.open(uri, root=tmp_path)


@pytest.mark.parametrize("uri", ["ftp://anna:hunter2@host", "sqlite:///:memory:"])
def test_other_uris_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no known kind") as caught:
        Store.open(uri, root=tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_database_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"postgresql://\*\*\*@") as caught:
        Store.open("postgresql://anna:hunter2@127.0.0.1:9/runs", root=tmp_path)
    assert "hunter2" not in str(caught.value)


def test_files_that_are_no_store_are_refused(tmp_path: Path, database: Path) -> None:
    (tmp_path / "text.db").write_text("hello, I am a text file")
    with pytest.raises(HarnessError, match="not an SQLite database"):
        Store.open(f"sqlite:///{tmp_path / 'text.db'}", root=tmp_path)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE studies (id INTEGER)")
    with pytest.raises(HarnessError, match="not one of MLflow's"):
        Store.open(f"sqlite:///{tmp_path / 'other.db'}", root=tmp_path)
    with pytest.raises(HarnessError, match="is a folder"):
        Store.open(f"sqlite:///{tmp_path}", root=tmp_path)
    with pytest.raises(HarnessError, match="cannot keep the tracking store in"):
        Store.open(root=tmp_path / "text.db" / "mlruns")
    with pytest.raises(HarnessError, match="cannot keep a spool in"):
        Store.open(f"sqlite:///{database}", root=tmp_path / "text.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(HarnessError, match="Permission denied"):
        Store.open(root=tmp_path / "mlruns")


def test_looking_makes_no_store(tmp_path: Path, root: Path) -> None:
    for place in (tmp_path / "typo" / "mlflow.db", tmp_path / "mlruns" / "typo.db", tmp_path):
        with pytest.raises(HarnessError, match=f"there is no tracking store {place}"):
            Store.open(f"sqlite:///{place}", root=tmp_path / "runs", create=False)
    with pytest.raises(HarnessError, match=f"there is no tracking store {tmp_path / 'runs' / 'mlflow.db'}"):
        Store.open(root=tmp_path / "runs", create=False)
    store = Store.open(root=root, create=False)
    assert store.runs() == []
    assert store.sync() == []
    assert store.reconcile() == []
    assert [path.name for path in root.iterdir()] == ["mlflow.db"]
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "typo").exists()


def test_databases_of_other_mlflows_are_refused_untouched(root: Path) -> None:
    path = root / "mlflow.db"
    for revision, advice in {"bd07f7e963c5": r"mlflow db upgrade sqlite:///", "ffffffffffff": "newer MLflow"}.items():
        with sqlite3.connect(path) as database:
            database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        before = path.read_bytes()
        with pytest.raises(HarnessError, match=advice):
            Store.open(root=root)
        assert path.read_bytes() == before


def test_experiments_are_made_once_and_where_they_belong(store: Store, root: Path) -> None:
    identity = store.experiment_id("digits/first try")
    assert store.experiment_id("digits/first try") == identity
    experiment = store.client.get_experiment(identity)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.artifact_location == (root / "artifacts" / safe_file_name("digits/first try")).as_uri()


def test_an_experiment_made_by_somebody_else_in_the_same_moment_is_used(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_name, answers = store.client.get_experiment_by_name, [None]
    made = store.client.create_experiment("gan")
    monkeypatch.setattr(
        store.client, "get_experiment_by_name", lambda name: answers.pop() if answers else by_name(name)
    )
    assert store.experiment_id("gan") == made


def test_a_deleted_experiment_is_named(store: Store) -> None:
    store.client.delete_experiment(store.experiment_id("gan"))
    with pytest.raises(HarnessError, match=r"'gan' is deleted.*mlflow experiments restore"):
        store.start_run(project="gan", name="one", kind="run", params={})


def test_a_run_says_where_it_comes_from(store: Store) -> None:
    parent = store.start_run(project="gan", name="parent", kind="study", params={})
    child = store.start_run(project="gan", name="child", kind="trial", params={}, parent=parent.run_id)
    tags = store.client.get_run(child.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent.run_id
    assert tags["mlflow.runName"] == "child"
    assert tags["harness.kind"] == "trial"
    assert tags["harness.pid"] == str(os.getpid())
    assert {"harness.version", "harness.host", "mlflow.user", "mlflow.source.name", "mlflow.source.type"} <= set(tags)
    assert child.finish("FINISHED")
    assert parent.finish("FINISHED")


def test_a_run_that_cannot_be_begun_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(store.client, "create_run", away)
    with pytest.raises(HarnessError, match="failed: away"):
        store.start_run(project="gan", name="one", kind="run", params={})
    assert list(store.spool.iterdir()) == []


def test_what_is_not_there_cannot_be_downloaded(store: Store, tmp_path: Path) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={})
    with pytest.raises(HarnessError, match=r"has no 'checkpoints/best\.pt'"):
        store.download(run.run_id, "checkpoints/best.pt", tmp_path)
    assert run.finish("FINISHED")


def test_a_store_that_does_not_answer_is_no_store_without_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={})
    run.text("seed: 0", "experiment.yaml")
    assert run.finish("FINISHED")

    def silent(*_: object) -> None:
        raise OSError("503")

    monkeypatch.setattr("harness.tracking.artifacts.repository", silent)
    with pytest.raises(UnreachableError, match=r"experiment\.yaml of run .* cannot be read: .*503"):
        store.download(run.run_id, "experiment.yaml", tmp_path)
    monkeypatch.setattr(store.client, "list_artifacts", silent)
    with pytest.raises(UnreachableError, match=r"the tracking store .* failed: .*503"):
        store.download(run.run_id, "absent.yaml", tmp_path)


def test_a_process_is_gone_when_its_pid_is_free_or_taken_by_another() -> None:
    mine = this_process()
    assert not process_ended(mine)
    assert process_ended(mine | {"harness.process_start": "1.0"})
    assert not process_ended(mine | {"harness.host": "elsewhere", "harness.process_start": "1.0"})
    assert not process_ended({})
    free = max(psutil.pids()) + 10_000
    assert process_ended(mine | {"harness.pid": str(free)})
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(ended.pid).create_time()
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert process_ended(mine | {"harness.pid": str(ended.pid), "harness.process_start": repr(started)})
    ended.wait()
