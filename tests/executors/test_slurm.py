"""Workers as Slurm jobs, on a real cluster of one node."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.executors import Executor, open_executor, supervise
from harness.executors.base import Worker

from .jobs import Dies, Fails, FileJob, UntilSignal
from .slurm_cluster import SlurmCluster

pytestmark = pytest.mark.slurm


@pytest.fixture
def executor(slurm: SlurmCluster, tmp_path: Path) -> Executor:
    return open_executor("slurm", workers=2, folder=tmp_path, options=("time=10",))


def wait_until_ended(executor: Executor, workers: list[Worker]) -> None:
    for _ in range(120):
        if not any(worker.is_alive() for worker in workers):
            return
        executor.wait(workers, 0.5)
    raise AssertionError([worker.failure() for worker in workers])


def test_a_job_array_runs_the_job_once_for_each_index(executor: Executor, tmp_path: Path) -> None:
    job = FileJob(tmp_path, {"SECRET": "hush-hush"})
    workers = executor.start(job, [3, 5])
    wait_until_ended(executor, workers)
    assert [worker.exit_code() for worker in workers] == [0, 0]
    for index in (3, 5):
        (line,) = job.lines(index)
        assert line.split()[1:] == ["1", "hush-hush"]
    assert not [path for path in (tmp_path / "slurm").rglob("*") if path.is_file() and b"hush" in path.read_bytes()]


def test_a_task_that_is_requeued_saves_and_starts_again_with_its_index(
    slurm: SlurmCluster, executor: Executor, tmp_path: Path
) -> None:
    job = UntilSignal(tmp_path)
    workers = executor.start(job, [4])
    for interruption in (1, 2):
        job.wait_for_lines(4, 2 * interruption - 1)
        slurm.requeue(workers[0].job_id)  # type: ignore[attr-defined]
        assert workers[0].is_alive()
    job.wait_for_lines(4, 5)
    (tmp_path / "done").touch()
    wait_until_ended(executor, workers)
    assert workers[0].exit_code() == 0
    lines = job.lines(4)
    assert [line for line in lines if line.startswith("saved")] == ["saved at SIGTERM"] * 2 + ["saved at None"]
    assert len({line.split()[0] for line in lines if not line.startswith("saved")}) == 3, "three processes"


def test_a_task_that_is_warned_of_its_time_limit_requeues_itself(
    slurm: SlurmCluster, executor: Executor, tmp_path: Path
) -> None:
    job = UntilSignal(tmp_path)
    workers = executor.start(job, [0])
    job.wait_for_lines(0, 1)
    task = workers[0].job_id  # type: ignore[attr-defined]
    slurm.call("scancel", "--signal=USR2", task)  # what Slurm itself sends some time before the limit
    job.wait_for_lines(0, 2)
    slurm.wait_for(task, "PENDING")
    slurm.start_now(task)
    job.wait_for_lines(0, 3)
    (tmp_path / "done").touch()
    wait_until_ended(executor, workers)
    assert job.lines(0)[1] == "saved at SIGUSR1"
    assert workers[0].exit_code() == 0


def test_stop_lets_the_job_save(executor: Executor, tmp_path: Path) -> None:
    job = UntilSignal(tmp_path)
    workers = executor.start(job, [0])
    job.wait_for_lines(0, 1)
    workers[0].stop()
    wait_until_ended(executor, workers)
    assert job.lines(0)[1] == "saved at SIGTERM"


def test_a_cancelled_task_is_replaced(slurm: SlurmCluster, executor: Executor, tmp_path: Path) -> None:
    job = UntilSignal(tmp_path)
    cancelled = False

    def update() -> int:
        nonlocal cancelled
        if not cancelled and job.lines(0) and job.lines(1):
            slurm.call(
                "scancel", *(job for job, state in slurm.jobs().items() if job.endswith("_0") and state == "RUNNING")
            )
            cancelled = True
        elif len([line for line in job.lines(0) if not line.startswith("saved")]) == 2:
            (tmp_path / "done").touch()
        return 0

    done = tmp_path / "done"
    assert supervise(executor, job, 2, update=update, is_done=done.exists) is None
    assert len([line for line in job.lines(0) if not line.startswith("saved")]) == 2
    assert len([line for line in job.lines(1) if not line.startswith("saved")]) == 1


def test_a_task_that_dies_again_and_again_ends_the_command_with_one_line(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as failed:
        supervise(executor, Fails(tmp_path), 1, update=lambda: 0, is_done=lambda: False)
    text = str(failed.value)
    assert "4 workers in a row have ended without a result (Slurm job " in text
    assert "secret" not in text
    assert "\n" not in text


def test_a_task_that_dies_is_started_again(executor: Executor, tmp_path: Path) -> None:
    job = Dies(tmp_path)
    assert supervise(executor, job, 1, update=lambda: 0, is_done=lambda: len(job.lines(0)) == 2) is None


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("partition=nowhere", "sbatch refuses the job: .*invalid partition"),
        ("time=soon", "sbatch refuses the job: .*[Ii]nvalid.*time"),
        ("no-such-option=1", "sbatch refuses the job: .*unrecognized option"),
        ("cpus-per-task=many", "--slurm cpus-per-task=many: expected a number of cores"),
        ("array=0-9", "--slurm array=0-9: harness sets this option itself"),
    ],
)
def test_wrong_options_are_one_line(slurm: SlurmCluster, tmp_path: Path, option: str, expected: str) -> None:
    with pytest.raises(HarnessError, match=expected) as refused:
        open_executor("slurm", workers=1, folder=tmp_path, options=(option,)).start(FileJob(tmp_path), [0])
    assert "\n" not in str(refused.value)
    assert not slurm.jobs().keys() & {"PENDING"}


def test_without_slurm_the_error_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HarnessError, match="sbatch is not on the PATH; run this on a login node"):
        open_executor("slurm", workers=1, folder=tmp_path)


def test_without_submitit_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(HarnessError, match=r"pip install 'gan-harness\[slurm\]'"):
        open_executor("slurm", workers=1, folder=tmp_path)


def test_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="--address host:1: use it with --executor ray"):
        open_executor("slurm", workers=1, folder=tmp_path, address="host:1")
