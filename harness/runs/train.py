"""`run`: one run from start to end: trains, scores, draws, saves and tracks, and sees that its status is true."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import Training
from harness.gan.checkpoints import Checkpoint
from harness.gan.networks import readable_load_errors
from harness.interrupts import handle_signals
from harness.media import pictures
from harness.quality.scoring import Scoring
from harness.results import load as recall
from harness.results import summary
from harness.results.changes import Recorded
from harness.runs import provenance
from harness.runs.prepare import prepare as prepare
from harness.runs.session import (
    GRID,
    BestEpoch,
    Display,
    RunOptions,
    RunResult,
    RunSession,
    keep,
    save,
    staged,
)
from harness.tracking import RunLog, Store, SystemMetrics, ensure_final_status

if TYPE_CHECKING:
    from harness.tracking import Run


def run(
    experiment: Experiment, store: Store, options: RunOptions, display: Display, ready: Scoring | None = None
) -> RunResult:
    """Train an experiment from its first epoch, as one new MLflow run.

    ready: images and judge of a run like this one, to be used again.
    Raises HarnessError before the run is created when data, device or store are not as they should be.
    """
    with options.deadline.timed("prepare"):
        prepared = prepare(experiment, display, ready)
    return carry_out(*prepared, store, options, display)


def carry_out(
    training: Training, scoring: Scoring | None, store: Store, options: RunOptions, display: Display
) -> RunResult:
    """`run` of what is prepared."""
    with handle_signals():
        log = start(training, scoring, store, options)
        with ensure_final_status(log):
            return _drive(begun(log, training, scoring, display, options))


def resume(wanted: str, store: Store, values: Mapping[str, Any], options: RunOptions, display: Display) -> RunResult:
    """Go on with a run where its last checkpoint left it, in the same MLflow run.

    `values` are leaves by dotted path; only `train.epochs` may differ, to extend the run.
    Raises HarnessError for an unknown run, one that still runs, one without a checkpoint, or any other change.
    """
    return go_on(find_resumable(store, wanted), store, values, options, display)


def go_on(
    known: ResumableRun,
    store: Store,
    values: Mapping[str, Any],
    options: RunOptions,
    display: Display,
    ready: Scoring | None = None,
) -> RunResult:
    """`resume` of a run that was looked up already.

    Whatever can be refused is found before the run is RUNNING again; what fails between that and the first new epoch
    puts it back to how it stood.
    """
    experiment = _extended(known.checkpoint, values)
    if known.checkpoint.epoch >= experiment.train.epochs and known.status == "FINISHED":
        raise HarnessError(
            f"run {known.name} is complete: {known.checkpoint.epoch} of {experiment.train.epochs} epochs; "
            f"give more with --epochs to extend it"
        )
    with handle_signals(), restore_threads(), recall.code_of(store, known.run, known.checkpoint.experiment):
        recorded = known.recorded(store, options)
        training, scoring = prepare(experiment, display, ready, recorded)
        load(training, known, display)
        log = store.resume_run(known.run_id, claimed=known.claimed)
        with ensure_final_status(log):
            return _drive(reopened(log, known, recorded, training, scoring, display, options))


@dataclass(frozen=True)
class ResumableRun:
    """A run that can be gone on with: how it stands in the store, and where its last checkpoint left it.

    planned: the epochs that it was started with. kept: the checkpoint of its best epoch, if one was scored.
    claimed: it is known otherwise that nobody is writing it, whatever its status says.
    """

    run: Run
    checkpoint: Checkpoint
    best: BestEpoch
    planned: int
    kept: Checkpoint | None = None
    claimed: bool = False

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def name(self) -> str:
        return str(self.run.info.run_name)

    @property
    def status(self) -> str:
        return str(self.run.info.status)

    def recorded(self, store: Store, options: RunOptions) -> Recorded:
        """What it was trained on and with, to be compared with what is here now."""
        return recall.recorded(store, self.run, self.checkpoint.experiment, allowed=options.allow_changes)


def find_resumable(store: Store, wanted: str) -> ResumableRun:
    """Look a run up to go on with it. Raises HarnessError for an unknown run, or one without a checkpoint."""
    found = summary.single(store, store.find(wanted))
    checkpoint = recall.checkpoint(store, found)
    best, chosen = BestEpoch(), None
    if checkpoint.score is not None:
        chosen = recall.checkpoint(store, found, "best")
        best = BestEpoch(chosen.score, chosen.epoch, chosen.training["average"] or chosen.training["generator"])
    planned = int(found.data.params.get("train.epochs", checkpoint.experiment.train.epochs))
    return ResumableRun(found, checkpoint, best, planned, chosen)


def start(training: Training, scoring: Scoring | None, store: Store, options: RunOptions) -> RunLog:
    """A new MLflow run for a training that is about to begin."""
    experiment = training.experiment
    return store.start_run(
        project=experiment.project,
        name=options.name or f"{experiment.name}-{secrets.token_hex(2)}",
        kind=options.kind,
        params=experiment.flatten(),
        tags={**provenance.tags(training, scoring), **options.tags},
        parent=options.parent,
        note=options.note,
    )


def begun(
    log: RunLog, training: Training, scoring: Scoring | None, display: Display, options: RunOptions
) -> RunSession:
    """The course of a new run."""
    provenance.describe(log, training)
    save(log, training, BestEpoch(), ship=False)  # a run killed in its first epoch can be resumed too
    outcome = RunResult(log.run_id, log.name, training.experiment, "FINISHED", 0, {})
    return RunSession(outcome, training, scoring, BestEpoch(), log, display, options)


def load(training: Training, known: ResumableRun, display: Display) -> None:
    """Put a training where the run's checkpoint left it. Raises HarnessError where the checkpoint does not fit."""
    _use_threads(known.checkpoint.threads, display)
    with readable_load_errors(f"the weights of run {known.name}"):
        training.load_state_dict(known.checkpoint.training)


