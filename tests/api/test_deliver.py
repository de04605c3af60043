"""Offline runs, `sync` and `push`: what a store has afterwards is what a live run would have left there."""

from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

import pytest

import harness as package
from harness.experiment.tags import Kind, Tag
from harness.files import sqlite_uri
from harness.tracking import Store

from ..commands import Harness
from ..faults_lib.snapshot import differences, snapshot
from ..tracking.test_copy_runs import everything
from ..tuning.common import SMALL

pytestmark = pytest.mark.usefixtures("small_models")


def opened(folder: Path) -> Store:
    return Store.open(sqlite_uri(folder.absolute() / "mlflow.db"), root=folder.absolute(), create=False)


def offline() -> Store:
    return opened(Path("mlruns/offline"))


def default() -> Store:
    return opened(Path("mlruns"))


def times_are_in_order(store: Store) -> bool:
    for run in store.runs(limit=None, children=True):
        for key in run.data.metrics:
            for point in store.client.get_metric_history(run.info.run_id, key):
                if not run.info.start_time <= point.timestamp <= run.info.end_time:
                    return False
    return True


def test_a_run_that_was_offline_is_what_a_live_run_is(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--name", "same").code == 0
    (live,) = default().runs()
    expected = snapshot(default().client, live.info.run_id)
    default().client.delete_run(live.info.run_id)

    assert harness("run", "tiny.yaml", "--name", "same", "--offline").code == 0
    assert default().runs() == []
    before = everything(offline())
    said = harness("sync")
    assert (said.code, said.err) == (0, "")
    (run,) = default().runs()
    assert differences(snapshot(default().client, run.info.run_id), expected) == []
    assert everything(default()) == before  # times, too
    assert times_are_in_order(default())


def test_a_study_that_was_offline_is_one_parent_with_its_trials(harness: Harness) -> None:
    Path("small.yaml").write_text(SMALL)
    search = ("tune", "small.yaml", "--trials", "3", "--batch-runs", "1", "--pruner", "none")
    assert harness(*search).code == 0
    (live,) = default().runs()
    expected = [snapshot(default().client, run.info.run_id) for run in (live, *default().children(live.info.run_id))]
    default().client.delete_run(live.info.run_id)
    for trial in default().children(live.info.run_id):
        default().client.delete_run(trial.info.run_id)

    assert harness(*search, "--offline").code == 0
    assert Path("mlruns/offline/optuna.journal").is_file()
    before = everything(offline())
    assert harness("sync").code == 0
    (study,) = default().runs()
    trials = default().children(study.info.run_id)
    assert len(trials) == 3
    found = [snapshot(default().client, run.info.run_id) for run in (study, *trials)]
    for ours, theirs in zip(found, expected, strict=True):
        took, took_live = (each["metrics"].pop("trial/seconds", []) for each in (ours, theirs))
        assert [trial for trial, _ in took] == [trial for trial, _ in took_live]
        for part in ("status", "params", "metrics", "images", "models", "datasets"):
            assert ours[part] == theirs[part]
        assert ours["files"].keys() == theirs["files"].keys()
        assert ours["tags"].keys() == theirs["tags"].keys()
    assert everything(default()) == before


def test_sync_can_be_repeated_while_a_run_goes_on(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--offline", "--name", "long").code == 0
    assert harness("sync").code == 0
    (before,) = default().runs()
    assert harness("run", "--resume", "long", "--epochs", "5", "--offline").code == 0
    assert "0 created" in harness("sync").out
    (run,) = default().runs()
    assert run.info.run_id == before.info.run_id
    assert run.data.tags[Tag.EPOCH] == "5"
    assert everything(default()) == everything(offline())
    assert harness("sync").out.endswith("1 run, nothing new\n")


def test_a_spool_that_was_copied_from_another_machine(harness: Harness, tmp_path: Path) -> None:
    assert harness("run", "tiny.yaml", "--offline", "--spool", "node7").code == 0
    shutil.copytree("node7", tmp_path / "copy")
    shutil.rmtree("node7")
    assert harness("sync", str(tmp_path / "copy")).code == 0
    assert everything(default()) == everything(opened(tmp_path / "copy"))


def test_offline_asks_no_server(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("small.yaml").write_text(SMALL)
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked: list[object] = []
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

        def accept() -> None:
            while True:
                try:
                    asked.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("HARNESS_STORAGE", address.replace("http", "postgresql"))
        monkeypatch.setenv("HARNESS_OFFLINE", "1")
        assert harness("run", "tiny.yaml").code == 0
        assert harness("tune", "small.yaml", "--trials", "1").code == 0
        assert harness("run", "tiny.yaml", "--resume", "latest").code == 2  # a study
        assert {run.info.run_name for run in offline().runs()} >= {"small"}
        assert "small" in harness("runs").out
        assert not asked


def test_where_the_server_is_down_the_error_offers_offline(harness: Harness) -> None:
    said = harness("run", "tiny.yaml", "--tracking-uri", "http://127.0.0.1:9")
    assert said.code == 2
    assert "with --offline no server is needed" in said.err
    assert "--offline" not in harness("runs", "--tracking-uri", "http://127.0.0.1:9").err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "--spool", "x"), "--spool x: use it with --offline"),
        (("run", "--offline", "--tracking-uri", "http://h:1"), "--offline stores runs in a local folder: leave out"),
        (("tune", "--offline", "--storage", "postgresql://h/o"), "--offline asks no server: leave out --storage"),
        (("run", "--offline", "--spool", "mlruns"), "it has an MLflow store that was not created with --offline"),
        (("run", "--offline", "--spool", "tiny.yaml/x"), "--spool tiny.yaml/x cannot be written"),
        (("sync", "nowhere"), "nowhere: expected a folder"),
        (("sync", "mlruns"), "expected an offline store (--spool DIR) or a spool folder"),
        (("push", "--to", "sqlite:///team.db"), "push copies nothing: expected RUN, --study NAME or --project NAME"),
        (("push", "--to", "sqlite:///team.db", "--study", "none"), "--study none: there is none in"),
        (("push", "--to", "sqlite:///team.db", "--project", "none"), "--project none: there is none in"),
    ],
)
def test_what_does_not_go_together(harness: Harness, arguments: tuple[str, ...], expected: str) -> None:
    before = sorted(Path().rglob("*"))
    said = harness(*arguments)
    assert said.code == 2
    assert expected in said.err
    assert said.err.count("\n") <= 2  # and a line about loading
    assert sorted(Path().rglob("*")) == before


