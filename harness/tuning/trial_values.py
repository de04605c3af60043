"""What a trial stands for: its value, its experiment, and whether it counts as one of the requested trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.experiment import Experiment
from harness.experiment.schedules import stretched, values_at
from harness.experiment.tags import TrialAttribute
from harness.tuning.seed_scores import Verdict, verdict
from harness.tuning.settings import Settings


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts as one of the requested trials: a failed trial that is retried does not."""
    attributes = trial.user_attrs
    return trial.state != TrialState.FAIL or not (
        attributes.get(TrialAttribute.RETRIED) or attributes.get(TrialAttribute.SURPLUS)
    )


def is_racing(trial: FrozenTrial) -> bool:
    """Whether a trial is in a race, and waits for the other trials."""
    return trial.state == TrialState.RUNNING and trial.user_attrs.get(TrialAttribute.RACING) is not None


def seed_scores(trial: FrozenTrial) -> dict[int, float]:
    """Return the scores of a trial by seed; empty if each trial of the study has one seed."""
    stored = trial.user_attrs.get(TrialAttribute.SEED_SCORES, {})
    return {int(seed): float(score) for seed, score in stored.items()}


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the complete trial with the best value, the first of several; None if there is none.

    A trial that violates a constraint is no candidate. Of several metrics, the first one counts.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    feasible = [trial for trial in complete if is_feasible(trial)]
    return min(feasible, key=lambda trial: _sign(study) * trial_value(trial), default=None)


def baseline_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the trial with the values of the experiment; None if there is none.

    A member of a population that has copied another one is none.
    """
    own = [trial for trial in study.get_trials(deepcopy=False) if TrialAttribute.CUSTOM in trial.user_attrs]
    own = [trial for trial in own if TrialAttribute.PARENTS not in trial.user_attrs]
    return min(own, key=lambda trial: (trial.state != TrialState.COMPLETE, trial.number), default=None)


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial is within all constraints."""
    return all(violation <= 0 for violation in trial.constraints.values())


def pareto_front(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that no other one beats in all metrics, ordered by the first; empty with one metric."""
    if len(study.directions) < 2:
        return []
    return sorted(study.best_trials, key=lambda trial: (_sign(study) * trial_value(trial), trial.number))


def _sign(study: optuna.Study) -> int:
    return 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1


def trial_value(trial: FrozenTrial) -> float:
    """Return the value of a trial, that of the first of several metrics; NaN if it has none.

    A trial in a race has its value so far.
    """
    if is_racing(trial):
        return float(trial.user_attrs[TrialAttribute.RACING])
    return float(trial.values[0]) if trial.values else math.nan


def leading_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the best trial; while a race goes on, the best of those with the most seeds. None if there is none."""
    racing = [trial for trial in study.get_trials(deepcopy=False) if is_racing(trial)]
    return best_trial(study) or min(
        racing, key=lambda trial: (-len(seed_scores(trial)), _sign(study) * trial_value(trial)), default=None
    )


def study_verdict(study: optuna.Study, settings: Settings) -> Verdict | None:
    """Return how sure it is that the best complete trial is the best; None if each trial has one seed."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    complete = [trial for trial in complete if is_feasible(trial)]
    scores = {trial.number: [score for _, score in sorted(seed_scores(trial).items())] for trial in complete}
    return verdict(scores, settings.aggregate, settings.direction)


def verdict_text(study: optuna.Study, settings: Settings) -> str | None:
    """Return how good the best trial is, in one sentence; None if there is none, or no other one to compare it with."""
    if sure := study_verdict(study, settings):
        return sure.text
    best, baseline = best_trial(study), baseline_trial(study)
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished() and is_counted(trial)]
    if best is None or len(ended) < 2:
        return None
    metric, value = settings.metric, trial_value(best)
    text = f"trial {best.number} is the best of {len(ended)} trials with one seed each: {metric} {value:.4g}"
    if baseline is None or baseline.state != TrialState.COMPLETE:
        return f"{text}; it may be luck, which --confirm N would show"
    if best.number == baseline.number:
        return f"{text}; it has the baseline values, so the search has found nothing better"
    own = trial_value(baseline)
    gain = f", {abs(own - value) / abs(own):.0%} {'lower' if value < own else 'higher'} than" if own else ", against"
    return f"{text}{gain} the baseline ({own:.4g}); it may be luck, which --confirm N would show"


def with_schedule(experiment: Experiment, settings: Settings, trial: FrozenTrial) -> Experiment:
    """Return an experiment with the schedule that a member of a population has found, if the trial is one.

    An experiment with other epochs than a trial gets it stretched.
    """
    stored = trial.user_attrs.get(TrialAttribute.SCHEDULE)
    if not stored:
        return experiment
    schedule = {path: {int(epoch): value for epoch, value in each.items()} for path, each in stored.items()}
    factor = experiment.train.epochs / settings.base.train.epochs
    first = values_at(schedule, 1)  # a member that copied another one has its values from the start
    return experiment.with_values({**first, "schedule": stretched(schedule, factor)})


def trial_experiment(settings: Settings, values: Mapping[str, Any]) -> Experiment:
    """Return the experiment that a trial trains. Raises HarnessError if its values are invalid.

    Names of custom classes come from the storage: see `harness.experiment.trust`.
    """
    return settings.search.experiment(settings.base, values)
