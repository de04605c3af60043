"""The search space of `tune`: what is varied, and what makes a trial cheap, from the same file as the experiment.

    search:
      optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
      generator.latent: {low: 16, high: 256, log: true}
      objective.kind: [non-saturating, hinge]
    search_budget:
      train.epochs: 2
    search_prune_from: 1

What is varied under one choice only is below that choice:

    search:
      objective.kind:
        hinge: {}
        wasserstein: {objective.gradient_penalty: {low: 1, high: 20, log: true}}

These are no fields of the experiment: a run depends on its values, not on the range they were searched in.
The command line overrides the file: see `load`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    trust,
)
from harness.experiment import load as load_experiment
from harness.experiment.dimensions import Choices
from harness.experiment.experiment import field_type
from harness.experiment.search import BUDGET_FIELDS, Search, check_option, parse

DEFAULT_SPACE: Mapping[str, Any] = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "generator.latent": {"low": 16, "high": 256, "log": True},
    "discriminator.dropout": {"low": 0.0, "high": 0.5},
}


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
    mappings, names = SEARCH_KEYS[:2], SEARCH_KEYS[2:]
    raw, parts = _read(name, mappings)
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
    options = {name: raw[name] for name in names if raw.get(name) is not None} | typed.options
    found = parse(experiment, space, budget, options)
    trust.allow(experiment.with_values(found.budget).custom_classes.values())
    trust.allow(value for each in found.space.values() if isinstance(each, Choices) for value in each.values)
    from_command_line = frozenset([*cheap, *typed.parts["search_budget"], *typed.options])
    return experiment, replace(found, from_command_line=from_command_line, fixed=fixed)


def _read(name: str | Path, mappings: Sequence[str]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return the content of an experiment file, and its parts that describe the search."""
    raw, origin = read(name)
    parts = {part: raw.get(part) or {} for part in mappings}
    for part, spec in parts.items():
        if not isinstance(spec, dict):
            raise HarnessError(f"{origin}: {part} is {format_value(spec)}; a mapping of dotted paths was expected")
    return raw, parts


@dataclass(frozen=True)
class _CommandLine:
    """The overrides of the command line, sorted.

    Attributes:
        parts: values of `search` and `search_budget`, by path.
        plain: values of the experiment, by path.
        texts: the text of each of these.
        options: values of search_prune_from, search_seeds and search_aggregate.
    """

    parts: Mapping[str, dict[str, Any]]
    plain: dict[str, Any]
    texts: dict[str, str]
    options: dict[str, Any]

    @classmethod
    def sort(cls, overrides: Sequence[str]) -> _CommandLine:
        mappings, names = SEARCH_KEYS[:2], SEARCH_KEYS[2:]
        found = cls({part: {} for part in mappings}, {}, {}, {})
        texts = {parse_override(text)[0]: text for text in overrides}
        for path, value in parse_overrides(overrides).items():
            part, _, name = path.partition(".")
            if path in names:
                check_option(path, value)
                found.options[path] = value
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


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted paths of nested sections: `optimizer: {lr: {low: ...}}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        is_range = isinstance(value, dict) and {"low", "high", "log", "step"} & set(value)
        # A mapping below a field, not a section, has the choices of the field.
        nested = isinstance(value, dict) and not is_range and field_type(f"{prefix}{key}") is None
        flat.update(_flatten(value, f"{prefix}{key}.") if nested and value else {f"{prefix}{key}": value})
    return flat
