"""A study in several processes, here or on a cluster: the job of each worker, and how a command supervises them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import executors, formatting
from harness.experiment import trust
from harness.interrupts import Deadline
from harness.runs.display import NullDisplay
from harness.tracking import Store
from harness.tuning.monitor import NullMonitor
from harness.tuning.open_study import load_scoring, stored_code
from harness.tuning.progress import NullStudyDisplay, ProgressMonitor
from harness.tuning.request import TuneRequest
from harness.tuning.storage import lock_dir, open_storage, storage_errors
from harness.tuning.trials import Trials
from harness.tuning.worker import Worker

if TYPE_CHECKING:
    from harness.executors import Executor


def run_workers(trials: Trials, request: TuneRequest, store: Store, monitor: ProgressMonitor, total: int) -> str | None:
    """Train in several processes. A process that dies is replaced, and its trial is resumed.

    Returns:
        What stopped the study early: SIGINT, SIGTERM, SIGUSR1 or max-time; else None.

    Raises:
        HarnessError: The executor cannot be used, or its workers die again and again.
    """
    executor = open_executor(request, store)
    job = StudyJob.of(trials, request, store)
    try:
        return executors.supervise(
            executor,
            job,
            request.workers,
            update=monitor.update,
            is_done=lambda: not trials.is_incomplete(total),
        )
    finally:
        executor.close()


def open_executor(request: TuneRequest, store: Store) -> Executor:
    """Return the executor that a request names, ready to start workers."""
    return executors.open_executor(
        request.executor,
        workers=request.workers,
        options=request.executor_options,
        address=request.address,
        folder=store.root,
    )


@dataclass(frozen=True)
class StudyJob:
    """What a worker does: it trains trials of a study until all trials have ended. See `executors.Job`.

    Attributes:
        study: Name of the study.
        request: The options of the command, without the address of the storage.
        root: Folder of the spool.
        folder: Working directory of the command.
        policy: Which custom code may be imported.
        ends_at: When the command has to end, in seconds since 1970; None for no limit.
        addresses: Environment variables with the addresses of store and storage. They are not pickled.
    """

    study: str
    request: TuneRequest
    root: Path
    folder: Path
    policy: trust.Policy
    ends_at: float | None
    addresses: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, trials: Trials, request: TuneRequest, store: Store) -> StudyJob:
        """Return the job of the workers of an open study."""
        left = request.deadline.remaining()
        return cls(
            trials.name,
            replace(request, study=trials.name, storage=None, deadline=Deadline(), workers=1),
            store.root,
            Path.cwd(),
            trust.get_policy(),
            None if left is None else time.time() + left,
            {formatting.STORE: store.uri, formatting.STORAGE: request.storage or ""},
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the addresses out: they may have a password. A worker reads them from its environment."""
        return {**self.__dict__, "addresses": {}}

    def environment(self) -> Mapping[str, str]:
        """Return the addresses of store and storage."""
        return self.addresses

    def __call__(self, index: int) -> int:
        """Train until all trials have ended, or time is over. Returns 0."""
        if self.folder.is_dir():
            os.chdir(self.folder)
        trust.set_policy(self.policy)
        store = Store.open(os.environ[formatting.STORE], root=self.root, create=False)
        storage = os.environ[formatting.STORAGE] or None
        left = None if self.ends_at is None else self.ends_at - time.time()
        deadline = Deadline(None if left is None else time.monotonic() + left)
        request = replace(self.request, storage=storage, deadline=deadline)
        if request.executor == "local":
            self._work(replace(request, system_metrics=request.system_metrics and index == 0), store)
        else:
            from harness.tuning.tune import tune

            # As `harness tune --study NAME`: the last worker ends the study's run if the command has died.
            tune(None, None, replace(request, executor="local", executor_options=()), store, NullStudyDisplay())
        return 0

    def _work(self, request: TuneRequest, store: Store) -> None:
        request.deadline.reserve("study")
        storage = open_storage(request.storage, store.root, store.uri)
        trials = Trials.find(storage, self.study, lock_dir(request.storage, store.root))
        assert trials is not None
        with storage_errors(files=False), trials.heartbeat(), stored_code(trials, store):
            scoring = load_scoring(trials, store, NullDisplay())
            Worker(trials, store, request, scoring, NullDisplay(), NullMonitor()).work()
