"""The experiment: sections, rules between them, overrides, types of fields, and validation errors in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, model_validator

from harness.errors import HarnessError
from harness.experiment import yaml_text
from harness.experiment.annotations import all_scalar_types, scalar_types_of, section_models
from harness.experiment.base import Section, format_value
from harness.experiment.networks import (
    Discriminators,
    Generators,
    MLPDiscriminator,
    MLPGenerator,
    kind_of,
    tag_of,
)
from harness.experiment.scheduled import Scheduled
from harness.experiment.scores import PrimaryScore, primary_of
from harness.experiment.sections import (
    VALIDATION_IMAGES,
    Augment,
    Data,
    Objective,
    Optimizer,
    Quality,
    Track,
    Train,
)

NETWORKS = ("generator", "discriminator")
_MODE_COUNTING = {
    "data": {"validation": 0},
    "quality": {"samples": 26_000},
}  # defaults for data sets whose modes are counted


class Experiment(Scheduled):
    """Everything that a run depends on. Its fields, by dotted path, are the params in MLflow."""

    name: str = Field(min_length=1, max_length=100, description="what the experiment is called")
    project: str = Field("gan", min_length=1, max_length=100, description="the MLflow experiment that holds its runs")
    description: str = Field("", max_length=500, description="one line: what it shows and where it comes from")
    conditional: bool = Field(False, description="both networks get the class; the data needs labels")
    data: Data = Data()
    generator: Generators = MLPGenerator()
    discriminator: Discriminators = MLPDiscriminator()
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    augment: Augment = Augment()
    track: Track = Track()
    quality: Quality = Quality()

    @model_validator(mode="before")
    @classmethod
    def _set_mode_counting_defaults(cls, raw: Any) -> Any:
        parts = {name: raw.get(name, {}) for name in _MODE_COUNTING} if isinstance(raw, dict) else {}
        if not parts or not all(isinstance(part, dict) for part in parts.values()):
            return raw
        name = parts["data"].get("name")
        if not isinstance(name, str) or primary_of(name).against_real:
            return raw
        return {**raw, **{name: {**_MODE_COUNTING[name], **part} for name, part in parts.items()}}

    @model_validator(mode="after")
    def _check_batch_size(self) -> Experiment:
        if self.data.subset is not None and self.data.subset < self.train.batch_size:
            raise ValueError(
                f"data.subset is {self.data.subset}, less than one batch (train.batch_size {self.train.batch_size}): "
                "take more images or a smaller batch"
            )
        return self

    @model_validator(mode="after")
    def _check_pack(self) -> Experiment:
        pack, batch = self.discriminator.pack, self.train.batch_size
        if batch % pack:
            raise ValueError(
                f"discriminator.pack is {pack}, and train.batch_size {batch} is no multiple of it: "
                f"set it to {batch - batch % pack or pack}"
            )
        if pack > 1 and self.conditional:
            raise ValueError(
                f"discriminator.pack is {pack}, but a pack of images has no single class for a conditional "
                "discriminator: set discriminator.pack to 1, or conditional to false"
            )
        return self

    @model_validator(mode="after")
    def _check_penalties(self) -> Experiment:
        on, dropout = self.objective.penalties, self.discriminator.dropout
        if on and dropout:
            raise ValueError(
                f"objective.{on[0]} is {getattr(self.objective, on[0])} and discriminator.dropout {dropout}: a "
                "gradient penalty needs a discriminator without dropout; set one of them to 0"
            )
        return self

    @model_validator(mode="after")
    def _check_score_every(self) -> Experiment:
        if self.track.score_every is None:
            return self
        if self.quality.judge is None:
            raise ValueError("track.score_every needs a judge: set quality.judge, or track.score_every to null")
        if self.primary.against_real and self.data.validation < self.quality.samples_while_training:
            raise ValueError(
                f"track.score_every is {self.track.score_every}, but data.validation is {self.data.validation:,} and "
                f"quality.samples_while_training {self.quality.samples_while_training:,} images: set data.validation "
                f"to {VALIDATION_IMAGES}, or quality.samples_while_training to no more than is held out, "
                "or track.score_every to null"
            )
        return self

    @property
    def custom_classes(self) -> dict[str, str]:
        """The custom classes, `package.module:Class`, by the field that names each."""
        named = {
            "generator.kind": self.generator.kind,
            "discriminator.kind": self.discriminator.kind,
            "quality.judge": self.quality.judge or "",
        }
        return {field: name for field, name in named.items() if ":" in name}

    @property
    def primary(self) -> PrimaryScore:
        """The score by which its runs are chosen and compared: that of its data set."""
        return primary_of(self.data.name)

    @property
    def samples_every(self) -> int:
        """Epochs between sample grids: `track.samples_every`, or a tenth of all epochs, from 1 to 10."""
        return self.track.samples_every or min(10, max(1, self.train.epochs // 10))

    def with_values(self, values: Mapping[str, Any]) -> Experiment:
        """Return a copy with the fields of these dotted paths changed.

        Raises:
            HarnessError: a path is not a field, or a field refuses its value.
        """
        return from_mapping(with_overrides(self.model_dump(mode="json"), values), "the overrides")

    def to_yaml(self) -> str:
        """Return the YAML text that `from_yaml` reads as an equal experiment."""
        return yaml_text.dump(self.plain())

    def differences(self, other: Experiment) -> dict[str, tuple[Any, Any]]:
        """Return the fields in which two experiments differ: path -> (here, there); None if one lacks the field."""
        here, there = self.flatten(), other.flatten()
        return {
            path: (here.get(path), there.get(path))
            for path in {**here, **there}
            if here.get(path) != there.get(path) or (path in here) != (path in there)
        }


def from_mapping(raw: Mapping[str, Any], origin: str) -> Experiment:
    """Validate an experiment.

    Raises:
        HarnessError: one line that names every error; `origin` comes first in it.
    """
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(_describe_error(detail, raw) for detail in error.errors())
        raise HarnessError(f"{origin}: {faults}") from error


def with_overrides(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping of an experiment with the fields of these dotted paths changed, before validation.

    A new `kind` of a network removes the options that only the old kind has.

    Raises:
        HarnessError: a path is not a field.
    """
    changed: dict[str, Any] = {key: dict(part) if isinstance(part, dict) else part for key, part in raw.items()}
    for path, value in sorted(values.items(), key=lambda item: not item[0].endswith(".kind")):
        if path in _sections():
            fields = [field for field in _known_paths() if field.startswith(f"{path}.")]
            raise HarnessError(
                f"--set {path}={format_value(value)}: {path} is a section, not a field; set {', '.join(fields)}"
            )
        section, dot, field = path.partition(".")
        if not dot:
            changed[section] = value
        elif section == "schedule":  # the field itself has a dot
            changed[section] = {**(changed.get(section) or {}), field: value}
        elif section not in _sections():
            raise HarnessError(f"--set {path}={format_value(value)}: {unknown_field(path)}")
        elif "." in field:
            raise HarnessError(
                f"--set {path}={format_value(value)}: not a field of the experiment; {unknown_field(path)}"
            )
        else:
            changed[section] = {**(changed.get(section) or {}), field: value}
        if section in NETWORKS and field == "kind" and value != (raw.get(section) or {}).get("kind", "mlp"):
            # Another kind has options of its own; those of the old kind would only be in its way.
            models = {tag_of(model): model for model in _sections()[section]}
            if (tag := kind_of({"kind": value})) in models:
                known = models[tag].model_fields
                changed[section] = {key: value for key, value in changed[section].items() if key in known}
    return changed