def reopened(
    log: RunLog,
    known: ResumableRun,
    recorded: Recorded,
    training: Training,
    scoring: Scoring | None,
    display: Display,
    options: RunOptions,
) -> RunSession:
    """The course of a run that goes on where its checkpoint left it, which `load` has put into the training."""
    checkpoint, experiment = known.checkpoint, training.experiment
    # Who wrote these files may have been killed before they were logged, or have been on another machine.
    keep(log, "last", checkpoint)
    if known.kept:
        keep(log, "best", known.kept)
    before, after = checkpoint.experiment.train.epochs, experiment.train.epochs
    if experiment != checkpoint.experiment:
        display.message(f"extending from {before} to {after} epochs (tag harness.epochs; the param stays)")
    display.message(f"resuming {known.name} after epoch {checkpoint.epoch}")

    def first() -> None:
        """What changes in the run, once it is certain that it changes."""
        if experiment != checkpoint.experiment:
            # Before the extension is logged: a run that is killed in between is still resumed to its new end.
            keep(log, "last", replace(checkpoint, experiment=experiment))
        if after != known.planned:
            log.tags({"harness.epochs": str(after)})
            log.text(experiment.to_yaml(), "experiment.yaml")
        when = f"from epoch {checkpoint.epoch + 1} on"
        if tags := recorded.changed_tags(experiment, provenance.identity(training, scoring), when):
            log.tags(tags)
            provenance.log_images(log, training)
            provenance.keep_sources(log, experiment)

    # Where only the end is missing, this is what there is to report.
    grid = pictures.grid(training.sample(GRID))
    metrics, done = dict(known.run.data.metrics), checkpoint.epoch
    outcome = RunResult(log.run_id, known.name, experiment, "FINISHED", done, metrics, grid=grid, first=done)
    course = RunSession(outcome, training, scoring, known.best, log, display, options, first)
    course.catch_up(checkpoint.epoch)
    return course


# The loop ------------------------------------------------------------------------------------------------------------


def _drive(course: RunSession) -> RunResult:
    """Train to the end, or until a signal, the deadline or a divergence; what was done is saved and logged."""
    training, display, options = course.training, course.display, course.options
    if course.stopped:
        return course.conclude()
    with show_progress(display, training, course.outcome.name):
        with handle_signals() as stop, system_metrics(course.log, options.system_metrics):
            options.deadline.start_lap()
            late = course.out_of_time() and not course.complete
            if late:
                course.stop("max-time")
            for report in () if late else training:
                scores = None
                if course.scoring and course.due(report):
                    with staged(display, "scoring"):
                        (scores,) = course.scoring.between_epochs([training.experiment], [training.generator_ema])
                if course.after(report, scores):
                    break
                options.deadline.end_lap()
                if stopped := stop.signal or ("max-time" if course.out_of_time() else None):
                    course.stop(stopped)
                    break
                options.deadline.start_lap()
        training.forget_recording()  # it holds on to the training, and with it to the GPU's memory
        return course.conclude()


@contextmanager
def show_progress(display: Display, training: Training, name: str) -> Iterator[None]:
    display.started(training, name)
    try:
        yield
    finally:
        display.ended()


@contextmanager
def system_metrics(log: RunLog, wanted: bool) -> Iterator[None]:
    with SystemMetrics(log) if wanted else contextlib.nullcontext():
        yield


# Going on ------------------------------------------------------------------------------------------------------------


def _extended(checkpoint: Checkpoint, values: Mapping[str, Any]) -> Experiment:
    """The checkpoint's experiment with more epochs, if that is all that was asked for."""
    stored = checkpoint.experiment
    wanted = stored.with_values(values)
    others = {path: pair for path, pair in stored.differences(wanted).items() if path != "train.epochs"}
    if others:
        shown = ", ".join(f"{path} {before} -> {after}" for path, (before, after) in others.items())
        raise HarnessError(
            f"a run is resumed as it was started; only train.epochs may change, not {shown}: start a new run for that"
        )
    if wanted.train.epochs != stored.train.epochs and stored.optimizer.schedule != "constant":
        raise HarnessError(
            f"optimizer.schedule {stored.optimizer.schedule} depends on the number of epochs, which was "
            f"{stored.train.epochs} from the start: start a new run with --epochs {wanted.train.epochs}"
        )
    if wanted.train.epochs < checkpoint.epoch:
        raise HarnessError(
            f"train.epochs {wanted.train.epochs} is less than the {checkpoint.epoch} epochs already trained"
        )
    return wanted


@contextmanager
def restore_threads() -> Iterator[None]:
    """A run that is gone on with may need another number of threads; what comes after it does not."""
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
    ours = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # "4,2" is for threads within threads
    share = int(ours) if ours.isdecimal() else torch.multiprocessing.cpu_count()  # another's cores are not ours
    if threads <= share:
        torch.set_num_threads(threads)
    else:
        display.message(
            f"the run was started with {threads} threads, this machine has {torch.get_num_threads()}: "
            "it goes on, but not to the same bits"
        )
