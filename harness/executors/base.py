"""The interface of an executor. Adding one is a file with a class like `LocalExecutor`, and a line in `registry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class WorkerOptions:
    """How many workers a command asks for, and where.

    Attributes:
        count: Number of workers at a time.
        executor: A key of `registry.EXECUTORS`.
        options: Options of the scheduler, KEY=VALUE.
        address: Address of a Ray cluster.
    """

    count: int
    executor: str = "local"
    options: tuple[str, ...] = ()
    address: str | None = None


class Job(Protocol):
    """What a worker does. It is pickled, and runs in another process, maybe on another machine."""

    def __call__(self, index: int) -> int:
        """Work until there is nothing left to do.

        Args:
            index: Which worker this is, from 0. A worker that replaces another has its index.

        Returns:
            The exit code: 0 if there is nothing left to do, or no time to do it; 2 for bad input.
        """

    def environment(self) -> Mapping[str, str]:
        """Return environment variables for the worker, set before it imports anything.

        Addresses with a password are here and nowhere else in a job: an executor writes the job itself to files that
        others may read.
        """


class Worker(Protocol):
    """A worker that was started.

    Attributes:
        name: How messages name it, such as `process 4711` or `Slurm job 12_3`.
    """

    name: str

    def is_alive(self) -> bool:
        """Whether it works, or waits in a queue to do so."""

    def exit_code(self) -> int | None:
        """Return what the job has returned; None while it is alive, and if it died without returning."""

    def failure(self) -> str | None:
        """Return in one line why it failed, and where its log is, as far as that is known."""

    def stop(self) -> None:
        """Ask it to save and to end, as SIGTERM does."""

    def kill(self) -> None:
        """End it at once. What it was training can be resumed."""


class Executor(Protocol):
    """Starts workers.

    Attributes:
        name: Its key in `registry.EXECUTORS`.
    """

    name: str

    def start(self, job: Job, indices: Sequence[int]) -> list[Worker]:
        """Start a worker for each index. Returns as soon as they are started or queued.

        Raises:
            HarnessError: They cannot be started here.
        """

    def wait(self, workers: Sequence[Worker], timeout: float) -> None:
        """Return when one of these living workers has ended, and after `timeout` seconds at the latest."""

    def close(self) -> None:
        """Release what the executor holds. Workers that still work are not stopped."""
