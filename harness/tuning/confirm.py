"""`tune --confirm N`: train the best values and the baseline values under new seeds, and compare the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.tags import Kind, Tag
from harness.runs.display import Display
from harness.runs.options import RunOptions
from harness.runs.seeds import Replicates, replicate
from harness.runs.seeds import resume as resume_replicates
from harness.tracking import Store
from harness.tuning.open_study import stored_code
from harness.tuning.request import TuneRequest
from harness.tuning.storage import lock_dir, open_storage
from harness.tuning.study_run import CONFIRMED, best_experiment
from harness.tuning.trial_values import best_trial, with_schedule
from harness.tuning.trials import Trials
from harness.tuning.tune import Result

Budget = Literal["full", "tuning"]
SEED_OFFSET = 1_000  # from the seed of the trials to the first seed here
CONFIDENCE = 0.95
TABLE = "confirm.csv"
STORED_NAMES = {"baseline": "own", "best": "best"}  # in the tag `harness.confirm` and in names of runs


@dataclass(frozen=True)
class Confirmed:
    """The result of `confirm`.

    Attributes:
        metric: The score that is compared.
        scores: The score of each seed on the test split, under `baseline` and `best`.
        replicates: The runs of all seeds, under the same keys.
        gain: Mean gain of the best values over the baseline; positive is better.
        interval: The 95 % confidence interval of the gain (Welch 1947).
        stopped: What stopped it early: SIGINT, SIGTERM or max-time; else None.
    """

    metric: str
    scores: Mapping[str, list[float]]
    replicates: Mapping[str, Replicates]
    gain: float
    interval: tuple[float, float]
    stopped: str | None = None

    @property
    def verdict(self) -> str:
        """The gain with its interval, in words."""
        if self.stopped:
            return "stopped; the same command resumes it"
        low, high = self.interval
        gain = f"gain in test {self.metric} {self.gain:.4g} (95 % interval {low:.4g} to {high:.4g})"
        if low > 0:
            return f"{gain}: larger than the spread over seeds"
        if high < 0:
            return f"{gain}: the best trial is worse than the baseline"
        return f"{gain}: no larger than the spread over seeds"

    def as_cells(self) -> list[list[str]]:
        """Return the rows of a text table; the first one is its header."""
        rows = [["values", "seeds", f"test {self.metric}", "deviation", "run"]]
        for which, values in self.scores.items():
            result = self.replicates[which]
            mean, deviation = result.means.get(f"test/{self.metric}"), result.deviations.get(f"test/{self.metric}")
            cells = ["" if number is None else f"{number:.4f}" for number in (mean, deviation)]
            rows.append([which, str(len(values)), *cells, result.run_id[:8]])
        return rows


def confirm(
    result: Result, seeds: int, budget: Budget, store: Store, request: TuneRequest, display: Display
) -> Confirmed:
    """Train the best values and the baseline values under new seeds, as replicates below the study's run.

    Runs of an earlier command are used again.

    Args:
        result: The study.
        seeds: Number of seeds.
        budget: Training length: that of the experiment (`full`) or of a trial (`tuning`).
        store: The MLflow store.
        request: The options of the command.
        display: Shows the runs.

    Raises:
        HarnessError: No trial is complete.
    """
    storage = open_storage(request.storage, store.root, store.uri)
    trials = Trials.find(storage, result.name, lock_dir(request.storage, store.root))
    found = None if trials is None else best_trial(trials.study)
    if trials is None or found is None:
        raise HarnessError(f"study {result.name} has no complete trial yet")
    settings = result.settings
    baseline = settings.experiment if budget == "full" else settings.base
    candidate = best_experiment(settings, found, result.name)
    if budget == "tuning":
        values = settings.search.experiment(settings.base, found.params).with_values({"name": candidate.name})
        candidate = with_schedule(values, settings, found)
    metric = settings.metric
    replicates: dict[str, Replicates] = {}
    scores: dict[str, list[float]] = {}
    for which, experiment in (("baseline", baseline), ("best", candidate)):
        display.message(f"confirming: {which} values under {seeds} new seeds, {budget} budget")
        with stored_code(trials, store):
            done = _replicate(which, experiment, seeds, budget, found.number, result, store, request, display)
        replicates[which] = done
        scores[which] = [
            outcome.scores[f"test/{metric}"] for outcome in done.outcomes.values() if f"test/{metric}" in outcome.scores
        ]
        if done.stopped:
            return Confirmed(metric, scores, replicates, math.nan, (math.nan, math.nan), done.stopped)
    gain, interval = compare_scores(
        scores["baseline"], scores["best"], lower_is_better=settings.direction == "minimize"
    )
    confirmed = Confirmed(metric, scores, replicates, gain, interval)
    _record(confirmed, found.number, result.run_id, store)
    return confirmed


def _record(confirmed: Confirmed, trial: int, study: str, store: Store) -> None:
    """Log the verdict to the study's run, as tags, a table and a part of its description."""
    numbers = zip(("gain", "low", "high"), (confirmed.gain, *confirmed.interval), strict=True)
    tags = {f"{Tag.CONFIRMED_}{name}": repr(number) for name, number in numbers}
    store.add(study, 0, {}, {Tag.CONFIRMED: confirmed.verdict, **tags})
    rows = confirmed.as_cells()
    low, high = confirmed.interval
    gain = ["gain", "", f"{confirmed.gain:.4f}", f"95 % interval {low:.4f} to {high:.4f}", ""]
    store.add_table(study, TABLE, [*rows, gain])
    header, *lines = ("| " + " | ".join(row) + " |" for row in rows)
    table = "\n".join([header, "|" + " --- |" * len(rows[0]), *lines])
    text = f"{CONFIRMED} trial {trial}, {confirmed.verdict}.\n\n{table}"
    store.describe(study, lambda before: f"{before.partition(CONFIRMED)[0].strip()}\n\n{text}".strip())


