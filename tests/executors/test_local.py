"""Processes of this machine as workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.executors import open_executor
from harness.executors.local import resource_environment
from harness.experiment.tags import Tag

from ..commands import Harness, client, run_named


def test_workers_divide_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    shares = [resource_environment(index, 3) for index in range(3)]
    assert [share["OMP_NUM_THREADS"] for share in shares] == ["2", "2", "2"]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4", "7", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" not in resource_environment(0, 100)
    assert resource_environment(0, 100)["OMP_NUM_THREADS"] == "1"


def test_options_of_other_executors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="--slurm time=1: use it with --executor slurm"):
        open_executor("local", workers=1, folder=tmp_path, options=("time=1",))
    with pytest.raises(HarnessError, match="--address host:1: use it with --executor ray"):
        open_executor("local", workers=1, folder=tmp_path, address="host:1")


def test_an_unknown_executor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="--executor kubernetes: expected one of local, slurm, ray"):
        open_executor("kubernetes", workers=1, folder=tmp_path)


@pytest.mark.usefixtures("small_models")
def test_seeds_are_trained_by_processes_of_this_machine(harness: Harness) -> None:
    said = harness("run", "tiny.yaml", "--seeds", "2", "--workers", "2", "--name", "two")
    assert said.code == 0, said.err
    parent = run_named("two")
    assert (parent.info.status, parent.data.tags[Tag.SEEDS_ENDED]) == ("FINISHED", "2")
    children = client().search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(run.data.params["train.seed"] for run in children) == ["0", "1"]
