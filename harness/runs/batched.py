"""Several runs trained at once as one batched program, each with its own MLflow run, checkpoints and status."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import BatchedTraining, Report, Training
from harness.interrupts import handle_signals
from harness.quality import ScoreSet
from harness.quality.scoring import Scoring
from harness.results.changes import Recorded
from harness.runs import provenance
from harness.runs.display import Display, MemberDisplay, show_training, staged
from harness.runs.options import RunOptions, RunResult
from harness.runs.resumable import ResumableRun, restore_threads
from harness.runs.session import RunSession
from harness.tracking import Store

Sessions = Mapping[Training, RunSession]


class NotBatchableError(HarnessError):
    """Experiments that cannot share one program; no run was created."""


@dataclass(frozen=True)
class RunSpec:
    """One run of several: what to train, its options, and the run that it continues, if any."""

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
) -> list[RunResult]:
    """Train several runs as one batched program. Each ends as it would alone.

    Args:
        specs: the runs.
        images: what all train on.
        validation: held-out images, if any.
        scoring: the judge of all, if any.
        store: where they are tracked.
        display: is shown what happens.
        on_result: called with the index of a run as soon as it has ended.

    Returns:
        The results, in the order of `specs`.

    Raises:
        NotBatchableError: if they cannot share one program, before any run is created.
    """
    images = images.to(specs[0].experiment.train.device)  # once, for all to share
    try:
        trainings = [Training(spec.experiment, images, validation) for spec in specs]
        batched = BatchedTraining(trainings)
    except HarnessError as error:
        raise NotBatchableError(str(error)) from error
    results: dict[Training, RunResult] = {}

    def finish(training: Training) -> None:
        results[training] = sessions[training].finish()
        on_result(trainings.index(training), results[training])

    with restore_threads(), handle_signals(), _sessions(specs, trainings, scoring, store, display) as sessions:
        batched.stack_weights()  # weights that were restored have to be where the program looks
        # The display and the system metrics belong to a run that still has epochs to train, if any has.
        leader = min(trainings, key=lambda training: training.epoch - training.experiment.train.epochs)
        name = f"{sessions[leader].result.name} and {len(specs) - 1} more, together"
        with show_training(display, leader, name):
            with sessions[leader].system_metrics():
                for ended in _train(batched, sessions, scoring, display):
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
    """Start or resume all runs. What can be refused is refused before the first of them is opened."""
    recorded = [
        _restore(spec, training, scoring, store, display) for spec, training in zip(specs, trainings, strict=True)
    ]
    with contextlib.ExitStack() as runs:
        sessions = {}
        for spec, training, known in zip(specs, trainings, recorded, strict=True):
            shown = MemberDisplay(display, grids=training is trainings[0])
            if spec.resumable and known:
                opened = RunSession.resume(spec.resumable, known, training, scoring, store, spec.options, shown)
            else:
                opened = RunSession.start(training, scoring, store, spec.options, shown)
            sessions[training] = runs.enter_context(opened)
        yield sessions


def _restore(
    spec: RunSpec, training: Training, scoring: Scoring | None, store: Store, display: Display
) -> Recorded | None:
    """Put a training where the run that it continues was stopped. Returns what that run was trained on and with.

    Raises HarnessError where something has changed since, or does not fit. Returns None for a new run.
    """
    if spec.resumable is None:
        return None
    recorded = spec.resumable.recorded(store, spec.options)
    recorded.check_data(provenance.identity(training, scoring), display.message)
    recorded.check_code(spec.experiment, display.message)
    spec.resumable.restore(training, display)
    return recorded


def _train(
    batched: BatchedTraining, sessions: Sessions, scoring: Scoring | None, display: Display
) -> Iterator[list[Training]]:
    """Train epoch after epoch. Yields, while others go on, those that have ended and may be finished."""
    deadline = next(iter(sessions.values())).options.deadline
    with handle_signals() as stop:
        _stop_late([session for session in sessions.values() if not session.ended])
        batched.keep([training for training, session in sessions.items() if not session.ended])
        deadline.start_epoch()
        for reports in batched:
            scores = _score(scoring, sessions, reports, display)
            display.epoch(_mean(reports, scores))
            for training, report in reports:
                session = sessions[training]
                session.log(report, scores.get(training))
                session.save()
                session.draw()
            deadline.end_epoch()
            _stop_late([sessions[training] for training, _ in reports if not sessions[training].ended], stop.signal)
            # All are saved before one is scored for its end, which takes its time.
            ended = [training for training, _ in reports if sessions[training].ended]
            batched.keep([training for training, _ in reports if training not in ended])
            if batched.members:
                yield ended
            deadline.start_epoch()


def _stop_late(sessions: Sequence[RunSession], signal: str | None = None) -> None:
    """Stop all of these runs at a signal, or where one of them has no time for another epoch."""
    late = any(session.out_of_time(len(sessions)) for session in sessions)
    if reason := signal or ("max-time" if late else None):
        for session in sessions:
            session.stop(reason)


def _score(
    scoring: Scoring | None, sessions: Sessions, reports: Sequence[tuple[Training, Report]], display: Display
) -> dict[Training, ScoreSet]:
    """Score, in one go, all generators for which it is due after this epoch."""
    due = [training for training, report in reports if sessions[training].score_is_due(report)]
    if scoring is None or not due:
        return {}
    experiments, generators = [training.experiment for training in due], [training.generator_ema for training in due]
    with staged(display, "scoring"):
        return dict(zip(due, scoring.between_epochs(experiments, generators), strict=True))


def _mean(reports: Sequence[tuple[Training, Report]], scores: Mapping[Training, ScoreSet]) -> Report:
    """What to show of an epoch: mean losses and scores, and the images a second of all runs."""
    metrics = [report.metrics for _, report in reports]
    mean = {name: float(np.mean([each[name] for each in metrics])) for name in metrics[0]}
    scored = [each.metrics("quality") for each in scores.values()]
    mean |= {name: float(np.mean([each[name] for each in scored])) for name in (scored[0] if scored else {})}
    speed = "speed/images_per_second"
    return replace(reports[0][1], metrics={**mean, speed: sum(each[speed] for each in metrics)})
