"""What to train: the experiment, validated, read from YAML, with dotted overrides; and the space that a study searches.

Each field states its meaning, unit and bounds once, where it is declared. The command line, the docs and the JSON
schema (`harness schema`) are generated from these declarations. Names are imported when they are used: pydantic
takes time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.experiment.base import Section, shown
    from harness.experiment.experiment import (
        Experiment,
        field_type,
        from_mapping,
        scalar_types,
        unknown,
        with_overrides,
    )
    from harness.experiment.loading import (
        SEARCH,
        find,
        folders,
        from_store,
        from_yaml,
        known,
        load,
        parse_override,
        parse_overrides,
        parse_yaml,
        read,
        schema,
    )
    from harness.experiment.sections import PENALTIES, Augment, Data, Objective, Optimizer, Quality, Track, Train

_MODULES = {
    "base": "Section shown",
    "experiment": "Experiment from_mapping field_type scalar_types unknown with_overrides",
    "loading": "SEARCH find folders from_store from_yaml known load parse_override parse_overrides parse_yaml read "
    "schema",
    "sections": "PENALTIES Augment Data Objective Optimizer Quality Track Train",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "PENALTIES",
    "SEARCH",
    "Augment",
    "Data",
    "Experiment",
    "Objective",
    "Optimizer",
    "Quality",
    "Section",
    "Track",
    "Train",
    "field_type",
    "find",
    "folders",
    "from_mapping",
    "from_store",
    "from_yaml",
    "known",
    "load",
    "parse_override",
    "parse_overrides",
    "parse_yaml",
    "read",
    "scalar_types",
    "schema",
    "shown",
    "unknown",
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
