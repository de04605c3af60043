"""A search: which fields are varied, and in which ranges, checked against the experiment."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from harness.errors import HarnessError
from harness.experiment import Experiment, format_value, scalar_types, unknown_field
from harness.experiment.dimensions import Choices, Dimension, Range, Value
from harness.experiment.loading import AGGREGATES

# Trials that differ in these cannot be compared.
_FIXED = (
    *("name", "project", "description", "quality.", "track.", "train.device"),
    *("data.name", "data.path", "data.size", "data.channels", "data.unreadable", "data.validation"),
)
BUDGET_FIELDS = ("data.subset", "train.epochs")  # on the command line they change the trials only


@dataclass(frozen=True)
class Search:
    """A search of an experiment.

    Attributes:
        space: what is varied, by dotted path. A path that is varied under a choice only comes after that choice.
        budget: fields that every trial has instead of the experiment's values.
        prune_from: the epoch at which trials are first compared, if the file sets it.
        seeds: the number of seeds that a trial is trained under, if the file sets it.
        aggregate: one of AGGREGATES, if the file sets it.
        conditions: of the paths that are varied under a choice only: the path of the choice, and the choice.
        from_command_line: fields of the budget, and options such as search_prune_from, that the command line sets.
        fixed: fields that the file searches and the command line sets to one value.
    """

    space: Mapping[str, Dimension]
    budget: Mapping[str, Any] = field(default_factory=dict)
    prune_from: int | None = field(default=None, compare=False)
    seeds: int | None = field(default=None, compare=False)
    aggregate: str | None = field(default=None, compare=False)
    conditions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    from_command_line: frozenset[str] = field(default=frozenset(), compare=False)
    fixed: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def describe(self) -> dict[str, Any]:
        """Return the search as in an experiment file."""
        space = {path: self._describe(path) for path in self.space if path not in self.conditions}
        return {"search": space, "search_budget": dict(self.budget)}

    def _describe(self, path: str) -> Any:
        dimension = self.space[path]
        below = {child: choice for child, (parent, choice) in self.conditions.items() if parent == path}
        if not below or not isinstance(dimension, Choices):
            return dimension.describe()
        return {
            choice: {child: self._describe(child) for child, under in below.items() if under == choice}
            for choice in dimension.values
        }

    def is_active(self, path: str, values: Mapping[str, Value]) -> bool:
        """Whether a path is varied, given the values of the paths before it."""
        parent, choice = self.conditions.get(path, (None, None))
        return parent is None or values.get(parent) == choice

    def describe_trial(self, experiment: Experiment, images: int | None = None) -> str:
        """Describe a trial and where that comes from, such as `500 images, 1 epoch (command line)`.

        Args:
            experiment: the full experiment.
            images: number of training images if the trial's subset is null; None if it is not known.
        """
        fields = {**experiment.flatten(), **self.budget}
        subset, epochs = fields["data.subset"], fields["train.epochs"]
        everything = "all training images" if images is None else f"all {images:,} training images"
        words = {
            "data.subset": everything if subset is None else f"{subset:,} images",
            "train.epochs": f"{epochs:,} epoch{'s' * (epochs != 1)}",
        }
        words |= {path: f"{path} {value}" for path, value in self.budget.items() if path not in BUDGET_FIELDS}
        words |= {path: f"{path} as searched" for path in BUDGET_FIELDS if path in self.space}
        groups: dict[str, list[str]] = {}
        for path, text in words.items():
            groups.setdefault(self._origin(path, experiment), []).append(text)
        return ", ".join(f"{', '.join(texts)} ({origin})" for origin, texts in groups.items())

    def _origin(self, path: str, experiment: Experiment) -> str:
        if path in self.from_command_line:
            return "command line"
        return f"{'search_budget of ' if path in self.budget else ''}experiment {experiment.name}"

    def experiment(self, base: Experiment, values: Mapping[str, Value]) -> Experiment:
        """Return the experiment with these values of the search.

        Raises:
            HarnessError: they are not valid together.
        """
        return base.with_values({path: self.decode(path, value) for path, value in values.items()})

    def baseline(self, base: Experiment) -> dict[str, Value]:
        """Return the experiment's values, as close as the space has them, without fields that are null."""
        fields, found = base.flatten(), dict[str, Value]()
        for path, dimension in self.space.items():
            value = fields.get(path)
            if self.is_active(path, found) and (value is not None or self._allows(path, None)):
                found[path] = dimension.nearest(_encode(value))  # type: ignore[arg-type]
        return found

    def _allows(self, path: str, value: Value) -> bool:
        dimension = self.space[path]
        return isinstance(dimension, Choices) and value in dimension.values

    def decode(self, path: str, value: Value) -> Any:
        """Convert a value of the search to a value of the experiment: JSON text to a list."""
        lists = isinstance(self.space[path], Choices) and isinstance(value, str) and value.startswith("[")
        return json.loads(value) if lists else value  # type: ignore[arg-type]


