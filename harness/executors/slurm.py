"""Workers as a Slurm job array, submitted with submitit.

A task that is preempted, or comes to its time limit, ends its epoch, saves, and is put back into the queue. Its job
starts again with the same index. Jobs need nobody to watch them: the command may end, and they continue.

submitit writes its files and the logs to `FOLDER/slurm`, which all nodes must see.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.environment import temporary_environment
from harness.errors import HarnessError, redact
from harness.executors.base import Job, Worker
from harness.interrupts import handle_signals

_SECONDS_BETWEEN_QUERIES = 1.0
_ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "DEADLINE", "GONE")
_INSTALL = "--executor slurm needs submitit: pip install 'gan-harness[slurm]'"


class SlurmTask:
    """What a task of the array runs: the job, with Slurm's signals turned into those that harness knows."""

    def __init__(self, job: Job, index: int) -> None:
        self.job, self.index = job, index

    def __call__(self) -> int:
        """Call the job. A task that Slurm is about to stop is put back into the queue once the job has saved."""
        warned = False

        def warn(number: int, frame: object) -> None:
            nonlocal warned
            warned = True
            os.kill(os.getpid(), signal.SIGUSR1)

        with handle_signals():
            signal.signal(signal.SIGUSR2, warn)  # submitit asks Slurm for it before the time limit and at preemption
            try:
                code = self.job(self.index)
            except HarnessError as error:
                print(f"harness: {error}", file=sys.stderr)
                code = 2
            except KeyboardInterrupt:
                code = 130
        if warned and code == 0:
            _requeue()
        return code

    def checkpoint(self) -> Any:
        """Return what runs after a requeue, if the signal comes before the job has started."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _requeue() -> None:
    """Put the task of this process back into the queue. Slurm then ends the process."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    print(f"harness: job {job} is saved and goes back into the queue", file=sys.stderr, flush=True)
    subprocess.run(["scontrol", "requeue", job], check=False, timeout=60)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(60)


class SlurmWorker:
    """A task of the array."""

    def __init__(self, job: Any, queue: _Queue) -> None:
        self._job, self._queue = job, queue
        self.name = f"Slurm job {job.job_id}"

    @property
    def job_id(self) -> str:
        """Slurm's id of the task, such as 12_0."""
        return str(self._job.job_id)

    def is_alive(self) -> bool:
        """Whether the task waits or runs."""
        return self._queue.state(self.job_id) not in _ENDED

    def exit_code(self) -> int | None:
        """Return the exit code of the job; None if Slurm has ended it, or it has failed."""
        if self.is_alive() or self._queue.state(self.job_id) not in ("COMPLETED", "GONE"):
            return None
        result = self._outcome()
        return result[1] if result and result[0] == "success" else None

    def failure(self) -> str | None:
        """Return the state, the last line of the error, and the path of the log."""
        result = self._outcome()
        last = ""
        if result and result[0] == "error":
            last = f"; {redact(str(result[1]).strip().splitlines()[-1])[:200]}"
        return f"{self._queue.state(self.job_id)}{last}; its log is {self._job.paths.stderr}"

    def _outcome(self) -> tuple[str, Any] | None:
        """What submitit has stored when the job has returned: `success` and the exit code, or `error` and the text."""
        if not self._job.paths.result_pickle.is_file():
            return None
        outcome: tuple[str, Any] = self._job._get_outcome_and_result()
        return outcome

    def stop(self) -> None:
        """Send SIGTERM. A task that still waits is cancelled."""
        if self._queue.state(self.job_id) == "PENDING":
            self.kill()
        else:
            _call("scancel", "--signal=TERM", self.job_id)

    def kill(self) -> None:
        """Cancel the task."""
        _call("scancel", self.job_id)


