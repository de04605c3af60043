"""Batched training of several runs. Each has its own MLflow run, checkpoints and status."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import Report, Training
from harness.gan.grouped import GroupedTraining
from harness.interrupts import handle_signals
from harness.quality import ScoreSet
from harness.quality.scoring import Scoring
from harness.results.changes import RecordedInputs
from harness.runs import provenance
from harness.runs.display import Display, MemberDisplay, show_stage, show_training
from harness.runs.options import RunOptions, RunResult
from harness.runs.resumable import ResumableRun, restore_threads
from harness.runs.session import RunSession
from harness.tracking import Store, system_metrics

Sessions = Mapping[Training, RunSession]
Reports = Sequence[tuple[Training, Report]]


class Population(Protocol):
    """Runs that learn from each other between epochs."""

    @property
    def batch_runs(self) -> int:
        """Number of runs that are trained as one batch."""

    def start(self, sessions: Sessions) -> None:
        """Called when all runs are open, before the first epoch."""

    def evolve(self, sessions: Sessions, reports: Reports, scores: Mapping[Training, ScoreSet]) -> bool:
        """Called after an epoch is logged, before it is saved. Returns whether weights were copied."""

    def save(self, sessions: Sessions) -> None:
        """Called after the checkpoints of all runs are saved at the same epoch."""


class NotBatchableError(HarnessError):
    """The experiments cannot be trained as a batch. No run was created."""


@dataclass(frozen=True)
class RunSpec:
    """One run of a batch: its experiment, its options, and the run to resume, if any."""

    experiment: Experiment
    options: RunOptions
    resumable: ResumableRun | None = None


def run_batched(
    specs: Sequence[RunSpec],
    images: Images,
    validation: Images | None,
    scoring: Scoring | None,
    store: Store,
    display: Display,
    on_result: Callable[[int, RunResult], None] = lambda index, result: None,
    population: Population | None = None,
) -> list[RunResult]:
    """Train several runs as a batch. Each ends as it would alone.

    Args:
        specs: The runs.
        images: The training images, the same for all runs.
        validation: The validation images, if any.
        scoring: The scoring, the same for all runs; None if nothing is scored.
        store: The MLflow store.
        display: Shows the progress.
        on_result: Called with the index and the result of a run as soon as it has ended.
        population: What the runs do between epochs; None if they are independent.

    Returns:
        The results, in the order of `specs`.

    Raises:
        NotBatchableError: The runs cannot be trained as a batch. No run is created then.
    """
    images = images.to(specs[0].experiment.train.device)  # once: all runs share them
    try:
        trainings = [Training(spec.experiment, images, validation) for spec in specs]
        batched = GroupedTraining(trainings, population.batch_runs if population else len(trainings))
    except HarnessError as error:
        raise NotBatchableError(str(error)) from error
    results: dict[Training, RunResult] = {}

    def finish(training: Training) -> None:
        results[training] = sessions[training].finish()
        on_result(trainings.index(training), results[training])

    with restore_threads(), handle_signals(), _sessions(specs, trainings, scoring, store, display) as sessions:
        batched.stack_weights()  # again, because restored runs have other weights
        if population:
            population.start(sessions)
        # The display shows a run that still has epochs to train, if there is one; it also gets the system metrics.
        leader = min(trainings, key=lambda training: training.epoch - training.experiment.train.epochs)
        name = f"{sessions[leader].result.name} (batch of {len(specs)})"
        with show_training(display, leader, name):
            with system_metrics(sessions[leader].run_log, enabled=sessions[leader].options.system_metrics):
                for ended in _train(batched, sessions, scoring, display, population):
                    for training in ended:
                        finish(training)
            for training in trainings:
                if training not in results:
                    finish(training)
    return [results[training] for training in trainings]


@contextmanager
def _sessions(
    specs: Sequence[RunSpec], trainings: Sequence[Training], scoring: Scoring | None, store: Store, display: Display
) -> Iterator[Sessions]:
    """Start or resume all runs. Errors are raised before the first one is opened."""
    recorded = [
        _restore(spec, training, scoring, store, display) for spec, training in zip(specs, trainings, strict=True)
    ]
    with contextlib.ExitStack() as runs:
        sessions = {}
        for spec, training, known in zip(specs, trainings, recorded, strict=True):
            member_display = MemberDisplay(display, grids=training is trainings[0])
            if spec.resumable and known:
                opened = RunSession.resume(
                    spec.resumable, known, training, scoring, store, spec.options, member_display
                )
            else:
                opened = RunSession.start(training, scoring, store, spec.options, member_display)
            sessions[training] = runs.enter_context(opened)
        yield sessions


def _restore(
    spec: RunSpec, training: Training, scoring: Scoring | None, store: Store, display: Display
) -> RecordedInputs | None:
    """Load the checkpoint of the run to resume into a training.

    Returns:
        The images, judge and code that the run started with; None for a new run.

    Raises:
        HarnessError: Something has changed since, or the checkpoint does not fit.
    """
    if spec.resumable is None:
        return None
    recorded = spec.resumable.recorded(store, spec.options)
    recorded.check_data(provenance.identity_tags(training, scoring), display.message)
    recorded.check_code(spec.experiment, display.message)
    spec.resumable.restore(training, display)
    return recorded


def _train(
    batched: GroupedTraining,
    sessions: Sessions,
    scoring: Scoring | None,
    display: Display,
    population: Population | None,
) -> Iterator[list[Training]]:
    """Train epoch by epoch. Yields those that have ended, while others continue."""
    deadline = next(iter(sessions.values())).options.deadline
    with handle_signals() as stop:
        _stop_late([session for session in sessions.values() if not session.ended])
        batched.keep_only([training for training, session in sessions.items() if not session.ended])
        deadline.start_epoch()
        for reports in batched:
            scores = _score(scoring, sessions, reports, display)
            display.epoch(_mean(reports, scores))
            for training, report in reports:
                sessions[training].report(report, scores.get(training))
            for training, report in reports:
                sessions[training].log(_to_log(report, reports, population), scores.get(training))
            if population and population.evolve(sessions, reports, scores):
                batched.stack_weights()
            for training, _ in reports:
                sessions[training].save()
                sessions[training].draw()
            deadline.end_epoch()
            _stop_late([sessions[training] for training, _ in reports if not sessions[training].ended], stop.signal)
            if population:
                population.save(sessions)
            # All are saved before the final scores of one, which take time.
            ended = [training for training, _ in reports if sessions[training].ended]
            batched.keep_only([training for training, _ in reports if training not in ended])
            if batched.members:
                yield ended
            deadline.start_epoch()


def _to_log(report: Report, reports: Reports, population: Population | None) -> Report:
    """In a population, a run that diverges gets the weights of another one, as long as there is one."""
    if population and not all(each.diverged for _, each in reports):
        return replace(report, diverged=None)
    return report


def _stop_late(sessions: Sequence[RunSession], signal: str | None = None) -> None:
    """Stop all these runs at a signal, or if one of them has no time for another epoch."""
    late = any(session.out_of_time(len(sessions)) for session in sessions)
    if reason := signal or ("max-time" if late else None):
        for session in sessions:
            session.stop(reason)


def _score(
    scoring: Scoring | None, sessions: Sessions, reports: Sequence[tuple[Training, Report]], display: Display
) -> dict[Training, ScoreSet]:
    """Score all generators that are due after this epoch, as a batch."""
    due = [training for training, report in reports if sessions[training].score_is_due(report)]
    if scoring is None or not due:
        return {}
    experiments, generators = [training.experiment for training in due], [training.generator_ema for training in due]
    with show_stage(display, "scoring"):
        return dict(zip(due, scoring.score_during_training(experiments, generators), strict=True))


def _mean(reports: Sequence[tuple[Training, Report]], scores: Mapping[Training, ScoreSet]) -> Report:
    """Return the report of an epoch of a batch: mean losses and scores, and the images per second of all runs."""
    metrics = [report.metrics for _, report in reports]
    mean = {name: float(np.mean([each[name] for each in metrics])) for name in metrics[0]}
    scored = [each.metrics("quality") for each in scores.values()]
    mean |= {name: float(np.mean([each[name] for each in scored])) for name in (scored[0] if scored else {})}
    speed = "speed/images_per_second"
    return replace(reports[0][1], metrics={**mean, speed: sum(each[speed] for each in metrics)})
