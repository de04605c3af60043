"""Workers as processes of this machine, which share its cores and its GPUs."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path

from harness import console
from harness.environment import temporary_environment
from harness.errors import HarnessError
from harness.executors.base import Job, Worker
from harness.interrupts import handle_signals, on_hangup, terminate


class LocalWorker:
    """A process of this machine."""

    def __init__(self, process: SpawnProcess) -> None:
        self.process = process
        self.name = f"process {process.pid}"

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.is_alive()

    def exit_code(self) -> int | None:
        """Return the exit code; None while the process runs, and negative if a signal ended it."""
        return self.process.exitcode

    def failure(self) -> str | None:
        """Return None: the process has printed what went wrong."""
        return None

    def stop(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()


class LocalExecutor:
    """Starts processes. Each has a process group of its own: Ctrl-C reaches it through the command, once."""

    name = "local"

    def __init__(self, *, workers: int, folder: Path, options: Sequence[str], address: str | None) -> None:
        """Prepare an executor.

        Args:
            workers: Number of processes that share the machine.
            folder: Not used.
            options: Not used.
            address: Not used.
        """
        self._workers = workers

    def start(self, job: Job, indices: Sequence[int]) -> list[Worker]:
        """Start a process for each index."""
        return [self._start(job, index) for index in indices]

    def _start(self, job: Job, index: int) -> LocalWorker:
        log = console.current_log()
        place = None if log is None else (log.path, log.title)
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(job, index, place), daemon=False)
        # Set here: threads are counted when torch is imported.
        with temporary_environment({**resource_environment(index, self._workers), **job.environment()}):
            process.start()
        return LocalWorker(process)

    def wait(self, workers: Sequence[Worker], timeout: float) -> None:
        """Wait for the first of these processes to end."""
        sentinels = [worker.process.sentinel for worker in workers if isinstance(worker, LocalWorker)]
        multiprocessing.connection.wait(sentinels, timeout=timeout)

    def close(self) -> None:
        """Do nothing."""


def resource_environment(index: int, workers: int) -> dict[str, str]:
    """Return the share of one of `workers` processes, as environment variables: cores, and one GPU."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = {"OMP_NUM_THREADS": str(max(1, available // workers))}
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is None:
        import torch

        gpus = ",".join(str(number) for number in range(torch.cuda.device_count()))
    if names := [name for name in gpus.split(",") if name.strip()]:
        share["CUDA_VISIBLE_DEVICES"] = names[index % len(names)]
    return share


def _work(job: Job, index: int, log_place: tuple[Path, str] | None) -> None:
    """The main function of a worker process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    console.install()
    log = None if log_place is None else console.Log(*log_place, failed=terminate)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    # From the first moment, SIGTERM means: save, and end.
    with handle_signals(), console.continue_in(log), on_hangup(console.leave_terminal):
        threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
        try:
            code = job(index)
        except HarnessError as error:
            print(f"harness: {error}", file=sys.stderr)
            code = 2
        except KeyboardInterrupt:
            code = 130
    sys.exit(code)