def parse(
    experiment: Experiment,
    space: Mapping[str, Any],
    budget: Mapping[str, Any],
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Search:
    """Return the search of an experiment.

    Args:
        experiment: the experiment.
        space: ranges and choices by dotted path.
        budget: what makes a trial cheap, by dotted path.
        options: values of search_prune_from, search_seeds and search_aggregate.

    Raises:
        HarnessError: a path is not a field, or a range, list of choices or option is not valid.
    """
    if not space:
        raise HarnessError("search is empty: name a field, for example optimizer.lr: {low: 1e-4, high: 1e-2}")
    try:
        cheap = experiment.with_values(budget)
    except HarnessError as error:
        reason = str(error).removeprefix("--set ").removeprefix("the overrides: ")
        raise HarnessError(f"the budget of a trial (search_budget): {reason}") from error
    for name, value in options.items():
        check_option(name, value)
    dimensions: dict[str, Dimension] = {}
    conditions: dict[str, tuple[str, str]] = {}
    for path, spec, given in _flat_specs(space, {}):
        if path in budget:
            raise HarnessError(f"{path} is in search and in search_budget: it can be varied or fixed, not both")
        if path in dimensions:
            raise HarnessError(f"search.{path} is given twice: under one choice, or for all of them")
        dimensions[path] = _dimension(cheap, experiment, path, spec, given)
        if given:
            conditions[path] = list(given.items())[-1]
    return Search(
        dimensions,
        dict(budget),
        conditions=conditions,
        **{name.removeprefix("search_"): value for name, value in options.items()},
    )


def _flat_specs(space: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[tuple[str, Any, Mapping[str, str]]]:
    """Yield path, range or list of choices, and the choices that it is varied under; parents first."""
    for path, spec in space.items():
        if not isinstance(spec, dict) or set(spec) & {"low", "high", "log", "step"}:
            yield path, spec, given
            continue
        if len(spec) < 2 or not all(isinstance(choice, str) and _is_space(below) for choice, below in spec.items()):
            raise HarnessError(
                f"search.{path} is {format_value(spec)}; expected at least two choices with what is varied under each, "
                "{choice: {PATH: range or choices}, choice: {}}"
            )
        yield path, [*spec], given
        for choice, below in spec.items():
            yield from _flat_specs(below or {}, {**given, path: choice})


def _is_space(below: Any) -> bool:
    return below is None or (isinstance(below, dict) and all(isinstance(path, str) for path in below))


def check_option(name: str, value: Any) -> None:
    """Raise HarnessError for a value of `search_prune_from`, `search_seeds` or `search_aggregate` that is not valid."""
    if name == "search_aggregate":
        expected, valid = f"one of {', '.join(AGGREGATES)}", value in AGGREGATES
    else:
        expected = "an epoch, 1 or more" if name == "search_prune_from" else "a number of seeds, 1 or more"
        valid = type(value) is int and value >= 1
    if not valid:
        raise HarnessError(f"{name} is {format_value(value)}; expected {expected}")


def _dimension(experiment: Experiment, full: Experiment, path: str, spec: Any, given: Mapping[str, str]) -> Dimension:
    """Check one dimension.

    Args:
        experiment: the experiment with the budget of a trial.
        full: the experiment without it.
        path: the path.
        spec: its range or list of choices.
        given: the choices that it is varied under.
    """
    try:
        experiment, full = experiment.with_values(given), full.with_values(given)
    except HarnessError as error:
        parent, choice = list(given.items())[-1]
        reason = str(error).removeprefix("the overrides: ")
        raise HarnessError(f"search.{parent}: under {choice}, {path} cannot be varied: {reason}") from error
    fields = experiment.flatten()
    if path not in fields:
        inside = [name for name in fields if name.startswith(f"{path}.")]
        if inside:
            raise HarnessError(f"search.{path}: {path} is a section, not a field; search {', '.join(inside)}")
        raise HarnessError(f"search: {unknown_field(path)}")
    if path.startswith(_FIXED):
        raise HarnessError(f"search.{path}: trials that differ in {path} cannot be compared; leave it out")
    dimension = _choices(path, spec) if isinstance(spec, list) else _range(experiment, path, spec)
    ends = dimension.values if isinstance(dimension, Choices) else (dimension.nearest(dimension.low), dimension.high)
    for value in ends:
        plain = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
        for budget in (experiment, full):
            try:
                budget.with_values({path: plain})
            except HarnessError as error:
                raise HarnessError(f"search.{path}: {str(error).removeprefix('the overrides: ')}") from error
    return dimension


def _choices(path: str, spec: list[Any]) -> Choices:
    values = tuple(_encode(value) for value in spec)
    if len(set(values)) < 2 or len(set(values)) < len(values):
        raise HarnessError(f"search.{path} is {format_value(spec)}; expected a list of at least two different choices")
    return Choices(values)


def _range(experiment: Experiment, path: str, spec: Any) -> Range:
    if not isinstance(spec, dict) or not {"low", "high"} <= set(spec) <= {"low", "high", "log", "step"}:
        raise HarnessError(
            f"search.{path} is {format_value(spec)}; expected {{low: ..., high: ..., log: true or false}} or a "
            "list of choices"
        )
    types = scalar_types(experiment, path)
    low, high, log = spec["low"], spec["high"], spec.get("log", False)
    if types.isdisjoint({int, float}) or bool in types:
        raise HarnessError(f"search.{path}: {path} is not a number; give a list of choices")
    integer = float not in types
    for name, bound in (("low", low), ("high", high)):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise HarnessError(f"search.{path}.{name} is {format_value(bound)}; a finite number was expected")
        if integer and bound != int(bound):
            raise HarnessError(f"search.{path}.{name} is {format_value(bound)}; {path} is a whole number")
    if not isinstance(log, bool):
        raise HarnessError(f"search.{path}.log is {format_value(log)}; expected true or false")
    if low >= high:
        raise HarnessError(f"search.{path} goes from {low} to {high}; low must be less than high")
    if log and low <= 0:
        raise HarnessError(f"search.{path} is logarithmic from {low}; low must be greater than 0, or log false")
    step = spec.get("step")
    if step is not None:
        high = _last_of_steps(path, low, high, step, log=log, integer=integer)
    return Range(float(low), float(high), log, integer, None if step is None else float(step))


def _last_of_steps(path: str, low: float, high: float, step: Any, *, log: bool, integer: bool) -> float:
    """Return the highest value that steps from `low` reach. Raises HarnessError if the step is not valid."""
    number = not isinstance(step, bool) and isinstance(step, int | float) and math.isfinite(step) and step > 0
    if not number or (integer and step != int(step)):
        expected = "a whole number, 1 or more" if integer else "a number greater than 0"
        raise HarnessError(f"search.{path}.step is {format_value(step)}; expected {expected}")
    if log:
        raise HarnessError(f"search.{path} has a step and is logarithmic: leave one of them out")
    if step > high - low:
        raise HarnessError(f"search.{path}.step is {step}, more than from {low} to {high}; expected a smaller one")
    length = float(step)
    return low + math.floor((high - low) / length + 1e-9) * length


def _encode(value: Any) -> Value:
    """A value as a choice: lists become JSON text. Raises HarnessError for a date."""
    try:
        return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
    except TypeError as error:
        raise HarnessError(
            f"search: {format_value(value)} cannot be a choice; expected numbers, texts or lists"
        ) from error
