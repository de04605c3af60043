"""Experiments by name and file: where they are looked up, the YAML that they are written in, `--set path=value`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.errors import HarnessError
from harness.experiment import trust, yaml_text
from harness.experiment.base import shown
from harness.experiment.experiment import NETWORKS, Experiment, field_type, from_mapping, with_overrides
from harness.experiment.param_names import LONGEST_PARAM, why_not_a_key

SEARCH = ("search", "search_budget", "search_prune_from")  # keys of a file that are no part of the experiment
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


def load(name: str | Path, overrides: Sequence[str] = (), fitted: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of that name (or in that YAML file), with `--set`-style `path=value` overrides applied.

    fitted: leaves that nobody chose, in place of the file's and of the defaults (`harness.runs.small_data`).
    What the file says of a search is left to `harness.experiment.search_space`: no run depends on where its values
    were looked for.
    Raises HarnessError for an unknown name, malformed YAML, unknown keys, values out of bounds, and for options of
    one's own networks that MLflow does not take as params.
    """
    raw, origin = read(name)
    raw = {key: part for key, part in raw.items() if key not in SEARCH}
    if overrides and not fitted:
        from_mapping(raw, origin)  # a fault in the file is reported as the file's, not as the override's
    raw = with_overrides(raw, fitted or {})
    if overrides:
        raw = with_overrides(raw, parse_overrides(overrides))
    experiment = from_mapping(raw, "--set" if overrides else origin)
    _can_be_params(experiment)
    trust.give(experiment.imports.values())
    return experiment


def _can_be_params(experiment: Experiment) -> None:
    """Raise HarnessError where the store would refuse a leaf, or cut it. What runs have stored is read all the same."""
    for path, value in experiment.flatten().items():
        if reason := "a name was expected after the dot" if path.endswith(".") else why_not_a_key(path):
            raise HarnessError(f"{path}: every leaf is a param of the run; {reason}")
        if len(str(value)) > LONGEST_PARAM:
            raise HarnessError(
                f"{path} has {len(str(value)):,} characters, and MLflow keeps {LONGEST_PARAM:,} of a param: read a "
                "value of that size from a file in your network"
            )


def read(name: str | Path) -> tuple[dict[str, Any], str]:
    """What the file of an experiment holds, as it stands there, and the file's path for messages."""
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"cannot read the experiment file {path}: {error}") from error
    return {"name": path.stem, **parse_yaml(text, str(path))}, str(path)


def from_yaml(text: str, origin: str = "the experiment") -> Experiment:
    """The experiment written in a YAML text. Raises HarnessError as `load` does."""
    return from_mapping(parse_yaml(text, origin), origin)


def from_store(text: str, origin: str) -> Experiment:
    """`from_yaml` of a text that a store holds: the classes that it names are imported only with `--trust`."""
    experiment = from_yaml(text, origin)
    trust.mark(origin, experiment.imports)
    return experiment


def folders() -> list[Path]:
    """Where experiment names are looked up: ./experiments first, then those that come with harness."""
    package = Path(__file__).resolve().parents[1]
    bundled = [package / "experiments", package.parent / "experiments"]  # in a wheel; in a checkout
    return [folder for folder in [Path.cwd() / "experiments", *bundled] if folder.is_dir()]


def known() -> dict[str, Path]:
    """Experiment files by name; a file in ./experiments hides a bundled one of the same name."""
    files: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def find(name: str | Path) -> Path:
    """The file that an experiment name or path stands for. Raises HarnessError with the nearest names."""
    if Path(name).suffix in {".yaml", ".yml"}:
        if not Path(name).is_file():
            raise HarnessError(f"there is no experiment file {name}")
        return Path(name)
    files = known()
    if str(name) not in files:
        near = difflib.get_close_matches(str(name), files, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(files)}"
        raise HarnessError(f"there is no experiment {str(name)!r}; {hint} (or give the path of a .yaml file)")
    return files[str(name)]


def schema() -> dict[str, Any]:
    """JSON schema of an experiment file, for editors."""
    described: dict[str, Any] = _with_bounds(Experiment.model_json_schema())
    del described["required"]  # the name, which is the file's where it is left out
    for name in NETWORKS:  # `oneOf` would refuse what several kinds take, where the kind is left out
        described["properties"][name]["anyOf"] = described["properties"][name].pop("oneOf")
    described["properties"] |= {
        "search": {"type": "object", "description": "what `harness tune` varies: dotted path -> range or choices"},
        "search_budget": {"type": "object", "description": "what `harness tune` changes to make trials cheap"},
        "search_prune_from": {"type": "integer", "description": "the epoch at which its trials are first compared"},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def _with_bounds(part: Any) -> Any:
    """pydantic names the bounds of a number that has a validator as Python does, which no editor understands."""
    if isinstance(part, list):
        return [_with_bounds(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {_BOUNDS.get(key, key): _with_bounds(each) for key, each in part.items()}


# YAML -----------------------------------------------------------------------------------------------------------------


def parse_yaml(text: str, origin: str) -> dict[str, Any]:
    """The mapping in a YAML text. Raises HarnessError with line and column."""
    try:
        raw = yaml_text.load(text, _leaf_type)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise HarnessError(f"{origin}{where}: malformed YAML: {error.problem}") from error
    except yaml_text.UNREADABLE as error:
        raise HarnessError(f"{origin}: malformed YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise HarnessError(f"{origin}: expected a mapping of sections (data, generator, ...), got {shown(raw)}")
    return raw


def parse_override(text: str) -> tuple[str, Any]:
    """`path=value` as (path, value), the value read by the type of its leaf. Raises HarnessError for anything else.

    A leaf that takes text takes it as it stands; numbers are decimal; options of one's own networks are YAML 1.2.
    """
    path, sign, value = text.partition("=")
    path = path.strip()
    if not sign or not path:
        raise HarnessError(f"--set {text!r}: expected path=value, for example --set optimizer.lr=1e-4")
    leaf = _leaf_type(path.removeprefix("search_budget.").removeprefix("search."))
    if leaf in ("text", "text or null") and not path.startswith("search."):
        return path, None if leaf == "text or null" and value.strip() in ("null", "~", "") else value
    try:
        return path, yaml_text.load_value(value, leaf)
    except yaml_text.UNREADABLE as error:
        raise HarnessError(f"--set {text!r}: the value is not valid YAML") from error


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Several `path=value`, by path. Raises HarnessError where a leaf is given two different values."""
    values: dict[str, Any] = {}
    for text in texts:
        path, value = parse_override(text)
        if path in values and (type(value), value) != (type(values[path]), values[path]):
            raise HarnessError(f"{path} is given twice, as {shown(values[path])} and as {shown(value)}: give it once")
        values[path] = value
    return values


def _leaf_type(path: str) -> yaml_text.LeafType | None:
    return "number" if path == "search_prune_from" else field_type(path)
