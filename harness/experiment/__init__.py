"""What to do: the experiment, validated, read from YAML, with dotted overrides.

Every field says once, where it is declared, what it means, its unit and its bounds; the command line, the docs and the
JSON schema (`harness schema`) are made from these declarations.
"""

from harness.experiment.base import Section, shown
from harness.experiment.reading import (
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
from harness.experiment.whole import Experiment, from_mapping, leaf_type, scalar_types, unknown, with_overrides

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
    "find",
    "folders",
    "from_mapping",
    "from_store",
    "from_yaml",
    "known",
    "leaf_type",
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