def test_a_wrong_value_of_the_variable(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "maybe")
    said = harness("run", "tiny.yaml")
    assert (said.code, said.err.splitlines()[-1]) == (2, "harness: HARNESS_OFFLINE is 'maybe': expected 1 or 0")


def test_other_params_are_refused_and_the_rest_is_sent(harness: Harness) -> None:
    for name in ("one", "two"):
        assert harness("run", "tiny.yaml", "--offline", "--name", name).code == 0
    (two, one) = offline().runs()
    other = default().start_run(
        project="gan", name="one", kind=Kind.RUN, params={"train.epochs": 9}, tags={Tag.ID: one.data.tags[Tag.ID]}
    )
    other.finish("FINISHED")
    said = harness("sync")
    assert said.code == 2
    assert "with other params (train.epochs is 9 there, 3 here): nothing was copied" in said.err
    assert {run.info.run_name for run in default().runs()} == {"one", "two"}
    assert default().client.get_run(other.run_id).data.params == {"train.epochs": "9"}
    assert two.data.tags[Tag.ID] in everything(default())


def test_push_copies_a_study_with_its_trials_and_models(harness: Harness, tmp_path: Path) -> None:
    Path("small.yaml").write_text(SMALL)
    assert harness("tune", "small.yaml", "--trials", "2", "--pruner", "none").code == 0
    assert harness("run", "tiny.yaml", "--name", "alone").code == 0
    assert harness("promote", "alone", "--as", "digits").code == 0
    team = tmp_path / "team"
    to = sqlite_uri(team / "mlflow.db")
    team.mkdir()
    assert harness("push", "--study", "small", "--to", to).code == 0
    target = Store.open(to, root=team)
    assert [run.info.run_name for run in target.runs()] == ["small"]
    assert harness("push", "--project", "gan", "--to", to).code == 0
    assert everything(target) == everything(default())
    version = target.client.get_model_version_by_alias("digits", "champion")
    (alone,) = target.tagged({Tag.EXPERIMENT: "tiny"})
    assert (version.run_id, version.tags[Tag.RUN_ID]) == (alone.info.run_id, alone.info.run_id)
    again = harness("push", "--project", "gan", "--to", to)
    assert again.out.count("nothing new") == 2


def test_push_from_python(harness: Harness, tmp_path: Path) -> None:
    run = package.run("tiny.yaml", progress=False)
    (copied,) = package.push(run, to=sqlite_uri(tmp_path / "team.db"))
    assert (copied.runs, copied.created) == (1, 1)
    assert package.push(run, to=sqlite_uri(tmp_path / "team.db"))[0].items == 0
