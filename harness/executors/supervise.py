"""Watch workers until their work is done: one that dies is replaced, and a signal stops all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from harness.errors import HarnessError
from harness.executors.base import Executor, Job, Worker
from harness.interrupts import handle_signals

POLL = 0.5  # seconds between two looks at the workers and at their work
MAX_DEATHS = 3  # workers, besides one each, that may die in a row without progress
GRACE = 20.0  # seconds that workers have to end when the command fails


def supervise(
    executor: Executor, job: Job, count: int, *, update: Callable[[], int], is_done: Callable[[], bool]
) -> str | None:
    """Run `count` workers until the work is done.

    Args:
        executor: Where they run.
        job: What they do.
        count: How many there are at a time.
        update: Called about twice a second; returns how much work was completed since the last call.
        is_done: Whether all work is completed. Asked when all workers have ended.

    Returns:
        None if the work is done; what stopped it before: SIGINT, SIGTERM, SIGUSR1 or max-time.

    Raises:
        HarnessError: Workers die again and again without completing anything, or cannot be started.
    """
    if is_done():
        return None
    workers: dict[int, Worker] = dict(enumerate(executor.start(job, range(count))))
    deaths = 0
    asked = False
    with handle_signals() as stop:
        try:
            while True:
                executor.wait([worker for worker in workers.values() if worker.is_alive()], POLL)
                if update():
                    deaths = 0
                if stop.signal and not asked:
                    asked = True
                    for worker in workers.values():
                        worker.stop()
                ended = {index: worker for index, worker in workers.items() if not worker.is_alive()}
                dead = [] if stop.signal else [index for index, worker in ended.items() if not _stopped(worker)]
                if dead and not is_done():
                    deaths += len(dead)
                    if deaths >= MAX_DEATHS + count:
                        raise HarnessError(_too_many(deaths, workers[dead[-1]]))
                    workers.update(zip(dead, executor.start(job, dead), strict=True))
                elif len(ended) == len(workers):
                    update()
                    return None if is_done() else stop.signal or "max-time"
        except BaseException:
            _end_all(executor, list(workers.values()))
            raise


def _stopped(worker: Worker) -> bool:
    """Whether a worker has ended as it should: there is no work left for it, or no time."""
    return worker.exit_code() == 0


def _too_many(deaths: int, worker: Worker) -> str:
    reason = worker.failure() or f"exit code {worker.exit_code()}"
    return (
        f"{deaths} workers in a row have ended without a result ({worker.name}: {reason}); what they trained can be "
        "resumed. Try --executor local --workers 1 to see why"
    )


def _end_all(executor: Executor, workers: list[Worker]) -> None:
    """Ask workers to end, wait a moment, and kill those that do not."""
    for worker in workers:
        if worker.is_alive():
            with suppress(HarnessError):
                worker.stop()
    deadline = time.monotonic() + GRACE
    while (alive := [worker for worker in workers if worker.is_alive()]) and time.monotonic() < deadline:
        executor.wait(alive, POLL)
    for worker in alive:
        with suppress(HarnessError):
            worker.kill()