class SlurmExecutor:
    """Submits job arrays."""

    name = "slurm"

    def __init__(self, *, workers: int, folder: Path, options: Sequence[str], address: str | None) -> None:
        """Prepare submissions.

        Args:
            workers: Not used: Slurm gives every task its own share.
            folder: Where submitit's files and the logs go, in `slurm`.
            options: Options of sbatch, KEY=VALUE.
            address: Not used.

        Raises:
            HarnessError: submitit or Slurm is missing, or an option is wrong.
        """
        try:
            import submitit
        except ImportError as error:
            raise HarnessError(_INSTALL) from error
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise HarnessError(
                "--executor slurm: sbatch is not on the PATH; run this on a login node of the cluster, or use "
                "--executor local"
            )
        self._options = _parse(options)
        self._folder = folder.absolute() / "slurm"
        self._submitit = submitit
        self._queue = _Queue()

    def start(self, job: Job, indices: Sequence[int]) -> list[Worker]:
        """Submit a job array with a task for each index.

        Raises:
            HarnessError: Slurm refuses the job; the message is sbatch's.
        """
        threads = self._options.get("cpus-per-task", "1")
        executor = self._submitit.SlurmExecutor(self._folder, max_num_timeout=10_000)
        executor.update_parameters(
            job_name="harness",
            time=None,
            signal_delay_s=int(self._options.get("signal-delay-s", 120)),
            additional_parameters={
                "requeue": True,
                **{key: value for key, value in self._options.items() if key != "signal-delay-s"},
            },
        )
        # sbatch passes this environment on to the tasks. Threads are counted when torch is imported.
        with temporary_environment({"OMP_NUM_THREADS": threads, "SRUN_CPUS_PER_TASK": threads, **job.environment()}):
            try:
                tasks = [SlurmTask(job, index) for index in indices]
                with executor.batch():
                    jobs = [executor.submit(task) for task in tasks]
            except Exception as error:
                raise HarnessError(f"--executor slurm: sbatch refuses the job: {_sbatch_message(error)}") from error
        self._queue.watch([str(each.job_id) for each in jobs])
        return [SlurmWorker(each, self._queue) for each in jobs]

    def wait(self, workers: Sequence[Worker], timeout: float) -> None:
        """Wait for the time of one query of the queue."""
        time.sleep(max(timeout, _SECONDS_BETWEEN_QUERIES))

    def close(self) -> None:
        """Do nothing: jobs that still run are not stopped."""


class _Queue:
    """The states of jobs, asked of Slurm at most once a second for all of them."""

    def __init__(self) -> None:
        self._watched: list[str] = []
        self._states: dict[str, str] = {}
        self._asked = 0.0

    def watch(self, jobs: Sequence[str]) -> None:
        self._watched += jobs
        self._states |= dict.fromkeys(jobs, "PENDING")
        self._asked = time.monotonic()

    def state(self, job: str) -> str:
        """Return the state of a job, GONE if Slurm does not know it any more."""
        if time.monotonic() - self._asked >= _SECONDS_BETWEEN_QUERIES:
            self._asked = time.monotonic()
            arrays = ",".join(sorted({each.partition("_")[0] for each in self._watched}))
            words = ("squeue", "--noheader", "--array", "--states=all", f"--jobs={arrays}", "--format=%i %T")
            answer = _call(*words)
            if answer.returncode == 0:
                found = dict(line.split() for line in answer.stdout.splitlines())
                self._states = {each: found.get(each, "GONE") for each in self._watched}
            elif "Invalid job id" in answer.stderr:
                self._states = dict.fromkeys(self._watched, "GONE")
            # Otherwise the controller does not answer at the moment, and the states stay as they were.
        return self._states[job]


def _parse(options: Sequence[str]) -> dict[str, str]:
    """Read KEY=VALUE texts; `-` and `_` are the same in a key."""
    parsed = {}
    for text in options:
        key, _, value = text.partition("=")
        parsed[key.strip("-").replace("_", "-")] = value
    for key, expected in (("cpus-per-task", "a number of cores"), ("signal-delay-s", "a number of seconds")):
        if key in parsed and not parsed[key].isdecimal():
            raise HarnessError(f"--slurm {key}={parsed[key]}: expected {expected}")
    for key in ("array", "output", "error", "signal", "requeue"):
        if key in parsed:
            raise HarnessError(f"--slurm {key}={parsed[key]}: harness sets this option itself; leave it out")
    return parsed


def _sbatch_message(error: Exception) -> str:
    """The line in which sbatch says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if "sbatch: error:" in line]
    text = "; ".join(line.partition("sbatch: error:")[2].strip() for line in lines) or " ".join(str(error).split())
    return redact(text)[:300]


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
