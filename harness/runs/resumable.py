"""A run that can be resumed: its state in the store, and its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.tags import Tag
from harness.formatting import format_count
from harness.gan import Training
from harness.gan.checkpoints import Checkpoint
from harness.gan.networks import readable_load_errors
from harness.media import pictures
from harness.quality.scoring import Scoring
from harness.results import load, summary
from harness.results.changes import RecordedInputs
from harness.runs import provenance
from harness.runs.artifacts import GRID, BestEpoch, write_checkpoint
from harness.runs.display import Display
from harness.runs.options import RunOptions, RunResult
from harness.tracking import RunLog, Store

if TYPE_CHECKING:
    from harness.tracking import Run


@dataclass(frozen=True)
class ResumableRun:
    """The state of a run in the store, and the checkpoint to resume it from.

    Attributes:
        run: The MLflow run.
        checkpoint: The last checkpoint.
        best: The best scored epoch.
        planned: The number of epochs that it was started with.
        best_checkpoint: The checkpoint of the best epoch; None if no epoch was scored.
        claimed: No other process writes the run, whatever its status says.
    """

    run: Run
    checkpoint: Checkpoint
    best: BestEpoch
    planned: int
    best_checkpoint: Checkpoint | None = None
    claimed: bool = False

    @property
    def run_id(self) -> str:
        """The id of the MLflow run."""
        return str(self.run.info.run_id)

    @property
    def name(self) -> str:
        """The name of the MLflow run."""
        return str(self.run.info.run_name)

    @property
    def status(self) -> str:
        """MLflow's status."""
        return str(self.run.info.status)

    def recorded(self, store: Store, options: RunOptions) -> RecordedInputs:
        """Return the images, judge and code that it started with, to compare with the present ones."""
        return load.recorded(store, self.run, self.checkpoint.experiment, allow_changes=options.allow_changes)

    def extended(self, values: Mapping[str, Any]) -> Experiment:
        """Return the experiment with new values, by dotted path.

        Raises:
            HarnessError: Something other than the number of epochs changes, or the run is complete.
        """
        stored = self.checkpoint.experiment
        requested = stored.with_values(values)
        others = {path: pair for path, pair in stored.differences(requested).items() if path != "train.epochs"}
        if others:
            changes = ", ".join(f"{path} {before} -> {after}" for path, (before, after) in others.items())
            raise HarnessError(
                f"a run is resumed as it was started; only train.epochs may change, not {changes}: start a new run for "
                "other values"
            )
        before, after, trained = stored.train.epochs, requested.train.epochs, self.checkpoint.epoch
        if after != before and stored.optimizer.schedule != "constant":
            raise HarnessError(
                f"optimizer.schedule {stored.optimizer.schedule} depends on the number of epochs, which was "
                f"{before} from the start: start a new run with --epochs {after}"
            )
        if after < trained:
            done = format_count(trained, "trained epoch")
            raise HarnessError(f"train.epochs is {after}, but the run has {done}: expected {trained} or more")
        if trained >= after and self.status == "FINISHED":
            raise HarnessError(
                f"run {self.name} is complete: {trained} of {format_count(after, 'epoch')}; extend it with --epochs"
            )
        return requested

    def restore(self, training: Training, display: Display) -> None:
        """Load the checkpoint into a training.

        Raises:
            HarnessError: The checkpoint does not fit the networks.
        """
        _use_threads(self.checkpoint.threads, display)
        with readable_load_errors(f"the weights of run {self.name}"):
            training.load_state_dict(self.checkpoint.training)

    def result(self, training: Training) -> RunResult:
        """Return the result so far, for a run that has trained all its epochs. `training` is restored."""
        epoch, metrics = self.checkpoint.epoch, dict(self.run.data.metrics)
        grid = pictures.grid(training.sample(GRID))
        return RunResult(
            self.run_id, self.name, training.experiment, "FINISHED", epoch, metrics, grid=grid, first=epoch
        )

    def announce(self, experiment: Experiment, display: Display) -> None:
        """Show the epoch that the run is resumed after, and whether it is extended."""
        before, after = self.checkpoint.experiment.train.epochs, experiment.train.epochs
        if after != before:
            display.message(
                f"extending from {before} to {format_count(after, 'epoch')} (tag {Tag.EPOCHS}; the param stays)"
            )
        steps = self.checkpoint.training.get("steps")
        more = f" and {format_count(steps, 'step')} of the next" if steps else ""
        display.message(f"resuming {self.name} after epoch {self.checkpoint.epoch}{more}")

    def log_changes(self, log: RunLog, training: Training, scoring: Scoring | None, recorded: RecordedInputs) -> None:
        """Log what has changed since the run started: number of epochs, images, source code."""
        checkpoint, experiment = self.checkpoint, training.experiment
        if experiment != checkpoint.experiment:
            # Written first: a run that is killed before the next lines still resumes to the new number of epochs.
            write_checkpoint(log, "last", replace(checkpoint, experiment=experiment))
        if experiment.train.epochs != self.planned:
            log.tags({Tag.EPOCHS: str(experiment.train.epochs)})
            log.text(experiment.to_yaml(), "experiment.yaml")
        when = f"from epoch {checkpoint.epoch + 1} on"
        if tags := recorded.changed_tags(experiment, provenance.identity_tags(training, scoring), when):
            log.tags(tags)
            provenance.log_images(log, training)
            provenance.log_sources(log, experiment)


def find_resumable(store: Store, run: str) -> ResumableRun:
    """Find a run by id, prefix, name or `latest`, with its checkpoints.

    Raises:
        HarnessError: The run is unknown, or has no checkpoint.
    """
    found = summary.resolve_run(store, store.find(run))
    checkpoint = load.checkpoint(store, found)
    best_checkpoint = None if checkpoint.score is None else load.checkpoint(store, found, "best")
    best = BestEpoch.of(best_checkpoint)
    planned = int(found.data.params.get("train.epochs", checkpoint.experiment.train.epochs))
    return ResumableRun(found, checkpoint, best, planned, best_checkpoint)


@contextmanager
def restore_threads() -> Iterator[None]:
    """Restore torch's number of threads at the end. A resumed run may change it."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _use_threads(threads: int, display: Display) -> None:
    """Use the number of threads of the checkpoint. It sets the order of sums, so other numbers give other bits."""
    if threads == torch.get_num_threads():
        return
    allowed = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # "4,2" is for nested threads
    share = int(allowed) if allowed.isdecimal() else torch.multiprocessing.cpu_count()  # more threads are not allowed
    if threads <= share:
        torch.set_num_threads(threads)
    else:
        display.message(
            f"the run was started with {format_count(threads, 'thread')}, but this process has "
            f"{torch.get_num_threads()}: the results differ by rounding from those of an uninterrupted run"
        )
