"""Load experiments by name or file: where they are searched, their YAML, and overrides `path=value`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.errors import HarnessError
from harness.experiment import trust, yaml_text
from harness.experiment.base import format_value
from harness.experiment.experiment import NETWORKS, Experiment, field_type, from_mapping, with_overrides
from harness.experiment.param_names import LONGEST_PARAM, invalid_key_reason

# Keys of a file that are no part of the experiment: two mappings, and options of a study.
SEARCH_KEYS = ("search", "search_budget", "search_prune_from", "search_seeds", "search_aggregate")
AGGREGATES = ("mean", "median", "worst", "mean+std")  # how the scores of a trial's seeds become its value
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


def load(name: str | Path, overrides: Sequence[str] = (), adjustments: Mapping[str, Any] | None = None) -> Experiment:
    """Load an experiment, by its name or YAML file, with overrides `path=value`.

    What the file says about a search is read by `harness.experiment.search_space`.

    Args:
        name: of the experiment, or path of its YAML file.
        overrides: as for `--set`.
        adjustments: values for a small data set, by path; they replace those of the file (`harness.runs.small_data`).

    Raises:
        HarnessError: unknown name, malformed YAML, unknown keys, values out of bounds, or an option of a custom network
            that MLflow does not take as a param.
    """
    raw, origin = read(name)
    raw = {key: part for key, part in raw.items() if key not in SEARCH_KEYS}
    if overrides and not adjustments:
        from_mapping(raw, origin)  # a fault in the file is reported as the file's, not as the override's
    raw = with_overrides(raw, adjustments or {})
    if overrides:
        raw = with_overrides(raw, parse_overrides(overrides))
    experiment = from_mapping(raw, "--set" if overrides else origin)
    _check_params(experiment)
    trust.allow(experiment.custom_classes.values())
    return experiment


def _check_params(experiment: Experiment) -> None:
    """Raise HarnessError if MLflow would refuse a field or truncate its value; not for stored runs."""
    for path, value in experiment.flatten().items():
        if reason := "a name was expected after the dot" if path.endswith(".") else invalid_key_reason(path):
            raise HarnessError(f"{path}: every field is a param of the run; {reason}")
        if len(str(value)) > LONGEST_PARAM:
            raise HarnessError(
                f"{path} has {len(str(value)):,} characters, and MLflow keeps {LONGEST_PARAM:,} of a param: read a "
                "value of that size from a file in your network"
            )


def read(name: str | Path) -> tuple[dict[str, Any], str]:
    """Read the file of an experiment; returns its unvalidated content and its path for messages.

    Raises:
        HarnessError: unknown name, or malformed YAML.
    """
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"cannot read the experiment file {path}: {error}") from error
    return {"name": path.stem, **parse_yaml(text, str(path))}, str(path)


def from_yaml(text: str, origin: str = "the experiment") -> Experiment:
    """Validate the experiment in a YAML text; `origin` names it in messages.

    Raises:
        HarnessError: as for `load`.
    """
    return from_mapping(parse_yaml(text, origin), origin)


def from_store(text: str, origin: str) -> Experiment:
    """Do what `from_yaml` does for a text from a store, whose custom classes need `--trust`."""
    experiment = from_yaml(text, origin)
    trust.mark_untrusted(origin, experiment.custom_classes)
    return experiment


def folders() -> list[Path]:
    """Return the folders in which names are searched: ./experiments first, then those that come with harness."""
    package = Path(__file__).resolve().parents[1]
    bundled = [package / "experiments", package.parent / "experiments"]  # in a wheel; in a checkout
    return [folder for folder in [Path.cwd() / "experiments", *bundled] if folder.is_dir()]


def available() -> dict[str, Path]:
    """Return experiment files by name; a file in ./experiments replaces a bundled one of the same name."""
    files: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def find(name: str | Path) -> Path:
    """Return the file of an experiment's name or path.

    Raises:
        HarnessError: there is none; the message has the nearest names.
    """
    if Path(name).suffix in {".yaml", ".yml"}:
        if not Path(name).is_file():
            raise HarnessError(f"there is no experiment file {name}")
        return Path(name)
    files = available()
    if str(name) not in files:
        near = difflib.get_close_matches(str(name), files, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(files)}"
        raise HarnessError(f"there is no experiment {str(name)!r}; {hint} (or give the path of a .yaml file)")
    return files[str(name)]


def schema() -> dict[str, Any]:
    """Return the JSON schema of an experiment file, for editors."""
    described: dict[str, Any] = _with_bounds(Experiment.model_json_schema())
    del described["required"]  # the name, which is the file's where it is left out
    for name in NETWORKS:  # `oneOf` would refuse what several kinds take, where the kind is left out
        described["properties"][name]["anyOf"] = described["properties"][name].pop("oneOf")
    described["properties"] |= {
        "search": {"type": "object", "description": "what `harness tune` varies: dotted path -> range or choices"},
        "search_budget": {"type": "object", "description": "what `harness tune` changes to make trials cheap"},
        "search_prune_from": {"type": "integer", "description": "the epoch at which its trials are first compared"},
        "search_seeds": {"type": "integer", "description": "number of seeds that it trains each trial under"},
        "search_aggregate": {
            "enum": [*AGGREGATES],
            "description": "how the scores of a trial's seeds become its value",
        },
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def _with_bounds(part: Any) -> Any:
    """Rename the bounds of numbers with a validator, which pydantic names as in Python, as editors expect them."""
    if isinstance(part, list):
        return [_with_bounds(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {_BOUNDS.get(key, key): _with_bounds(each) for key, each in part.items()}


# YAML -----------------------------------------------------------------------------------------------------------------


def parse_yaml(text: str, origin: str) -> dict[str, Any]:
    """Return the mapping in a YAML text.

    Raises:
        HarnessError: it is malformed, with line and column, or not a mapping.
    """
    try:
        raw = yaml_text.load(text, _field_type)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise HarnessError(f"{origin}{where}: malformed YAML: {error.problem}") from error
    except yaml_text.UNREADABLE as error:
        raise HarnessError(f"{origin}: malformed YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise HarnessError(f"{origin}: expected a mapping of sections (data, generator, ...), got {format_value(raw)}")
    return raw


def parse_override(text: str) -> tuple[str, Any]:
    """Parse `path=value`; the value is read by the type of the field.

    A field for text takes it literally; numbers are decimal; options of custom networks are YAML 1.2.

    Raises:
        HarnessError: the text is malformed.
    """
    path, sign, value = text.partition("=")
    path = path.strip()
    if not sign or not path:
        raise HarnessError(f"--set {text!r}: expected path=value, for example --set optimizer.lr=1e-4")
    field_type = _field_type(path.removeprefix("search_budget.").removeprefix("search."))
    if field_type in ("text", "text or null") and not path.startswith("search."):
        return path, None if field_type == "text or null" and value.strip() in ("null", "~", "") else value
    try:
        return path, yaml_text.load_value(value, field_type)
    except yaml_text.UNREADABLE as error:
        raise HarnessError(f"--set {text!r}: the value is not valid YAML") from error


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Parse several `path=value` into values by path.

    Raises:
        HarnessError: a field has two different values.
    """
    values: dict[str, Any] = {}
    for text in texts:
        path, value = parse_override(text)
        if path in values and (type(value), value) != (type(values[path]), values[path]):
            raise HarnessError(
                f"{path} is given twice, as {format_value(values[path])} and as {format_value(value)}: give it once"
            )
        values[path] = value
    return values


def _field_type(path: str) -> yaml_text.FieldType | None:
    if path == "search_aggregate":
        return "text"
    return "number" if path in SEARCH_KEYS[2:] else field_type(path)
