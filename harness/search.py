"""What `tune` looks for: the ranges to search, and what makes a trial cheap, from the same file as the experiment.

    search:
      optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
      generator.latent: {low: 16, high: 256, log: true}
      objective.kind: [non-saturating, hinge]
    search_budget:
      train.epochs: 2
    search_prune_from: 1

All are kept apart from the experiment: what a run becomes depends on its values, not on where they were looked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import experiment as experiments
from harness.errors import HarnessError
from harness.experiment import Experiment, scalar_types, shown, unknown

DEFAULT: Mapping[str, Any] = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "generator.latent": {"low": 16, "high": 256, "log": True},
    "discriminator.dropout": {"low": 0.0, "high": 0.5},
}
# Trials that differ in these could not be compared, or would not know what they are called.
_FIXED = (
    *("name", "project", "description", "quality.", "track.", "train.device"),
    *("data.name", "data.path", "data.size", "data.channels", "data.unreadable", "data.validation"),
)

Value = bool | int | float | str | None


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; log: evenly on a logarithmic scale; whole: integers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, share: float) -> float | int:
        """The number that a share of [0, 1) of the range lies below."""
        low, high = self.low, self.high + (1 if self.whole else 0)
        value = math.exp(_between(math.log(low), math.log(high), share)) if self.log else _between(low, high, share)
        return self.nearest(math.floor(value) if self.whole else value)

    def nearest(self, value: float) -> float | int:
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.whole else inside

    def points(self, count: int) -> list[Value]:
        """`count` numbers at even distances, both ends among them."""
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        spots = [_between(*ends, index / (count - 1)) for index in range(count)]
        return list(dict.fromkeys(self.nearest(math.exp(spot) if self.log else spot) for spot in spots))

    def describe(self) -> dict[str, Any]:
        return {"low": self.nearest(self.low), "high": self.nearest(self.high), "log": self.log}


@dataclass(frozen=True)
class Choices:
    """A few values, in no order. What is not a scalar stands as JSON text."""

    values: tuple[Value, ...]

    def at(self, share: float) -> Value:
        return self.values[int(share * len(self.values))]

    def nearest(self, value: Value) -> Value:
        return value if value in self.values else self.values[0]

    def points(self, count: int) -> list[Value]:
        return list(self.values)

    def describe(self) -> list[Value]:
        return list(self.values)


Dimension = Range | Choices


@dataclass(frozen=True)
class Search:
    """space: what is varied, by dotted path. budget: what every trial has instead of the experiment's own values.

    prune_from: the epoch at which trials are first compared, where the file knows.
    """

    space: Mapping[str, Dimension]
    budget: Mapping[str, Any] = field(default_factory=dict)
    prune_from: int | None = field(default=None, compare=False)

    def describe(self) -> dict[str, Any]:
        """As an experiment file has it."""
        space = {path: dimension.describe() for path, dimension in self.space.items()}
        return {"search": space, "search_budget": dict(self.budget)}

    def experiment(self, base: Experiment, values: Mapping[str, Value]) -> Experiment:
        """The experiment with these values of the search in it. Raises HarnessError where they do not go together."""
        return base.with_values({path: self.plain(path, value) for path, value in values.items()})

    def own(self, base: Experiment) -> dict[str, Value]:
        """The experiment's own values, as close as the space has them; leaves that are null are left out."""
        leaves = base.leaves()
        own = {path: leaves[path] for path in self.space if leaves[path] is not None or self._knows(path, None)}
        return {path: self.space[path].nearest(_encoded(value)) for path, value in own.items()}  # type: ignore[arg-type]

    def _knows(self, path: str, value: Value) -> bool:
        dimension = self.space[path]
        return isinstance(dimension, Choices) and value in dimension.values

    def plain(self, path: str, value: Value) -> Any:
        """A value of the search as the experiment takes it."""
        lists = isinstance(self.space[path], Choices) and isinstance(value, str) and value.startswith("[")
        return json.loads(value) if lists else value  # type: ignore[arg-type]


def load(name: str | Path, overrides: Sequence[str] = ()) -> tuple[Experiment, Search]:
    """The experiment of that name or file, and what its file says of a search; `--set search.PATH=...` changes that.

    Raises HarnessError as `experiment.load` does, and for a search that cannot be.
    """
    raw, origin = experiments.read(name)
    *mappings, pruning = experiments.SEARCH
    parts = {part: raw.get(part) or {} for part in mappings}
    for part, told in parts.items():
        if not isinstance(told, dict):
            raise HarnessError(f"{origin}: {part} is {shown(told)}; a mapping of dotted paths was expected")
    space, budget = (_flat(told) for told in parts.values())
    plain, prune_from = [], raw.get(pruning)
    for text in overrides:
        path, value = experiments.parse_override(text)
        part, _, leaf = path.partition(".")
        if path == pruning:
            prune_from = value
            continue
        if part not in mappings:
            plain.append(text)
            continue
        if not leaf:
            raise HarnessError(f"--set {text}: expected {part}.PATH=..., for example {part}.optimizer.lr=...")
        (space if part == "search" else budget)[leaf] = value
    experiment = experiments.load(name, plain)
    space = {path: told for path, told in space.items() if told is not None}  # null takes a dimension away
    if not space and not parts["search"]:
        space = _default(experiment)
    return experiment, parse(experiment, space, budget, prune_from)


