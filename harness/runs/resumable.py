"""A run that can be resumed: how it stands in the store, and the checkpoint to resume it from."""

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
from harness.gan import Training
from harness.gan.checkpoints import Checkpoint
from harness.gan.networks import readable_load_errors
from harness.media import pictures
from harness.quality.scoring import Scoring
from harness.results import load, summary
from harness.results.changes import Recorded
from harness.runs import provenance
from harness.runs.artifacts import GRID, BestEpoch, write_checkpoint
from harness.runs.display import Display
from harness.runs.options import RunOptions, RunResult
from harness.tracking import RunLog, Store

if TYPE_CHECKING:
    from harness.tracking import Run


@dataclass(frozen=True)
class ResumableRun:
    """A run as it stands in the store, and the checkpoint to resume it from.

    Attributes:
        run: the MLflow run.
        checkpoint: its last one.
        best: its best scored epoch.
        planned: the epochs that it was started with.
        best_checkpoint: that of its best epoch, if one was scored.
        claimed: whether it is certain that no other process writes the run, whatever its status says.
    """

    run: Run
    checkpoint: Checkpoint
    best: BestEpoch
    planned: int
    best_checkpoint: Checkpoint | None = None
    claimed: bool = False

    @property
    def run_id(self) -> str:
        """Id of the MLflow run."""
        return str(self.run.info.run_id)

    @property
    def name(self) -> str:
        """MLflow run name."""
        return str(self.run.info.run_name)

    @property
    def status(self) -> str:
        """MLflow's status."""
        return str(self.run.info.status)

    def recorded(self, store: Store, options: RunOptions) -> Recorded:
        """Return what it was trained on and with, to be compared with what is here now."""
        return load.recorded(store, self.run, self.checkpoint.experiment, allowed=options.allow_changes)

    def extended(self, values: Mapping[str, Any]) -> Experiment:
        """Return its experiment with these values, by dotted path.

        Raises:
            HarnessError: for anything but more epochs, or if the run is complete.
        """
        stored = self.checkpoint.experiment
        requested = stored.with_values(values)
        others = {path: pair for path, pair in stored.differences(requested).items() if path != "train.epochs"}
        if others:
            changes = ", ".join(f"{path} {before} -> {after}" for path, (before, after) in others.items())
            raise HarnessError(
                f"a run is resumed as it was started; only train.epochs may change, not {changes}: start a new run for "
                "that"
            )
        before, after, trained = stored.train.epochs, requested.train.epochs, self.checkpoint.epoch
        if after != before and stored.optimizer.schedule != "constant":
            raise HarnessError(
                f"optimizer.schedule {stored.optimizer.schedule} depends on the number of epochs, which was "
                f"{before} from the start: start a new run with --epochs {after}"
            )
        if after < trained:
            raise HarnessError(f"train.epochs {after} is less than the {trained} epochs already trained")
        if trained >= after and self.status == "FINISHED":
            raise HarnessError(
                f"run {self.name} is complete: {trained} of {after} epochs; give more with --epochs to extend it"
            )
        return requested

    def restore(self, training: Training, display: Display) -> None:
        """Put a training where the checkpoint left it.

        Raises:
            HarnessError: if the checkpoint does not fit its networks.
        """
        _use_threads(self.checkpoint.threads, display)
        with readable_load_errors(f"the weights of run {self.name}"):
            training.load_state_dict(self.checkpoint.training)

    def result(self, training: Training) -> RunResult:
        """Return how it stands, its training restored: all that there is to report where only the end is missing."""
        epoch, metrics = self.checkpoint.epoch, dict(self.run.data.metrics)
        grid = pictures.grid(training.sample(GRID))
        return RunResult(
            self.run_id, self.name, training.experiment, "FINISHED", epoch, metrics, grid=grid, first=epoch
        )

    def announce(self, experiment: Experiment, display: Display) -> None:
        """Show where the run is resumed, and whether it is extended."""
        before, after = self.checkpoint.experiment.train.epochs, experiment.train.epochs
        if after != before:
            display.message(f"extending from {before} to {after} epochs (tag {Tag.EPOCHS}; the param stays)")
        display.message(f"resuming {self.name} after epoch {self.checkpoint.epoch}")

    def log_changes(self, log: RunLog, training: Training, scoring: Scoring | None, recorded: Recorded) -> None:
        """Log what the resumed run has other than before: more epochs, other images, other source."""
        checkpoint, experiment = self.checkpoint, training.experiment
        if experiment != checkpoint.experiment:
            # Before the extension is logged: a run that is killed in between is still resumed to its new end.
            write_checkpoint(log, "last", replace(checkpoint, experiment=experiment))
        if experiment.train.epochs != self.planned:
            log.tags({Tag.EPOCHS: str(experiment.train.epochs)})
            log.text(experiment.to_yaml(), "experiment.yaml")
        when = f"from epoch {checkpoint.epoch + 1} on"
        if tags := recorded.changed_tags(experiment, provenance.identity(training, scoring), when):
            log.tags(tags)
            provenance.log_images(log, training)
            provenance.keep_sources(log, experiment)


def find_resumable(store: Store, run: str) -> ResumableRun:
    """Find a run by id, prefix, name or `latest`, with its checkpoints.

    Raises:
        HarnessError: for an unknown run, or one without a checkpoint.
    """
    found = summary.resolve_run(store, store.find(run))
    checkpoint = load.checkpoint(store, found)
    best, best_checkpoint = BestEpoch(), None
    if checkpoint.score is not None:
        best_checkpoint = load.checkpoint(store, found, "best")
        state = best_checkpoint.training
        best = BestEpoch(best_checkpoint.score, best_checkpoint.epoch, state["average"] or state["generator"])
    planned = int(found.data.params.get("train.epochs", checkpoint.experiment.train.epochs))
    return ResumableRun(found, checkpoint, best, planned, best_checkpoint)


@contextmanager
def restore_threads() -> Iterator[None]:
    """Set torch's number of threads back at the end: a resumed run may need another one, what follows does not."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _use_threads(threads: int, display: Display) -> None:
    """Train with as many threads as before: sums are ordered by them, so the same bits follow only then."""
    if threads == torch.get_num_threads():
        return
    allowed = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # "4,2" is for threads within threads
    share = int(allowed) if allowed.isdecimal() else torch.multiprocessing.cpu_count()  # other cores are not ours
    if threads <= share:
        torch.set_num_threads(threads)
    else:
        display.message(
            f"the run was started with {threads} threads, this machine has {torch.get_num_threads()}: "
            "it is resumed, but not to the same bits"
        )
