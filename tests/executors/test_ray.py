"""Workers as Ray actors, on a real cluster of two nodes on this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.executors import open_executor, supervise
from harness.experiment.tags import Tag

from ..commands import Harness, client, run_named, spawn
from ..tuning.common import QUIET, SMALL, assert_one_to_one, runs, the_study
from .jobs import Dies, Fails, FileJob, UntilSignal

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    options = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        cluster.second = cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=100_000_000)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_each_worker_has_its_share_and_secrets_stay_out_of_the_dashboard(cluster: Any, tmp_path: Path) -> None:
    job = FileJob(tmp_path, {"SECRET": "hush-hush"})
    executor = open_executor("ray", workers=2, folder=tmp_path, address=cluster.address)
    try:
        workers = executor.start(job, [0, 1])
        while alive := [worker for worker in workers if worker.is_alive()]:
            executor.wait(alive, 1)
        assert [(worker.exit_code(), worker.failure()) for worker in workers] == [(0, None), (0, None)]
        for index in (0, 1):
            (line,) = job.lines(index)
            assert line.split()[1:] == ["1", "hush-hush"]
    finally:
        executor.close()


def test_a_worker_on_a_lost_node_is_replaced_on_the_node_that_is_left(cluster: Any, tmp_path: Path) -> None:
    job = UntilSignal(tmp_path)
    executor = open_executor("ray", workers=2, folder=tmp_path, address=cluster.address)
    removed = False

    def update() -> int:
        nonlocal removed
        if not removed and all(job.lines(index) for index in (0, 1)):
            cluster.remove_node(cluster.second, allow_graceful=False)
            removed = True
            # The worker that is left makes room for the one that is started again.
            threading.Timer(3, (tmp_path / "done").touch).start()
        return 0

    done = tmp_path / "done"
    try:
        assert supervise(executor, job, 2, update=update, is_done=lambda: done.exists() and lost_is_back(job)) is None
    finally:
        executor.close()
    assert removed


def lost_is_back(job: FileJob) -> bool:
    return sum(len([line for line in job.lines(index) if not line.startswith("saved")]) for index in (0, 1)) >= 3


def test_stop_lets_the_job_save(cluster: Any, tmp_path: Path) -> None:
    job = UntilSignal(tmp_path)
    executor = open_executor("ray", workers=1, folder=tmp_path, address=cluster.address)
    try:
        (worker,) = executor.start(job, [0])
        job.wait_for_lines(0, 1)
        worker.stop()
        while worker.is_alive():
            executor.wait([worker], 1)
        assert job.lines(0)[1] == "saved at SIGTERM"
        assert worker.exit_code() == 0
    finally:
        executor.close()


def test_what_a_job_raises_is_one_line(cluster: Any, tmp_path: Path) -> None:
    executor = open_executor("ray", workers=1, folder=tmp_path, address=cluster.address)
    try:
        with pytest.raises(HarnessError) as failed:
            supervise(executor, Fails(tmp_path), 1, update=lambda: 0, is_done=lambda: False)
        assert "4 workers in a row have ended without a result (Ray actor 0: the storage is gone" in str(failed.value)
        assert "secret" not in str(failed.value)
        job = Dies(tmp_path)
        (tmp_path / "0.txt").unlink()
        assert supervise(executor, job, 1, update=lambda: 0, is_done=lambda: len(job.lines(0)) == 2) is None
    finally:
        executor.close()


def test_a_study_that_loses_a_node_has_exactly_its_trials(cluster: Any, harness: Harness) -> None:
    Path("small.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 6"))
    words = ("tune", "small.yaml", "--trials", "16", *QUIET, "--pruner", "none", "--executor", "ray", "--workers", "2")
    process = spawn(*words, "--address", cluster.address)
    deadline = time.monotonic() + 200
    while len(runs("trial")) < 5:
        assert time.monotonic() < deadline, "no trials"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.3)
    cluster.remove_node(cluster.second, allow_graceful=False)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "16 of 16 trials" in output
    assert_one_to_one(16)
    assert the_study().info.status == "FINISHED"


def test_a_killed_command_is_continued_by_the_same_command(cluster: Any, harness: Harness) -> None:
    Path("small.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 20"))
    words = ("tune", "small.yaml", "--trials", "4", *QUIET, "--pruner", "none", "--executor", "ray", "--workers", "2")
    process = spawn(*words, "--address", cluster.address)
    deadline = time.monotonic() + 200
    # Each has a checkpoint: a trial without one is trained from the start, as another run of the same name.
    while len([run for run in runs("trial").values() if "quality/kid" in run.data.metrics]) < 2:
        assert time.monotonic() < deadline, "no trials"
        time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended = spawn(*words, "--address", cluster.address)
    output, _ = ended.communicate(timeout=300)
    assert ended.returncode == 0, output
    assert_one_to_one(4)


def test_seeds_are_trained_by_actors(cluster: Any, harness: Harness) -> None:
    words = ("run", "tiny.yaml", "--seeds", "3", "--name", "three", "--executor", "ray", "--workers", "2")
    process = spawn(*words, "--address", cluster.address)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    parent = run_named("three")
    assert (parent.info.status, parent.data.tags[Tag.SEEDS_ENDED]) == ("FINISHED", "3")
    children = client().search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(run.data.params["train.seed"] for run in children) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("nowhere", "--address nowhere: expected HOST:PORT of a Ray head node"),
        ("127.0.0.1:9", "--address 127.0.0.1:9: no Ray head node answers there .Connection refused.; start one with"),
    ],
)
def test_a_wrong_address_is_one_line(tmp_path: Path, address: str, expected: str) -> None:
    with pytest.raises(HarnessError, match=expected):
        open_executor("ray", workers=1, folder=tmp_path, address=address)


def test_without_ray_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HarnessError, match=r"pip install 'gan-harness\[ray\]'"):
        open_executor("ray", workers=1, folder=tmp_path)
    assert os.environ.get("RAY_ADDRESS") is None
