"""The settings of a study: fixed when it is created, stored with it, and shared by all of its processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import HarnessError
from harness.experiment import Experiment, from_store, trust
from harness.experiment.dimensions import Value
from harness.experiment.scores import Direction
from harness.experiment.search import Search, parse
from harness.experiment.sections import VALIDATION_IMAGES
from harness.tuning.custom_sampler import is_custom, trusted_name
from harness.tuning.goals import COSTS, Constraint, check_metric, direction_of

SAMPLERS = ("tpe", "random", "qmc", "grid", "gp", "cmaes", "nsgaii")
METHODS = ("optuna", "pbt")
PRUNERS = ("halving", "hyperband", "median", "wilcoxon", "none")


@dataclass(frozen=True)
class Settings:
    """The settings of a study.

    Attributes:
        experiment: The experiment with its full budget, and with `auto` values resolved.
        search: The search space and the budget of a trial.
        metric: Key of the score to optimize, on the validation images if images are compared with real ones.
        direction: minimize or maximize.
        sampler: One of SAMPLERS, or the path of a custom one (`custom_sampler`).
        pruner: One of PRUNERS.
        min_resource: The epoch from which on trials are pruned, as in Optuna's SuccessiveHalvingPruner.
        reduction_factor: One in so many trials continues, as in Optuna's SuccessiveHalvingPruner.
        batch_runs: Number of runs that are trained as one batch.
        planned: Number of trials that was first requested; determines `startup` and the grid.
        seeds: Number of seeds that a trial is trained under; in a race, at most.
        aggregate: How the scores of the seeds become the value of the trial: one of `loading.AGGREGATES`.
        race: Whether trials begin with one seed, and the best ones get more.
        more_metrics: Further metrics to optimize: scores and costs. The result is then a Pareto front.
        constraints: Limits on metrics, as in `goals.Constraint.parse`.
        method: One of METHODS: Optuna proposes trials one after another, or all trials are a population (`pbt`).
        perturb_every: Number of epochs between two decisions of a population.
    """

    experiment: Experiment
    search: Search
    metric: str
    direction: Direction
    sampler: str
    pruner: str
    min_resource: int
    reduction_factor: int
    batch_runs: int
    planned: int
    seeds: int = 1
    aggregate: str = "mean"
    race: bool = False
    more_metrics: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    method: str = "optuna"
    perturb_every: int = 0

    @property
    def base(self) -> Experiment:
        """The experiment of a trial, before its values: with the budget of the search, validation images and scores."""
        return trial_base(self.experiment, self.search)

    @property
    def seed(self) -> int:
        """Seed of the sampler: the seed of the experiment."""
        return self.experiment.train.seed

    @property
    def startup(self) -> int:
        """Number of quasi-random trials before the sampler uses results: a quarter of `planned`, 4 to 10."""
        return min(10, max(4, self.planned // 4))

    @property
    def population(self) -> int:
        """Number of trials in a generation of NSGA-II: a fifth of `planned`, 4 to 50."""
        return min(50, max(4, self.planned // 5))

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics to optimize."""
        return (self.metric, *self.more_metrics)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The direction of each of them."""
        return (self.direction, *(direction_of(metric) for metric in self.more_metrics))

    @property
    def limits(self) -> list[Constraint]:
        """The constraints."""
        return [Constraint.parse(text) for text in self.constraints]

    @property
    def measured(self) -> tuple[str, ...]:
        """Everything that is measured of a trial: the metrics, and those of the constraints."""
        return tuple(dict.fromkeys([*self.metrics, *(limit.metric for limit in self.limits)]))

    @property
    def seed_list(self) -> list[int]:
        """The seeds of every trial, the same for all: those of the experiment, counted up."""
        return list(range(self.seed, self.seed + self.seeds))

    @property
    def batch_trials(self) -> int:
        """Number of trials that one process claims at once."""
        return self.batch_runs if self.race else max(1, self.batch_runs // self.seeds)

    def differences(self, other: Settings) -> list[str]:
        """Return the differences from other settings, in words."""
        changed = [
            f"{path} {before} -> {after}"
            for path, (before, after) in self.experiment.differences(other.experiment).items()
        ]
        mine, others = self.search.describe(), other.search.describe()
        for part in mine:
            for path in {**mine[part], **others[part]}:
                before, after = mine[part].get(path), others[part].get(path)
                if before != after:
                    changed.append(f"{part}.{path} {before} -> {after}")
        for field in fields(self)[2:]:
            if field.name == "planned":
                continue
            before, after = getattr(self, field.name), getattr(other, field.name)
            if before != after:
                changed.append(f"{field.name} {_words(before)} -> {_words(after)}")
        return changed

    def to_json(self) -> str:
        """Return the settings as text for Optuna's storage; the inverse of `from_json`."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        return json.dumps({"experiment": self.experiment.to_yaml(), **self.search.describe(), **plain})

    @classmethod
    def from_json(cls, text: str, study: str) -> Settings:
        """Return the settings in `text`. Raises HarnessError if another version of harness wrote it."""
        try:
            stored: dict[str, Any] = json.loads(text)
            experiment = from_store(stored.pop("experiment"), f"the experiment of study {study}")
            search = parse(experiment, stored.pop("search"), stored.pop("search_budget"))
            if is_custom(stored["sampler"]):
                trust.mark_untrusted(f"study {study}", {"--sampler": trusted_name(stored["sampler"])})
            lists = {key: tuple(value) for key, value in stored.items() if isinstance(value, list)}
            return cls(experiment, search, **{**stored, **lists})
        except (KeyError, TypeError, ValueError) as error:
            raise HarnessError(f"study {study} was created by another version of harness: use a new name") from error


def _words(value: object) -> str:
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)


def trial_base(experiment: Experiment, search: Search) -> Experiment:
    """Return `Settings.base`. Raises HarnessError if the experiment cannot be searched."""
    if experiment.quality.judge is None:
        raise HarnessError("a search needs scores: set quality.judge (to first, for example)")
    values = dict(search.budget)
    if experiment.primary.against_real and not experiment.with_values(values).data.validation:
        values["data.validation"] = VALIDATION_IMAGES
    values.setdefault("track.score_every", experiment.track.score_every or 1)
    return experiment.with_values(values)


def resolve_metrics(experiment: Experiment, requested: Sequence[str]) -> tuple[str, ...]:
    """Return the requested metrics, scores first, or the primary score.

    Raises:
        HarnessError: The experiment does not have a metric, or the metrics do not go together.
    """
    for metric in requested:
        check_metric(experiment, metric, f"--metric {metric}")
        if requested.count(metric) > 1:
            raise HarnessError(f"--metric {metric} is given twice")
    if requested and not set(requested) - set(COSTS):
        raise HarnessError(
            f"--metric {requested[0]}: a search needs a score, too; add --metric {experiment.primary.key}"
        )
    return tuple(sorted(requested, key=lambda metric: metric in COSTS)) or (experiment.primary.key,)


def baseline_values(settings: Settings) -> dict[str, Value]:
    """Return the values of the first trial: those of the experiment, moved into the search space."""
    return settings.search.baseline(settings.base)


def with_resolved_auto(experiment: Experiment, known: Experiment) -> Experiment:
    """Replace `auto` values of an experiment by the values that they have in a known one."""
    autos = {path: known.flatten()[path] for path, value in experiment.flatten().items() if value == "auto"}
    return experiment.with_values(autos)
