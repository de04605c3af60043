"""The progress of a study: numbers of trials, the best one, and the display that shows them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from optuna.trial import FrozenTrial, TrialState

from harness.experiment.tags import TrialAttribute
from harness.runs.display import Display, NullDisplay
from harness.tuning.study_run import StudyRun
from harness.tuning.trial_values import (
    baseline_trial,
    is_counted,
    is_feasible,
    is_racing,
    leading_trial,
    pareto_front,
    seed_scores,
    trial_value,
)
from harness.tuning.trials import Trials

State = Literal["complete", "pruned", "failed", "racing"]


@dataclass(frozen=True)
class TrialSummary:
    """A trial that has ended, or waits in a race.

    Attributes:
        number: Number of the trial.
        state: Its state.
        values: The hyperparameters that it tried.
        score: Its score; None if it has none.
        intermediate: Whether the trial was pruned, so that `score` is its last intermediate score.
        seconds: Its duration.
        run_id: Id of its MLflow run.
        remark: Why it diverged or failed, if it did.
        seeds: Number of seeds that `score` is from.
        measured: All metrics by name, if the study has several, or constraints.
        feasible: Whether it is within the constraints.
    """

    number: int
    state: State
    values: Mapping[str, Any]
    score: float | None
    intermediate: bool
    seconds: float
    run_id: str | None
    remark: str | None
    seeds: int = 1
    measured: Mapping[str, float] = field(default_factory=dict)
    feasible: bool = True


@dataclass(frozen=True)
class RunningTrial:
    """A running trial.

    Attributes:
        number: Number of the trial.
        epoch: The last scored epoch; 0 for none yet.
        epochs: Number of epochs that the trial trains.
        score: The score of `epoch`.
    """

    number: int
    epoch: int
    epochs: int
    score: float | None


@dataclass(frozen=True)
class StudyProgress:
    """The progress of a study. Trials that are retried are not counted.

    Attributes:
        metric: The score that trials are compared by.
        requested: Requested number of trials.
        total: `requested`, or the number of trials that have ended if that is larger.
        complete: Number of complete trials.
        pruned: Number of pruned trials.
        failed: Number of failed trials.
        running: Number of trials that are being trained.
        racing: Number of trials that wait in a race, with the scores of their seeds.
        race: Whether the study is a race.
        front: Numbers of the trials on the Pareto front, if the study has several metrics.
        best: The best complete trial; while a race goes on, the best one so far.
        baseline: The complete trial with the experiment's original values.
        running_trials: The trials that are being trained.
    """

    metric: str
    requested: int
    total: int
    complete: int
    pruned: int
    failed: int
    running: int
    best: TrialSummary | None
    baseline: TrialSummary | None
    running_trials: tuple[RunningTrial, ...] = ()
    racing: int = 0
    race: bool = False
    front: tuple[int, ...] = ()

    @property
    def ended(self) -> int:
        """Number of trials that have ended."""
        return self.complete + self.pruned + self.failed


class StudyDisplay(Display, Protocol):
    """Shows a study and its runs."""

    def trial(self, summary: TrialSummary, progress: StudyProgress) -> None:
        """Show a trial that has ended."""

    def study_progress(self, progress: StudyProgress) -> None:
        """Show the progress of the study."""


class NullStudyDisplay(NullDisplay):
    """A display that shows nothing."""

    def trial(self, summary: TrialSummary, progress: StudyProgress) -> None:
        """Show nothing."""

    def study_progress(self, progress: StudyProgress) -> None:
        """Show nothing."""


def study_progress(trials: Trials, total: int) -> StudyProgress:
    """Return the progress of a study. total: requested number of trials."""
    every = [trial for trial in trials.all() if is_counted(trial)]
    states = [trial.state for trial in every]
    found = leading_trial(trials.study)
    racing = sum(is_racing(trial) for trial in every)
    baseline = baseline_trial(trials.study)
    if baseline is not None and not (baseline.state == TrialState.COMPLETE or is_racing(baseline)):
        baseline = None
    return StudyProgress(
        metric=trials.settings.metric,
        requested=total,
        total=max(total, sum(state.is_finished() for state in states)),
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING) - racing,
        best=None if found is None else summarize_trial(found),
        baseline=None if baseline is None else summarize_trial(baseline),
        running_trials=_running_trials(trials, every),
        racing=racing,
        race=trials.settings.race,
        front=tuple(trial.number for trial in pareto_front(trials.study)),
    )


def _running_trials(trials: Trials, every: list[FrozenTrial]) -> tuple[RunningTrial, ...]:
    running = [trial for trial in every if trial.state == TrialState.RUNNING and not is_racing(trial)]
    epochs = trials.settings.base.train.epochs if running else 0
    found = []
    for trial in running:
        values = trial.intermediate_values
        last = max(values, default=0)
        found.append(RunningTrial(trial.number, last, int(trial.params.get("train.epochs", epochs)), values.get(last)))
    return tuple(found)


def summarize_trial(trial: FrozenTrial) -> TrialSummary:
    """Summarize a trial that has ended, or waits in a race."""
    states: Mapping[TrialState, State] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    duration, racing, scores = trial.duration, is_racing(trial), seed_scores(trial)
    value = trial_value(trial)
    if scores and not racing and trial.state != TrialState.COMPLETE:  # it has dropped out with these
        value = statistics.fmean(scores.values())
    return TrialSummary(
        trial.number,
        "racing" if racing else states.get(trial.state, "failed"),
        trial.params,
        None if math.isnan(value) else value,
        trial.state == TrialState.PRUNED and not scores,
        duration.total_seconds() if duration else 0.0,
        trial.user_attrs.get(TrialAttribute.RUN_ID),
        trial.user_attrs.get(TrialAttribute.DIVERGED) or trial.user_attrs.get(TrialAttribute.ERROR),
        max(1, len(scores)),
        trial.user_attrs.get(TrialAttribute.MEASURED, {}),
        is_feasible(trial),
    )


def _shown_as(trial: FrozenTrial) -> tuple[int, int] | None:
    """Identify what is shown of a trial: its end, or that it has more seeds in a race; None for nothing."""
    if is_racing(trial):
        return trial.number, len(seed_scores(trial))
    return (trial.number, 0) if trial.state.is_finished() else None


class ProgressMonitor:
    """Shows trials as they end, and logs them to the study's MLflow run if this process writes it."""

    def __init__(self, trials: Trials, total: int, display: StudyDisplay, study_run: StudyRun | None) -> None:
        self._trials, self._total, self._display, self.study_run = trials, total, display, study_run
        self._known = {None, *(_shown_as(trial) for trial in trials.all())}
        self._shown: StudyProgress | None = None
        if study_run is not None:
            study_run.log_ended_trials()  # trials that ended after the last command

    def on_progress(self) -> None:
        """Mark a resumed study as changed: a trial was trained for an epoch."""
        if self.study_run is not None:
            self.study_run.mark_changed()

    def update(self) -> int:
        """Show and log the trials that have ended since the last call. Returns their number."""
        if self.study_run is not None:
            self.study_run.log_ended_trials()
        fresh = [trial for trial in self._trials.all() if _shown_as(trial) not in self._known]
        now = study_progress(self._trials, self._total)
        for trial in fresh:
            self._known.add(_shown_as(trial))
            self._display.trial(summarize_trial(trial), now)
        if now != self._shown:
            self._display.study_progress(now)
            self._shown = now
        return len(fresh)