def _default(experiment: Experiment) -> dict[str, Any]:
    """Of DEFAULT what the experiment can be searched by: penalties refuse dropout, and so may one's own networks."""
    leaves = experiment.leaves()
    refused = set()
    if experiment.objective.penalties or (
        ":" in experiment.discriminator.kind and not experiment.discriminator.dropout
    ):
        refused.add("discriminator.dropout")
    return {path: told for path, told in DEFAULT.items() if path in leaves and path not in refused}


def parse(
    experiment: Experiment, space: Mapping[str, Any], budget: Mapping[str, Any], prune_from: Any = None
) -> Search:
    """A search of the experiment. Raises HarnessError for paths that are no leaves, and ranges that cannot be."""
    if not space:
        raise HarnessError("search is empty: name at least one leaf, for example optimizer.lr: {low: 1e-4, high: 1e-2}")
    try:
        cheap = experiment.with_values(budget)
    except HarnessError as error:
        raise HarnessError(f"search_budget: {str(error).removeprefix('--set ')}") from error
    for path in space:
        if path in budget:
            raise HarnessError(f"{path} is in search and in search_budget: it can be varied or fixed, not both")
    if prune_from is not None and (type(prune_from) is not int or prune_from < 1):
        raise HarnessError(f"search_prune_from is {shown(prune_from)}; expected an epoch, 1 or more")
    return Search(
        {path: _dimension(cheap, experiment, path, told) for path, told in space.items()}, dict(budget), prune_from
    )


def _dimension(experiment: Experiment, full: Experiment, path: str, told: Any) -> Dimension:
    """experiment: with the budget of a trial. full: as `best.yaml` will have it."""
    leaves = experiment.leaves()
    if path not in leaves:
        inside = [leaf for leaf in leaves if leaf.startswith(f"{path}.")]
        if inside:
            raise HarnessError(f"search.{path}: {path} is a section, not a leaf; search {', '.join(inside)}")
        raise HarnessError(f"search: {unknown(path)}")
    if path.startswith(_FIXED):
        raise HarnessError(f"search.{path}: trials that differ in {path} cannot be compared; leave it out")
    dimension = _choices(path, told) if isinstance(told, list) else _range(experiment, path, told)
    ends = dimension.values if isinstance(dimension, Choices) else (dimension.nearest(dimension.low), dimension.high)
    for value in ends:
        plain = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
        for budget in (experiment, full):
            try:
                budget.with_values({path: plain})
            except HarnessError as error:
                raise HarnessError(f"search.{path}: {str(error).removeprefix('the overrides: ')}") from error
    return dimension


def _choices(path: str, told: list[Any]) -> Choices:
    values = tuple(_encoded(value) for value in told)
    if len(set(values)) < 2 or len(set(values)) < len(values):
        raise HarnessError(f"search.{path} is {shown(told)}; expected a list of at least two different choices")
    return Choices(values)


def _range(experiment: Experiment, path: str, told: Any) -> Range:
    if not isinstance(told, dict) or not {"low", "high"} <= set(told) <= {"low", "high", "log"}:
        raise HarnessError(
            f"search.{path} is {shown(told)}; expected {{low: ..., high: ..., log: true or false}} or a list of choices"
        )
    types = scalar_types(experiment, path)
    low, high, log = told["low"], told["high"], told.get("log", False)
    if types.isdisjoint({int, float}) or bool in types:
        raise HarnessError(f"search.{path}: {path} is not a number; give a list of choices")
    whole = float not in types
    for name, bound in (("low", low), ("high", high)):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise HarnessError(f"search.{path}.{name} is {shown(bound)}; a finite number was expected")
        if whole and bound != int(bound):
            raise HarnessError(f"search.{path}.{name} is {shown(bound)}; {path} is a whole number")
    if not isinstance(log, bool):
        raise HarnessError(f"search.{path}.log is {shown(log)}; expected true or false")
    if low >= high:
        raise HarnessError(f"search.{path} goes from {low} to {high}; low must be less than high")
    if log and low <= 0:
        raise HarnessError(f"search.{path} is logarithmic from {low}; low must be greater than 0, or log false")
    return Range(float(low), float(high), log, whole)


def _encoded(value: Any) -> Value:
    """Raises HarnessError for what YAML has and JSON has not: a date."""
    try:
        return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
    except TypeError as error:
        raise HarnessError(f"search: {shown(value)} cannot be a choice; expected numbers, texts or lists") from error


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Paths written as nested sections, too: `optimizer: {lr: {low: ...}}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and not {"low", "high", "log"} & set(value)
        flat.update(_flat(value, f"{prefix}{key}.") if nested and value else {f"{prefix}{key}": value})
    return flat


def _between(low: float, high: float, share: float) -> float:
    return low + share * (high - low)
