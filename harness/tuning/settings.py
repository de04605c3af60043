"""What a study is: settled when it is created, kept in its storage, and the same for all who work on it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from harness import experiment as experiments
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment import search_space as searches
from harness.experiment.dimensions import Value
from harness.experiment.scores import Direction
from harness.experiment.search_space import Search
from harness.experiment.sections import VALIDATION_IMAGES

SAMPLERS = ("tpe", "random", "qmc", "grid", "gp", "cmaes")
PRUNERS = ("halving", "none")


@dataclass(frozen=True)
class Settings:
    """experiment: in full, as it was given, but with what `auto` stands for settled.

    metric: key of a score, on the validation images where images are compared with real ones.
    min_resource, reduction_factor: as Optuna's SuccessiveHalvingPruner has them. Trials are first pruned at epoch
    `min_resource`; one in `reduction_factor` continues.
    batch_runs: number of trials trained at once as one batched program. planned: number of trials that was first
    requested; the start and the grid are laid out for it.
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

    @property
    def base(self) -> Experiment:
        """What every trial starts from: the experiment made cheap, with images and scores to be judged by."""
        return trial_base(self.experiment, self.search)

    @property
    def seed(self) -> int:
        """Seed of the sampler: that of the experiment."""
        return self.experiment.train.seed

    @property
    def startup(self) -> int:
        """How many trials are quasi-random before the sampler goes by results: a quarter, 4 to 10."""
        return min(10, max(4, self.planned // 4))

    def differences(self, other: Settings) -> list[str]:
        """In words, what another study would do differently."""
        changed = [
            f"{path} {before} -> {after}"
            for path, (before, after) in self.experiment.differences(other.experiment).items()
        ]
        here, there = self.search.describe(), other.search.describe()
        for part in here:
            for path in {**here[part], **there[part]}:
                before, after = here[part].get(path), there[part].get(path)
                if before != after:
                    changed.append(f"{part}.{path} {before} -> {after}")
        for field in fields(self)[2:-1]:
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
        """Raises HarnessError for what another version has written."""
        try:
            stored: dict[str, Any] = json.loads(text)
            experiment = experiments.from_store(stored.pop("experiment"), f"the experiment of study {study}")
            search = searches.parse(experiment, stored.pop("search"), stored.pop("search_budget"))
            return cls(experiment, search, **stored)
        except (KeyError, TypeError, ValueError) as error:
            raise HarnessError(f"study {study} was made by another version of harness: take a new name") from error


def trial_base(experiment: Experiment, search: Search) -> Experiment:
    """`Settings.base`; raises HarnessError where the experiment cannot be searched."""
    if experiment.quality.judge is None:
        raise HarnessError("a search goes by scores: set quality.judge (to first, for example)")
    values = dict(search.budget)
    if experiment.primary.against_real and not experiment.with_values(values).data.validation:
        values["data.validation"] = VALIDATION_IMAGES
    values.setdefault("track.score_every", experiment.track.score_every or 1)
    return experiment.with_values(values)


def metric_of(experiment: Experiment, wanted: str | None) -> str:
    """The score to search by: the primary one, or the wanted one. Raises HarnessError where there is no such one."""
    primary = experiment.primary
    if wanted is not None and wanted not in primary.searchable:
        raise HarnessError(
            f"--metric {wanted}: {experiment.data.name} is not scored by that; expected one of "
            f"{', '.join(primary.searchable)}"
        )
    return wanted or primary.key


def baseline_values(settings: Settings) -> dict[str, Value]:
    """What the first trial tries: the experiment's own values, as near as the space has them."""
    return settings.search.baseline(settings.base)


def resolved_like(experiment: Experiment, known: Experiment) -> Experiment:
    """The experiment with what `auto` stood for in a known one."""
    autos = {path: known.flatten()[path] for path, value in experiment.flatten().items() if value == "auto"}
    return experiment.with_values(autos)
