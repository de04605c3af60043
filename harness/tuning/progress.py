"""How far a study is, and who is told of it as trials end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from optuna.trial import FrozenTrial, TrialState

from harness.experiment.tags import TrialAttribute
from harness.runs.display import Display
from harness.tuning.study_run import StudyRun
from harness.tuning.trials import Trials, best, is_counted, value_of

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialSummary:
    """A trial that has ended. score: None where it has none; on_the_way: it is the last one before it was pruned."""

    number: int
    state: State
    values: Mapping[str, Any]
    score: float | None
    on_the_way: bool
    seconds: float
    run_id: str | None
    remark: str | None


@dataclass(frozen=True)
class Working:
    """A trial that is being trained. epoch: of `epochs`, the last that was scored, 0 for none yet; score: its score."""

    number: int
    epoch: int
    epochs: int
    score: float | None


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is.

    metric: what trials are compared by. asked: how many trials the study was asked for; total: as many, or as many as
    have ended where these are more. running: that somebody is training now; working: the same, one by one. Those tried
    again are not counted.
    """

    metric: str
    asked: int
    total: int
    complete: int
    pruned: int
    failed: int
    running: int
    best: TrialSummary | None
    own: TrialSummary | None
    working: tuple[Working, ...] = ()

    @property
    def ended(self) -> int:
        """Number of trials that have ended."""
        return self.complete + self.pruned + self.failed


class StudyDisplay(Display, Protocol):
    """What a study tells whoever watches, beside what its runs say."""

    def trial(self, tried: TrialSummary, progress: StudyProgress) -> None:
        """Show a trial that has ended."""

    def study_progress(self, progress: StudyProgress) -> None:
        """Show how far the study is."""


def study_progress(trials: Trials, total: int) -> StudyProgress:
    """How far a study is; total: how many trials it is to have."""
    every = [trial for trial in trials.all() if is_counted(trial)]
    states = [trial.state for trial in every]
    found = best(trials.study)
    own = next((t for t in every if t.user_attrs.get(TrialAttribute.CUSTOM) and t.state == TrialState.COMPLETE), None)
    return StudyProgress(
        metric=trials.settings.metric,
        asked=total,
        total=max(total, sum(state.is_finished() for state in states)),
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING),
        best=None if found is None else summarize_trial(found),
        own=None if own is None else summarize_trial(own),
        working=_working(trials, every),
    )


def _working(trials: Trials, every: list[FrozenTrial]) -> tuple[Working, ...]:
    running = [trial for trial in every if trial.state == TrialState.RUNNING]
    epochs = trials.settings.base.train.epochs if running else 0
    found = []
    for trial in running:
        values = trial.intermediate_values
        last = max(values, default=0)
        found.append(Working(trial.number, last, int(trial.params.get("train.epochs", epochs)), values.get(last)))
    return tuple(found)


def summarize_trial(trial: FrozenTrial) -> TrialSummary:
    """What there is to say of a trial that has ended."""
    states: Mapping[TrialState, State] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    span = trial.duration
    return TrialSummary(
        trial.number,
        states.get(trial.state, "failed"),
        trial.params,
        None if trial.value is None else value_of(trial),
        trial.state == TrialState.PRUNED,
        span.total_seconds() if span else 0.0,
        trial.user_attrs.get(TrialAttribute.RUN_ID),
        trial.user_attrs.get(TrialAttribute.DIVERGED) or trial.user_attrs.get(TrialAttribute.ERROR),
    )


class ProgressMonitor:
    """Looks at what has ended, tells the display, and keeps the parent run up to date where that is ours to do."""

    def __init__(self, trials: Trials, total: int, display: StudyDisplay, parent: StudyRun | None) -> None:
        self._trials, self._total, self._display, self.parent = trials, total, display, parent
        self._known = {trial.number for trial in trials.all() if trial.state.is_finished()}
        self._shown: StudyProgress | None = None
        if parent is not None:
            parent.observe()  # what ended after the last command had gone

    def on_progress(self) -> None:
        """A trial was trained an epoch: a resumed study is now another one than it was."""
        if self.parent is not None:
            self.parent.progressed()

    def update(self) -> int:
        """Show and log what has ended since the last call. Returns how many trials that are."""
        if self.parent is not None:
            self.parent.observe()
        fresh = [t for t in self._trials.all() if t.state.is_finished() and t.number not in self._known]
        now = study_progress(self._trials, self._total)
        for trial in fresh:
            self._known.add(trial.number)
            self._display.trial(summarize_trial(trial), now)
        if now != self._shown:
            self._display.study_progress(now)
            self._shown = now
        return len(fresh)
