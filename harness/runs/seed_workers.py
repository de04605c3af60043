"""`run --seeds N` in several processes, here or on a cluster: each worker trains every N-th seed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import executors, formatting
from harness.errors import HarnessError, UnreachableError
from harness.experiment import trust
from harness.experiment.tags import Tag
from harness.formatting import format_count
from harness.interrupts import Deadline
from harness.results import load
from harness.runs.display import Display, NullDisplay
from harness.runs.options import RunOptions
from harness.runs.resumable import ResumableRun, find_resumable
from harness.runs.train import resume_session, start_session, train
from harness.tracking import RunLog, Store

if TYPE_CHECKING:
    from harness.tracking import Run


def seed_children(store: Store, parent: str) -> dict[int, Run]:
    """Return the runs of the seeds below their parent, by seed; of two, the newer one."""
    return {
        int(child.data.params["train.seed"]): child
        for child in reversed(store.children(parent))
        if "train.seed" in child.data.params
    }


def has_ended(run: Run) -> bool:
    """Whether a seed has ended with everything: one that diverged, but was killed in its end, has no scores yet."""
    return run.info.status == "FINISHED" or (run.info.status == "FAILED" and Tag.DIVERGED in run.data.tags)


def train_seeds(
    seeds: Sequence[int],
    known: Mapping[int, Run],
    store: Store,
    log: RunLog,
    options: RunOptions,
    display: Display,
) -> tuple[Mapping[int, Run], str | None]:
    """Train seeds in the workers that `options.workers` asks for.

    Args:
        seeds: The seeds.
        known: Their runs so far.
        store: The MLflow store.
        log: The log of the parent run.
        options: Options of the runs.
        display: Shows the progress.

    Returns:
        The runs of the seeds, and what stopped them before all had ended; None if they have.

    Raises:
        HarnessError: The executor cannot be used, or its workers die again and again.
    """
    workers = options.workers
    assert workers is not None
    ended = {seed for seed, run in known.items() if has_ended(run)}
    progressed = False

    def update() -> int:
        """Log and show what has ended since the last call."""
        nonlocal progressed
        now = seed_children(store, log.run_id)
        fresh = [seed for seed, run in now.items() if seed not in ended and has_ended(run)]
        ended.update(fresh)
        if fresh and not progressed:
            progressed = True
            options.on_progress()
        for seed in fresh:
            display.message(f"seed {seed} has ended: {len(ended)} of {format_count(len(seeds), 'seed')}")
            log.tags({Tag.SEEDS_ENDED: str(len(ended))})
        return len(fresh)

    executor = executors.open_executor(
        workers.executor, workers=workers.count, folder=store.root, options=workers.options, address=workers.address
    )
    try:
        job = SeedsJob.of(log, seeds, store, options)
        display.message(f"{format_count(len(seeds), 'seed')} in {format_count(workers.count, 'worker')}")
        stopped = executors.supervise(
            executor, job, workers.count, update=update, is_done=lambda: len(ended) >= len(seeds)
        )
    finally:
        executor.close()
    return seed_children(store, log.run_id), stopped


@dataclass(frozen=True)
class SeedsJob:
    """What a worker does: it trains every N-th seed, one after the other. See `executors.Job`.

    Attributes:
        parent: Id of the parent run.
        name: Its name.
        seeds: All seeds.
        workers: Number of workers.
        options: Options of the runs; without the functions, and with the time limit as `ends_at`.
        root: Folder of the spool.
        folder: Working directory of the command.
        policy: Which custom code may be imported.
        ends_at: When the command has to end, in seconds since 1970; None for no limit.
        addresses: Environment variable with the address of the store. It is not pickled.
    """

    parent: str
    name: str
    seeds: tuple[int, ...]
    workers: int
    options: RunOptions
    root: Path
    folder: Path
    policy: trust.Policy
    ends_at: float | None
    addresses: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, log: RunLog, seeds: Sequence[int], store: Store, options: RunOptions) -> SeedsJob:
        """Return the job of the workers below a parent run."""
        left = options.deadline.remaining()
        assert options.workers is not None
        return cls(
            log.run_id,
            log.name,
            tuple(seeds),
            options.workers.count,
            RunOptions(
                parent=log.run_id,
                tags=options.tags,
                system_metrics=options.system_metrics,
                allow_changes=options.allow_changes,
                upload_first_checkpoint=True,
            ),
            store.root,
            Path.cwd(),
            trust.get_policy(),
            None if left is None else time.time() + left,
            {formatting.STORE: store.uri},
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the address out: it may have a password. A worker reads it from its environment."""
        return {**self.__dict__, "addresses": {}}

    def environment(self) -> Mapping[str, str]:
        """Return the address of the store."""
        return self.addresses

    def __call__(self, index: int) -> int:
        """Train the seeds of this worker. Returns 0."""
        if self.folder.is_dir():
            os.chdir(self.folder)
        trust.set_policy(self.policy)
        store = Store.open(os.environ[formatting.STORE], root=self.root, create=False)
        left = None if self.ends_at is None else self.ends_at - time.time()
        deadline = Deadline(None if left is None else time.monotonic() + left)
        parent = store.get_run(self.parent)
        if parent is None:
            raise HarnessError(f"the run {self.parent} is not in {store.redacted_uri}")
        experiment = load.experiment(store, parent)
        for seed in self.seeds[index :: self.workers]:
            found = seed_children(store, self.parent).get(seed)
            if found is not None and has_ended(found):
                continue
            options = replace(self.options, name=f"{self.name}-seed{seed}", deadline=deadline)
            resumable = None if found is None else _find_resumable(store, found)
            with load.use_stored_code(store, found or parent, experiment):
                if resumable is not None:
                    opened = resume_session(resumable, store, {}, options, NullDisplay())
                else:
                    seeded = experiment.with_values({"train.seed": seed})
                    opened = start_session(seeded, store, options, NullDisplay())
                with opened as session:
                    result = train(session)
            if result.stopped:
                break
        return 0


def _find_resumable(store: Store, run: Run) -> ResumableRun | None:
    """The run as it can be resumed; None if it has no checkpoint, so that its seed is trained from the start."""
    try:
        return find_resumable(store, run.info.run_id)
    except UnreachableError:
        raise
    except HarnessError as error:
        print(f"run {run.info.run_name} is trained from the start: {error}", flush=True)
        return None
