"""What `tune` looks for: the ranges to search, and what makes a trial cheap, from the same file as the experiment.

    search:
      optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
      generator.latent: {low: 16, high: 256, log: true}
      objective.kind: [non-saturating, hinge]
    search_budget:
      train.epochs: 2
    search_prune_from: 1

All are kept apart from the experiment: what a run becomes depends on its values, not on where they were looked for.
The command line beats the file: `load` says what each option changes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import experiment as experiments
from harness.errors import HarnessError
from harness.experiment import Experiment, scalar_types, shown, trust, unknown
from harness.experiment.dimensions import Choices, Dimension, Range, Value

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

CHEAP = ("data.subset", "train.epochs")  # on the command line of a search they are those of its trials


@dataclass(frozen=True)
class Search:
    """space: what is varied, by dotted path. budget: what every trial has instead of the experiment's own values.

    prune_from: the epoch at which trials are first compared, where the file knows.
    given: what the command line says of a trial: leaves of the budget, and search_prune_from.
    fixed: leaves that the file searches, and the command line gives one value.
    """

    space: Mapping[str, Dimension]
    budget: Mapping[str, Any] = field(default_factory=dict)
    prune_from: int | None = field(default=None, compare=False)
    given: frozenset[str] = field(default=frozenset(), compare=False)
    fixed: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def describe(self) -> dict[str, Any]:
        """As an experiment file has it."""
        space = {path: dimension.describe() for path, dimension in self.space.items()}
        return {"search": space, "search_budget": dict(self.budget)}

    def describe_trial(self, experiment: Experiment, images: int | None = None) -> str:
        """What a trial is and where that comes from, as in `500 images, 1 epoch (command line)`.

        experiment: in full. images: how many it trains on where its subset is null, if that is known.
        """
        leaves = {**experiment.flatten(), **self.budget}
        subset, epochs = leaves["data.subset"], leaves["train.epochs"]
        everything = "all training images" if images is None else f"all {images:,} training images"
        words = {
            "data.subset": everything if subset is None else f"{subset:,} images",
            "train.epochs": f"{epochs:,} epoch{'s' * (epochs != 1)}",
        }
        words |= {path: f"{path} {value}" for path, value in self.budget.items() if path not in CHEAP}
        words |= {path: f"{path} as searched" for path in CHEAP if path in self.space}
        groups: dict[str, list[str]] = {}
        for path, text in words.items():
            groups.setdefault(self._origin(path, experiment), []).append(text)
        return ", ".join(f"{', '.join(texts)} ({origin})" for origin, texts in groups.items())

    def _origin(self, path: str, experiment: Experiment) -> str:
        if path in self.given:
            return "command line"
        return f"{'search_budget of ' if path in self.budget else ''}experiment {experiment.name}"

    def experiment(self, base: Experiment, values: Mapping[str, Value]) -> Experiment:
        """The experiment with these values of the search in it. Raises HarnessError where they do not go together."""
        return base.with_values({path: self.plain(path, value) for path, value in values.items()})

    def own(self, base: Experiment) -> dict[str, Value]:
        """The experiment's own values, as close as the space has them; leaves that are null are left out."""
        leaves = base.flatten()
        own = {path: leaves[path] for path in self.space if leaves[path] is not None or self._knows(path, None)}
        return {path: self.space[path].nearest(_encoded(value)) for path, value in own.items()}  # type: ignore[arg-type]

    def _knows(self, path: str, value: Value) -> bool:
        dimension = self.space[path]
        return isinstance(dimension, Choices) and value in dimension.values

    def plain(self, path: str, value: Value) -> Any:
        """A value of the search as the experiment takes it."""
        lists = isinstance(self.space[path], Choices) and isinstance(value, str) and value.startswith("[")
        return json.loads(value) if lists else value  # type: ignore[arg-type]


