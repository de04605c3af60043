"""The search space of `tune`: what is varied, and what makes a trial cheap, from the same file as the experiment.

    search:
      optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
      generator.latent: {low: 16, high: 256, log: true}
      objective.kind: [non-saturating, hinge]
    search_budget:
      train.epochs: 2
    search_prune_from: 1

These are no fields of the experiment: a run depends on its values, not on the range they were searched in.
The command line overrides the file: see `load`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.experiment import (
    SEARCH_KEYS,
    Experiment,
    format_value,
    parse_override,
    parse_overrides,
    read,
    scalar_types,
    trust,
    unknown_field,
)
from harness.experiment import load as load_experiment
from harness.experiment.dimensions import Choices, Dimension, Range, Value

DEFAULT_SPACE: Mapping[str, Any] = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "generator.latent": {"low": 16, "high": 256, "log": True},
    "discriminator.dropout": {"low": 0.0, "high": 0.5},
}
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
        space: what is varied, by dotted path.
        budget: fields that every trial has instead of the experiment's values.
        prune_from: the epoch at which trials are first compared, if the file sets it.
        from_command_line: fields of the budget, and search_prune_from, that the command line sets.
        fixed: fields that the file searches and the command line sets to one value.
    """

    space: Mapping[str, Dimension]
    budget: Mapping[str, Any] = field(default_factory=dict)
    prune_from: int | None = field(default=None, compare=False)
    from_command_line: frozenset[str] = field(default=frozenset(), compare=False)
    fixed: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def describe(self) -> dict[str, Any]:
        """Return the search as in an experiment file."""
        space = {path: dimension.describe() for path, dimension in self.space.items()}
        return {"search": space, "search_budget": dict(self.budget)}

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
        fields = base.flatten()
        values = {path: fields[path] for path in self.space if fields[path] is not None or self._allows(path, None)}
        return {path: self.space[path].nearest(_encode(value)) for path, value in values.items()}  # type: ignore[arg-type]

    def _allows(self, path: str, value: Value) -> bool:
        dimension = self.space[path]
        return isinstance(dimension, Choices) and value in dimension.values

    def decode(self, path: str, value: Value) -> Any:
        """Convert a value of the search to a value of the experiment: JSON text to a list."""
        lists = isinstance(self.space[path], Choices) and isinstance(value, str) and value.startswith("[")
        return json.loads(value) if lists else value  # type: ignore[arg-type]


def load(
    name: str | Path,
    overrides: Sequence[str] = (),
    adjustments: Mapping[str, Any] | None = None,
    images: int | None = None,
) -> tuple[Experiment, Search]:
    """Load an experiment and its search, by name or file, with overrides `path=value`.

    `search.PATH=...` and `search_budget.PATH=...` change the search. A field that only makes trials cheap
    (BUDGET_FIELDS, and those of the file's budget) changes the budget of the trials, not the full experiment. A field
    that the file searches is no longer searched; if the command line gives a range too, the value is the baseline of
    the first trial. Every other field changes the experiment.

    Args:
        name: of the experiment, or path of its YAML file.
        overrides: as for `--set`.
        adjustments: values for a small data set (`harness.runs.small_data`).
        images: number of training images; a larger subset in the file's budget is removed.

    Raises:
        HarnessError: as for `harness.experiment.load`, or the search is not valid.
    """
    raw, origin = read(name)
    *mappings, pruning = SEARCH_KEYS
    parts = {part: raw.get(part) or {} for part in mappings}
    for part, spec in parts.items():
        if not isinstance(spec, dict):
            raise HarnessError(f"{origin}: {part} is {format_value(spec)}; a mapping of dotted paths was expected")
    typed = _CommandLine.sort(overrides)
    space, budget = ({**_flatten(parts[part]), **typed.parts[part]} for part in mappings)
    for path in typed.parts["search"]:
        if path not in typed.parts["search_budget"]:
            budget.pop(path, None)
    cheap = {path: value for path, value in typed.plain.items() if path in budget or path in BUDGET_FIELDS}
    cheap = {path: value for path, value in cheap.items() if path not in typed.parts["search"]}
    experiment = load_experiment(name, [text for path, text in typed.texts.items() if path not in cheap], adjustments)
    space = {path: spec for path, spec in space.items() if spec is not None}  # null takes a dimension away
    if not space and not parts["search"]:
        space = _default_space(experiment)
    fixed = {path: value for path, value in typed.plain.items() if path in space and path not in typed.parts["search"]}
    space = {path: spec for path, spec in space.items() if path not in fixed}
    if fixed and not space:
        raise HarnessError(f"nothing is left to search: {', '.join(fixed)} have one value each on the command line")
    _check_validation(experiment, typed.plain)
    fields = experiment.flatten()
    unchanged = {path for path, value in cheap.items() if path not in budget and value == fields.get(path, ...)}
    budget |= {path: value for path, value in cheap.items() if path not in unchanged}
    if typed.plain.get("track.score_every", 1) is None:
        budget["track.score_every"] = None
    if images is not None and (budget.get("data.subset") or 0) > images:
        if "data.subset" in typed.parts["search_budget"]:
            raise HarnessError(
                f"data.subset of a trial is {budget['data.subset']:,}, but {images:,} are left to train on"
            )
        del budget["data.subset"]
    found = parse(experiment, space, budget, typed.prune_from or raw.get(pruning))
    trust.allow(experiment.with_values(found.budget).custom_classes.values())
    trust.allow(value for each in found.space.values() if isinstance(each, Choices) for value in each.values)
    from_command_line = frozenset(
        [*cheap, *typed.parts["search_budget"], *([pruning] if typed.prune_from is not None else [])]
    )
    return experiment, replace(found, from_command_line=from_command_line, fixed=fixed)