def compare_scores(
    baseline: list[float], best: list[float], *, lower_is_better: bool
) -> tuple[float, tuple[float, float]]:
    """Return the mean gain of `best`, positive if it is better, and its 95 % interval (Welch's t-test, two-sided)."""
    sign = 1 if lower_is_better else -1
    test = stats.ttest_ind([sign * value for value in baseline], [sign * value for value in best], equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    gain = sign * (sum(baseline) / len(baseline) - sum(best) / len(best))
    return gain, (float(interval.low), float(interval.high))


def _replicate(
    which: str,
    experiment: Experiment,
    seeds: int,
    budget: Budget,
    trial: int,
    result: Result,
    store: Store,
    request: TuneRequest,
    display: Display,
) -> Replicates:
    """Train the seeds of one side. Replicates of an earlier command are resumed."""
    first = experiment.train.seed + SEED_OFFSET
    tags = {
        **request.tags,
        Tag.STUDY: result.name,
        Tag.CONFIRM: STORED_NAMES[which],
        Tag.CONFIRM_BUDGET: budget,
        Tag.CONFIRM_SEEDS: str(seeds),
        **({Tag.CONFIRM_TRIAL: str(trial)} if which == "best" else {}),
    }
    options = RunOptions(
        name=f"{result.name}-{STORED_NAMES[which]}-{budget}",
        kind=Kind.CONFIRM,
        parent=result.run_id,
        tags=tags,
        deadline=request.deadline,
        system_metrics=request.system_metrics,
        allow_changes=request.allow_changes,
    )
    wanted = {key: value for key, value in tags.items() if key.startswith("harness.")}
    known = [run for run in store.children(result.run_id, wanted) if run.data.tags[Tag.KIND] == Kind.REPLICATES]
    if known:
        return resume_replicates(known[0], store, options, display)
    return replicate(experiment.with_values({"train.seed": first}), seeds, store, options, display)