def load(
    name: str | Path,
    overrides: Sequence[str] = (),
    fitted: Mapping[str, Any] | None = None,
    images: int | None = None,
) -> tuple[Experiment, Search]:
    """The experiment of that name or file, and what its file says of a search, changed by `--set`-style overrides.

    The command line beats the file: `search.PATH=...` and `search_budget.PATH=...` change these parts. A leaf that only
    makes trials cheap (CHEAP, and what the file's budget has) changes the budget of the trials, and the full experiment
    keeps the file's value. A leaf that the file searches is no longer searched; with a range given beside it, it is
    what the first trial tries. Everything else changes the experiment.

    fitted, images: what `harness.runs.small_data` says of the data set; a subset of the file's budget gives way to it.
    Raises HarnessError as `experiment.load` does, and for a search that cannot be.
    """
    raw, origin = experiments.read(name)
    *mappings, pruning = experiments.SEARCH
    parts = {part: raw.get(part) or {} for part in mappings}
    for part, told in parts.items():
        if not isinstance(told, dict):
            raise HarnessError(f"{origin}: {part} is {shown(told)}; a mapping of dotted paths was expected")
    typed = _Typed.sort(overrides)
    space, budget = ({**_flat(parts[part]), **typed.parts[part]} for part in mappings)
    for path in typed.parts["search"]:
        if path not in typed.parts["search_budget"]:
            budget.pop(path, None)
    cheap = {path: value for path, value in typed.plain.items() if path in budget or path in CHEAP}
    cheap = {path: value for path, value in cheap.items() if path not in typed.parts["search"]}
    experiment = experiments.load(name, [text for path, text in typed.texts.items() if path not in cheap], fitted)
    space = {path: told for path, told in space.items() if told is not None}  # null takes a dimension away
    if not space and not parts["search"]:
        space = _default(experiment)
    fixed = {path: value for path, value in typed.plain.items() if path in space and path not in typed.parts["search"]}
    space = {path: told for path, told in space.items() if path not in fixed}
    if fixed and not space:
        raise HarnessError(f"nothing is left to search: {', '.join(fixed)} have one value each on the command line")
    _trials_can_be_scored(experiment, typed.plain)
    leaves = experiment.flatten()
    unchanged = {path for path, value in cheap.items() if path not in budget and value == leaves.get(path, ...)}
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
    trust.give(experiment.with_values(found.budget).imports.values())
    trust.give(value for each in found.space.values() if isinstance(each, Choices) for value in each.values)
    given = frozenset([*cheap, *typed.parts["search_budget"], *([pruning] if typed.prune_from is not None else [])])
    return experiment, replace(found, given=given, fixed=fixed)


@dataclass(frozen=True)
class _Typed:
    """What the command line says. plain: leaves of the experiment, and texts, the same as they were typed."""

    parts: Mapping[str, dict[str, Any]]
    plain: dict[str, Any]
    texts: dict[str, str]
    prune_from: Any

    @classmethod
    def sort(cls, overrides: Sequence[str]) -> _Typed:
        *mappings, pruning = experiments.SEARCH
        found = cls({part: {} for part in mappings}, {}, {}, None)
        texts = {experiments.parse_override(text)[0]: text for text in overrides}
        for path, value in experiments.parse_overrides(overrides).items():
            part, _, leaf = path.partition(".")
            if path == pruning:
                _check_prune_from(value)
                found = replace(found, prune_from=value)
            elif part not in mappings:
                found.plain[path], found.texts[path] = value, texts[path]
            elif not leaf:
                raise HarnessError(
                    f"--set {texts[path]}: expected {part}.PATH=..., for example {part}.optimizer.lr=..."
                )
            else:
                found.parts[part][leaf] = value
        for path, value in found.parts["search_budget"].items():
            if path in found.plain and found.plain[path] != value:
                other = shown(found.plain[path])
                raise HarnessError(f"{path} of a trial is given twice, as {shown(value)} and as {other}: give it once")
        return found


def _trials_can_be_scored(experiment: Experiment, typed: Mapping[str, Any]) -> None:
    if typed.get("data.validation", 1) == 0 and experiment.primary.against_real:
        raise HarnessError(
            "data.validation is 0, but a search compares its trials on validation images: hold some out, or leave "
            "data.validation away"
        )


def _default(experiment: Experiment) -> dict[str, Any]:
    """Of DEFAULT what the experiment can be searched by: penalties refuse dropout, and so may one's own networks."""
    leaves = experiment.flatten()
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
        reason = str(error).removeprefix("--set ").removeprefix("the overrides: ")
        raise HarnessError(f"the budget of a trial (search_budget): {reason}") from error
    for path in space:
        if path in budget:
            raise HarnessError(f"{path} is in search and in search_budget: it can be varied or fixed, not both")
    if prune_from is not None:
        _check_prune_from(prune_from)
    return Search(
        {path: _dimension(cheap, experiment, path, told) for path, told in space.items()}, dict(budget), prune_from
    )


def _check_prune_from(epoch: Any) -> None:
    if type(epoch) is not int or epoch < 1:
        raise HarnessError(f"search_prune_from is {shown(epoch)}; expected an epoch, 1 or more")


def _dimension(experiment: Experiment, full: Experiment, path: str, told: Any) -> Dimension:
    """experiment: with the budget of a trial. full: as `best.yaml` will have it."""
    leaves = experiment.flatten()
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
