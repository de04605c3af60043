"""Experiments: validated, read from YAML, with overrides by dotted path; and the search space of a study.

Each field states its meaning, unit and bounds once, where it is declared. The command line, the docs and the JSON
schema (`harness schema`) are generated from these declarations. Names are imported at first use: pydantic is slow to
import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.experiment.base import Section, format_value
    from harness.experiment.experiment import (
        Experiment,
        field_type,
        from_mapping,
        scalar_types,
        unknown_field,
        with_overrides,
    )
    from harness.experiment.loading import (
        SEARCH_KEYS,
        available,
        find,
        folders,
        from_store,
        from_yaml,
        load,
        parse_override,
        parse_overrides,
        parse_yaml,
        read,
        schema,
    )
    from harness.experiment.sections import PENALTIES, Augment, Data, Objective, Optimizer, Quality, Track, Train

_MODULES = {
    "base": "Section format_value",
    "experiment": "Experiment from_mapping field_type scalar_types unknown_field with_overrides",
    "loading": "SEARCH_KEYS available find folders from_store from_yaml load parse_override parse_overrides parse_yaml "
    "read schema",
    "sections": "PENALTIES Augment Data Objective Optimizer Quality Track Train",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "PENALTIES",
    "SEARCH_KEYS",
    "Augment",
    "Data",
    "Experiment",
    "Objective",
    "Optimizer",
    "Quality",
    "Section",
    "Track",
    "Train",
    "available",
    "field_type",
    "find",
    "folders",
    "format_value",
    "from_mapping",
    "from_store",
    "from_yaml",
    "load",
    "parse_override",
    "parse_overrides",
    "parse_yaml",
    "read",
    "scalar_types",
    "schema",
    "unknown_field",
    "with_overrides",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
