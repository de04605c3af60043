"""The settings of a study: fixed when it is created, stored with it, and shared by all of its processes."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import HarnessError
from harness.experiment import Experiment, from_store
from harness.experiment.dimensions import Value
from harness.experiment.scores import Direction
from harness.experiment.search import Search, parse
from harness.experiment.sections import VALIDATION_IMAGES

SAMPLERS = ("tpe", "random", "qmc", "grid", "gp", "cmaes")
PRUNERS = ("halving", "hyperband", "median", "wilcoxon", "none")


@dataclass(frozen=True)
class Settings:
    """The settings of a study.

    Attributes:
        experiment: The experiment with its full budget, and with `auto` values resolved.
        search: The search space and the budget of a trial.
        metric: Key of the score to optimize, on the validation images if images are compared with real ones.
        direction: minimize or maximize.
        sampler: One of SAMPLERS.
        pruner: One of PRUNERS.
        min_resource: The epoch from which on trials are pruned, as in Optuna's SuccessiveHalvingPruner.
        reduction_factor: One in so many trials continues, as in Optuna's SuccessiveHalvingPruner.
        batch_runs: Number of trials that are trained as one batch.
        planned: Number of trials that was first requested; determines `startup` and the grid.
        seeds: Number of seeds that a trial is trained under; in a race, at most.
        aggregate: How the scores of the seeds become the value of the trial: one of `loading.AGGREGATES`.
        race: Whether trials begin with one seed, and the best ones get more.
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
                changed.append(f"{field.name} {before} -> {after}")
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
            return cls(experiment, search, **stored)
        except (KeyError, TypeError, ValueError) as error:
            raise HarnessError(f"study {study} was created by another version of harness: use a new name") from error


def trial_base(experiment: Experiment, search: Search) -> Experiment:
    """Return `Settings.base`. Raises HarnessError if the experiment cannot be searched."""
    if experiment.quality.judge is None:
        raise HarnessError("a search needs scores: set quality.judge (to first, for example)")
    values = dict(search.budget)
    if experiment.primary.against_real and not experiment.with_values(values).data.validation:
        values["data.validation"] = VALIDATION_IMAGES
    values.setdefault("track.score_every", experiment.track.score_every or 1)
    return experiment.with_values(values)


def resolve_metric(experiment: Experiment, requested: str | None) -> str:
    """Return the requested score, or the primary one. Raises HarnessError if the experiment does not have it."""
    primary = experiment.primary
    if requested is not None and requested not in primary.searchable:
        raise HarnessError(
            f"--metric {requested}: {experiment.data.name} is not scored by that; expected one of "
            f"{', '.join(primary.searchable)}"
        )
    return requested or primary.key


def baseline_values(settings: Settings) -> dict[str, Value]:
    """Return the values of the first trial: those of the experiment, moved into the search space."""
    return settings.search.baseline(settings.base)


def with_resolved_auto(experiment: Experiment, known: Experiment) -> Experiment:
    """Replace `auto` values of an experiment by the values that they have in a known one."""
    autos = {path: known.flatten()[path] for path, value in experiment.flatten().items() if value == "auto"}
    return experiment.with_values(autos)