# Its fields -----------------------------------------------------------------------------------------------------------


def scalar_types(experiment: Experiment, path: str) -> set[type]:
    """Return which of bool, int, float and str a field may be; empty for a list."""
    owner: Section = experiment
    *sections, field = path.split(".")
    for section in sections:
        owner = getattr(owner, section)
    declared = type(owner).model_fields.get(field)
    if declared is None:  # an option of a custom network has the type of its value
        value = getattr(owner, field)
        return {type(value)} & {bool, int, float, str}
    return scalar_types_of(declared.annotation)


def field_type(path: str) -> yaml_text.FieldType | None:
    """Return how a value of the field is read; None for switches and for paths that are not declared.

    If several kinds of a section have the field, its type is the same in all of them.
    """
    section, _, field = path.rpartition(".")
    models = _sections().get(section, []) if section else [Experiment]
    fields = [model.model_fields[field] for model in models if field in model.model_fields]
    types = {found for field in fields for found in all_scalar_types(field.annotation)}
    if str in types:
        return "text or null" if type(None) in types else "text"
    return "number" if types & {int, float} else None


def _sections() -> dict[str, list[type[Section]]]:
    fields = Experiment.model_fields.items()
    return {name: models for name, field in fields if (models := section_models(field.annotation))}


def _known_paths() -> list[str]:
    sections = _sections()
    plain = [name for name in Experiment.model_fields if name not in sections]
    nested = [
        f"{name}.{field}" for name, models in sections.items() for model in models for field in model.model_fields
    ]
    return list(dict.fromkeys(plain + nested))


# Saying what is wrong -------------------------------------------------------------------------------------------------


def unknown_field(path: str) -> str:
    """Return the message for an unknown field, with the nearest known one."""
    candidates = [*_known_paths(), *([] if "." in path else _sections())]
    near = difflib.get_close_matches(path, candidates, n=1, cutoff=0.6) or [
        known for known in _known_paths() if known.rpartition(".")[2] == path.rpartition(".")[2]
    ]
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_known_paths())}"
    return f"unknown key {path}; {hint}"


def _describe_error(detail: Any, raw: Mapping[str, Any]) -> str:
    """One pydantic error in plain words: what arrived, what was expected."""
    parts = list(detail["loc"])
    if len(parts) > 2 and parts[0] in _sections() and parts[1] == kind_of(raw.get(parts[0])):
        del parts[1]  # pydantic names the kind of a section where several are possible; the user wrote no such key
    path, message = ".".join(str(part) for part in parts), detail["msg"]
    match detail["type"]:
        case "extra_forbidden":
            if path in _known_paths():
                section, kind = parts[0], kind_of(raw.get(parts[0]))
                model = next(model for model in _sections()[section] if tag_of(model) == kind)
                return f"{path}: {section}.kind {kind} has no such option; it has {', '.join(model.model_fields)}"
            return unknown_field(path)
        case "missing":
            return f"{path} is missing"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "union_tag_invalid" | "union_tag_not_found" if isinstance(detail["input"], Mapping):
            kinds = ", ".join(repr(tag_of(model)) for model in _sections()[path] if tag_of(model) != "custom")
            kind = format_value(detail["input"].get("kind"))
            return f"{path}.kind is {kind}; expected {kinds}, or package.module:Class of your own"
        case "union_tag_not_found":
            return f"{path} is {format_value(detail['input'])}; a mapping of keys was expected"
        case "string_pattern_mismatch" if path.endswith(".kind"):
            value = format_value(detail["input"])
            return f"{path} is {value}; expected package.module:Class, such as networks:Generator"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{path} is {format_value(detail['input'])}; a mapping of keys was expected"
    return f"{path} is {format_value(detail['input'])}; {message[:1].lower()}{message[1:]}"
