"""Commands in a folder that was moved, copied, deleted, or has an unusual name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest

from harness import cli

from ..commands import Harness, client, run_named
from ..tuning.common import QUIET, SMALL


def test_runs_and_studies_go_on_in_a_moved_folder_and_in_a_copy(
    harness: Harness, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "small.yaml").write_text(SMALL)
    tune = ("tune", "small.yaml", *QUIET, "--pruner", "none")
    assert harness("run", "tiny.yaml", "--name", "one", "--epochs", "1", "--no-system-metrics").code == 0
    assert harness(*tune, "--trials", "1").code == 0
    assert harness("promote", "one", "--as", "digits").code == 0
    moved, copy = workplace.with_name("moved"), workplace.with_name("copy")
    workplace.rename(moved)
    monkeypatch.chdir(moved)

    said = harness("sample", "one", "--count", "4", "--seed", "1", "--out", "moved.npz")
    assert said.code == 0
    assert said.err.count("\n") == 1
    assert f"moved or copied from {workplace}/mlruns" in said.err
    assert harness("history", "one", "--out", "history.png").code == 0
    assert harness("evaluate", "one").code == 0
    assert harness("run", "--resume", "one", "--epochs", "2", "--no-system-metrics").code == 0
    assert harness("run", "tiny.yaml", "--name", "two", "--epochs", "1", "--no-system-metrics").code == 0
    assert harness(*tune, "--trials", "2").code == 0
    assert run_named("small").data.tags["harness.storage"] == str(moved / "mlruns" / "optuna.journal")
    assert harness("compare", "one", "two", "--html", "page.html").code == 0
    assert harness("sample", "small", "--count", "4", "--out", "study.png").code == 0
    assert not workplace.exists()

    shutil.copytree(moved, copy)
    before = (moved / "mlruns" / "mlflow.db").read_bytes()
    files = sorted(moved.rglob("*"))
    monkeypatch.chdir(copy)
    assert harness("run", "--resume", "two", "--epochs", "2", "--no-system-metrics").code == 0
    assert harness(*tune, "--trials", "3").code == 0
    assert run_named("two").data.tags["harness.epoch"] == "2"
    assert (moved / "mlruns" / "mlflow.db").read_bytes() == before
    assert sorted(moved.rglob("*")) == files

    shutil.rmtree(moved)
    assert harness("sample", "two", "--count", "4", "--out", "copy.png").code == 0
    found = client().get_model_version_by_alias("digits", "champion")
    assert found.source.startswith(copy.as_uri())


def test_a_run_trains_samples_and_loads_in_a_folder_with_a_percent_sign(
    harness: Harness, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workplace.with_name("a%20b")
    workplace.rename(folder)
    monkeypatch.chdir(folder)
    assert harness("run", "tiny.yaml", "--name", "one", "--epochs", "1", "--no-system-metrics").code == 0
    assert not list((folder / "mlruns" / "spool").iterdir())  # everything is shipped, the models too
    assert harness("sample", "one", "--out", "a.png").code == 0
    mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
    sampler = mlflow.pyfunc.load_model(f"runs:/{run_named('one').info.run_id}/sampler")
    images = sampler.predict([{"count": 2, "seed": 1}])
    assert np.shape(images) == (2, 28, 28)
    assert {path.name for path in folder.parent.iterdir()} == {"a%20b"}


def test_a_deleted_working_directory_is_one_line_for_every_command(
    harness: Harness, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = workplace / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        for command in cli.cli.commands:
            said = harness(command)
            assert (said.code, said.out) == (2, ""), command
            assert said.err.startswith("harness: the working directory cannot be used (No such file"), command
            assert said.err.count("\n") == 1, command
    finally:
        os.chdir(workplace)