@dataclass(frozen=True)
class _CommandLine:
    """The overrides of the command line, sorted.

    Attributes:
        parts: values of `search` and `search_budget`, by path.
        plain: values of the experiment, by path.
        texts: the text of each of these.
        prune_from: search_prune_from, or None.
    """

    parts: Mapping[str, dict[str, Any]]
    plain: dict[str, Any]
    texts: dict[str, str]
    prune_from: Any

    @classmethod
    def sort(cls, overrides: Sequence[str]) -> _CommandLine:
        *mappings, pruning = SEARCH_KEYS
        found = cls({part: {} for part in mappings}, {}, {}, None)
        texts = {parse_override(text)[0]: text for text in overrides}
        for path, value in parse_overrides(overrides).items():
            part, _, name = path.partition(".")
            if path == pruning:
                _check_prune_from(value)
                found = replace(found, prune_from=value)
            elif part not in mappings:
                found.plain[path], found.texts[path] = value, texts[path]
            elif not name:
                raise HarnessError(
                    f"--set {texts[path]}: expected {part}.PATH=..., for example {part}.optimizer.lr=..."
                )
            else:
                found.parts[part][name] = value
        for path, value in found.parts["search_budget"].items():
            if path in found.plain and found.plain[path] != value:
                other = format_value(found.plain[path])
                raise HarnessError(
                    f"{path} of a trial is given twice, as {format_value(value)} and as {other}: give it once"
                )
        return found


def _check_validation(experiment: Experiment, typed: Mapping[str, Any]) -> None:
    if typed.get("data.validation", 1) == 0 and experiment.primary.against_real:
        raise HarnessError(
            "data.validation is 0, but a search compares its trials on validation images: hold some out, or leave "
            "data.validation out"
        )


def _default_space(experiment: Experiment) -> dict[str, Any]:
    """The part of DEFAULT_SPACE that fits the experiment: penalties exclude dropout, and custom networks may."""
    fields = experiment.flatten()
    refused = set()
    if experiment.objective.penalties or (
        ":" in experiment.discriminator.kind and not experiment.discriminator.dropout
    ):
        refused.add("discriminator.dropout")
    return {path: spec for path, spec in DEFAULT_SPACE.items() if path in fields and path not in refused}


def parse(
    experiment: Experiment, space: Mapping[str, Any], budget: Mapping[str, Any], prune_from: Any = None
) -> Search:
    """Return the search of an experiment.

    Raises:
        HarnessError: a path is not a field, or a range or list of choices is not valid.
    """
    if not space:
        raise HarnessError("search is empty: name a field, for example optimizer.lr: {low: 1e-4, high: 1e-2}")
    try:
        cheap = experiment.with_values(budget)
    except HarnessError as error:
        reason = str(error).removeprefix("--set ").removeprefix("the overrides: ")
        raise HarnessError(f"the budget of a trial (search_budget): {reason}") from error
    for path in space:
        if path in budget:
            raise HarnessError(f"{path} is in search and in search_budget: it can be varied or fixed, not both")
    if prune_from is not None:
        _check_prune_from(prune_from)
    return Search(
        {path: _dimension(cheap, experiment, path, spec) for path, spec in space.items()}, dict(budget), prune_from
    )


def _check_prune_from(epoch: Any) -> None:
    if type(epoch) is not int or epoch < 1:
        raise HarnessError(f"search_prune_from is {format_value(epoch)}; expected an epoch, 1 or more")


def _dimension(experiment: Experiment, full: Experiment, path: str, spec: Any) -> Dimension:
    """Check one dimension; experiment: with the budget of a trial; full: without it."""
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
    if not isinstance(spec, dict) or not {"low", "high"} <= set(spec) <= {"low", "high", "log"}:
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
    return Range(float(low), float(high), log, integer)


def _encode(value: Any) -> Value:
    """A value as a choice: lists become JSON text. Raises HarnessError for a date."""
    try:
        return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
    except TypeError as error:
        raise HarnessError(
            f"search: {format_value(value)} cannot be a choice; expected numbers, texts or lists"
        ) from error


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted paths of nested sections: `optimizer: {lr: {low: ...}}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and not {"low", "high", "log"} & set(value)
        flat.update(_flatten(value, f"{prefix}{key}.") if nested and value else {f"{prefix}{key}": value})
    return flat
