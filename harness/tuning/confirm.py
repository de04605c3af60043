"""`tune --confirm N`: are the best values better than the experiment's own, or were they lucky?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.tags import Kind, Tag
from harness.runs import seeds as replicating
from harness.runs.display import Display
from harness.runs.options import RunOptions
from harness.runs.seeds import Replicates
from harness.tracking import Store
from harness.tuning.open_study import code_of
from harness.tuning.request import TuneRequest
from harness.tuning.storage import lock_dir, open_storage
from harness.tuning.study_run import CONFIRMED, best_experiment
from harness.tuning.trials import Trials, best
from harness.tuning.tune import Result

Budget = Literal["full", "tuning"]
FRESH = 1_000  # how far the seeds are from those that the trials were trained with
LEVEL = 0.95
TABLE = "confirm.csv"


@dataclass(frozen=True)
class Confirmed:
    """scores: of each seed, under `best` and `own`, on the test split. gain: how much better best is, on average.

    interval: of the gain, 95 % (Welch 1947), which is what the spread over so few seeds leaves open.
    """

    metric: str
    scores: Mapping[str, list[float]]
    replicates: Mapping[str, Replicates]
    gain: float
    interval: tuple[float, float]
    stopped: str | None = None

    @property
    def verdict(self) -> str:
        """The gain with its interval, and whether it is larger than the spread over seeds."""
        if self.stopped:
            return "stopped; the same command goes on"
        low, high = self.interval
        shown = f"gain in test {self.metric} {self.gain:.4g} (95 % interval {low:.4g} to {high:.4g})"
        if low > 0:
            return f"{shown}: larger than the spread over seeds"
        if high < 0:
            return f"{shown}: the best trial is worse than the experiment's own values"
        return f"{shown}: no larger than the spread over seeds"

    def as_cells(self) -> list[list[str]]:
        """Return the rows of a text table; the first one is its header."""
        rows = [["values", "seeds", f"test {self.metric}", "deviation", "run"]]
        for which, values in self.scores.items():
            result = self.replicates[which]
            mean, deviation = result.means.get(f"test/{self.metric}"), result.deviations.get(f"test/{self.metric}")
            shown = ["" if number is None else f"{number:.4f}" for number in (mean, deviation)]
            rows.append([which, str(len(values)), *shown, result.run_id[:8]])
        return rows


def confirm(
    result: Result, seeds: int, budget: Budget, store: Store, request: TuneRequest, display: Display
) -> Confirmed:
    """Train the best values and the experiment's own under fresh seeds, as replicates below the study's run.

    budget: `full` is the experiment's, `tuning` that of the trials. What an earlier command has trained counts.
    Raises HarnessError where no trial has a score yet.
    """
    storage = open_storage(request.storage, store.root, store.uri)
    trials = Trials.find(storage, result.name, lock_dir(request.storage, store.root))
    found = None if trials is None else best(trials.study)
    if trials is None or found is None:
        raise HarnessError(f"study {result.name} has no complete trial to confirm yet")
    settings = result.settings
    own = settings.experiment if budget == "full" else settings.base
    best_one = best_experiment(settings, found, result.name)
    if budget == "tuning":
        best_one = settings.search.experiment(settings.base, found.params).with_values({"name": best_one.name})
    metric = settings.metric
    replicates: dict[str, Replicates] = {}
    scores: dict[str, list[float]] = {}
    for which, experiment in (("own", own), ("best", best_one)):
        display.message(f"confirming: {which} values under {seeds} fresh seeds, {budget} budget")
        with code_of(trials, store):
            done = _replicated(which, experiment, seeds, budget, found.number, result, store, request, display)
        replicates[which] = done
        scores[which] = [
            outcome.scores[f"test/{metric}"] for outcome in done.outcomes.values() if f"test/{metric}" in outcome.scores
        ]
        if done.stopped:
            return Confirmed(metric, scores, replicates, math.nan, (math.nan, math.nan), done.stopped)
    gain, interval = compared(scores["own"], scores["best"], lower_is_better=settings.direction == "minimize")
    confirmed = Confirmed(metric, scores, replicates, gain, interval)
    _record(confirmed, found.number, result.run_id, store)
    return confirmed


def _record(confirmed: Confirmed, trial: int, study: str, store: Store) -> None:
    """Keep the verdict in the study's run: tags, a table among the artifacts, and lines of its description."""
    numbers = zip(("gain", "low", "high"), (confirmed.gain, *confirmed.interval), strict=True)
    tags = {f"{Tag.CONFIRMED_}{name}": repr(number) for name, number in numbers}
    store.add(study, 0, {}, {Tag.CONFIRMED: confirmed.verdict, **tags})
    rows = confirmed.as_cells()
    low, high = confirmed.interval
    gain = ["gain", "", f"{confirmed.gain:.4f}", f"95 % interval {low:.4f} to {high:.4f}", ""]
    store.add_table(study, TABLE, [*rows, gain])
    header, *lines = ("| " + " | ".join(row) + " |" for row in rows)
    table = "\n".join([header, "|" + " --- |" * len(rows[0]), *lines])
    said = f"{CONFIRMED} trial {trial}, {confirmed.verdict}.\n\n{table}"
    store.describe(study, lambda text: f"{text.partition(CONFIRMED)[0].strip()}\n\n{said}".strip())


def compared(own: list[float], found: list[float], *, lower_is_better: bool) -> tuple[float, tuple[float, float]]:
    """Mean gain of `found` over `own`, positive where it is better, and its 95 % interval (Welch's t, two-sided)."""
    sign = 1 if lower_is_better else -1
    test = stats.ttest_ind([sign * value for value in own], [sign * value for value in found], equal_var=False)
    interval = test.confidence_interval(LEVEL)
    gain = sign * (sum(own) / len(own) - sum(found) / len(found))
    return gain, (float(interval.low), float(interval.high))


def _replicated(
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
    """The replicates of one side: those of an earlier command, gone on with where they were stopped; else new ones."""
    first = experiment.train.seed + FRESH
    tags = {
        **request.tags,
        Tag.STUDY: result.name,
        Tag.CONFIRM: which,
        Tag.CONFIRM_BUDGET: budget,
        Tag.CONFIRM_SEEDS: str(seeds),
        **({Tag.CONFIRM_TRIAL: str(trial)} if which == "best" else {}),
    }
    options = RunOptions(
        name=f"{result.name}-{which}-{budget}",
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
        return replicating.resume(known[0], store, options, display)
    return replicating.replicate(experiment.with_values({"train.seed": first}), seeds, store, options, display)
