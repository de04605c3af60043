"""Several runs trained as one batched program, each with its own MLflow run, checkpoints and status."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import BatchedTraining, Report, Training
from harness.interrupts import handle_signals
from harness.media import pictures
from harness.quality import ScoreSet
from harness.quality.scoring import Scoring
from harness.results.changes import Recorded
from harness.runs import provenance, train
from harness.runs.session import Display, RunOptions, RunResult, RunSession, Stage, staged
from harness.runs.train import ResumableRun
from harness.tracking import Store, ensure_final_status


class NotBatchableError(HarnessError):
    """Plans that cannot share one program; no run was created."""


@dataclass(frozen=True)
class RunSpec:
    """One run of several: what to train, how it is kept, and the run that it goes on from, if any."""

    experiment: Experiment
    options: RunOptions
    known: ResumableRun | None = None


def run_batched(
    plans: Sequence[RunSpec],
    images: Images,
    held_out: Images | None,
    scoring: Scoring | None,
    store: Store,
    display: Display,
    concluded: Callable[[int, RunResult], None] = lambda index, outcome: None,
) -> list[RunResult]:
    """Train all plans as one batched program; their outcomes, in order. Each is a run as `train.run` leaves it.

    images: what all train on; held_out: what none does. concluded: told of every plan, by its index,
    as soon as its run has ended. Raises ApartError where the plans cannot share one program, before any run is created.
    """
    images = images.to(plans[0].experiment.train.device)  # once, for all to share
    try:
        trainings = [Training(plan.experiment, images, held_out) for plan in plans]
        batched = BatchedTraining(trainings)
    except HarnessError as error:
        raise NotBatchableError(str(error)) from error
    with contextlib.ExitStack() as open_runs, handle_signals() as stop, train.restore_threads():
        # What can be refused is refused before a run is opened.
        known = [
            _loaded(plan, training, scoring, store, display) for plan, training in zip(plans, trainings, strict=True)
        ]
        courses: dict[Training, RunSession] = {}
        for plan, training, recorded in zip(plans, trainings, known, strict=True):
            one = _Member(display, draws=training is trainings[0])
            if plan.known and recorded:
                log = store.resume_run(plan.known.run_id, claimed=plan.known.claimed)
                open_runs.enter_context(ensure_final_status(log))
                courses[training] = train.reopened(log, plan.known, recorded, training, scoring, one, plan.options)
            else:
                log = train.start(training, scoring, store, plan.options)
                open_runs.enter_context(ensure_final_status(log))
                courses[training] = train.begun(log, training, scoring, one, plan.options)
        batched.stack_weights()  # weights that were read back have to be where the program looks
        outcomes: dict[Training, RunResult] = {}

        def conclude(training: Training) -> None:
            outcomes[training] = courses[training].conclude()
            concluded(trainings.index(training), outcomes[training])

        # Who is shown, and has the machine's load in its run: one that still has epochs before it, if any has.
        leader = min(trainings, key=lambda training: training.epoch - training.experiment.train.epochs)
        name = f"{courses[leader].outcome.name} and {len(plans) - 1} more, together"
        options = plans[0].options
        with train.show_progress(display, leader, name):
            with train.system_metrics(courses[leader].log, options.system_metrics):
                options.deadline.start_lap()
                waiting = [course for course in courses.values() if not course.complete]
                late = any(course.out_of_time(len(waiting)) for course in waiting)
                for course in waiting if late else []:
                    course.stop("max-time")
                for reports in () if late else batched:
                    scored = _scores(scoring, courses, reports, display)
                    display.epoch(_mean(reports, scored))
                    # All are saved before one is scored for its end, which takes its time.
                    ended = [
                        training
                        for training, report in reports
                        if courses[training].after(report, scored.get(training))
                    ]
                    options.deadline.end_lap()
                    going = [training for training, _ in reports if training not in ended]
                    late = any(courses[training].out_of_time(len(going)) for training in going)
                    if stopped := stop.signal or ("max-time" if late else None):
                        for training in going:
                            courses[training].stop(stopped)
                        ended += going
                    batched.keep([training for training, _ in reports if training not in ended])
                    for training in ended if batched.members else []:
                        conclude(training)
                    options.deadline.start_lap()
            for training in trainings:
                if training not in outcomes:
                    conclude(training)
    return [outcomes[training] for training in trainings]


def _loaded(
    plan: RunSpec, training: Training, scoring: Scoring | None, store: Store, display: Display
) -> Recorded | None:
    """A training put where the run that it goes on from was stopped, and what that run was trained on and with.

    Raises HarnessError where something has changed since, or does not fit. None where the run is a new one.
    """
    if plan.known is None:
        return None
    recorded = plan.known.recorded(store, plan.options)
    recorded.check_data(provenance.identity(training, scoring), display.message)
    recorded.check_code(plan.experiment, display.message)
    train.load(training, plan.known, display)
    return recorded


def _scores(
    scoring: Scoring | None,
    courses: dict[Training, RunSession],
    reports: Sequence[tuple[Training, Report]],
    display: Display,
) -> dict[Training, ScoreSet]:
    """Of those for which they are due after this epoch."""
    due = [training for training, report in reports if courses[training].due(report)]
    if scoring is None or not due:
        return {}
    plans, samplers = [training.experiment for training in due], [training.generator_ema for training in due]
    with staged(display, "scoring"):
        return dict(zip(due, scoring.between_epochs(plans, samplers), strict=True))


def _mean(reports: Sequence[tuple[Training, Report]], scored: dict[Training, ScoreSet]) -> Report:
    """What to show of an epoch: mean losses and scores, and the images a second of all members."""
    metrics = [report.metrics for _, report in reports]
    shown = {name: float(np.mean([each[name] for each in metrics])) for name in metrics[0]}
    scores = [each.metrics("quality") for each in scored.values()]
    shown |= {name: float(np.mean([each[name] for each in scores])) for name in (scores[0] if scores else {})}
    speed = "speed/images_per_second"
    return replace(reports[0][1], metrics={**shown, speed: sum(each[speed] for each in metrics)})


class _Member:
    """The display of one of many: what it has to say is said, its epochs are the batch's to show.

    draws: whether its grids are the ones that are shown.
    """

    def __init__(self, display: Display, *, draws: bool) -> None:
        self._display, self._draws = display, draws

    def message(self, text: str) -> None:
        self._display.message(text)

    def started(self, training: Training, name: str) -> None: ...

    def epoch(self, report: Report) -> None: ...

    def stage(self, stage: Stage | None) -> None:
        self._display.stage(stage)

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        if self._draws:
            self._display.grid(picture, epoch)

    def ended(self) -> None: ...
