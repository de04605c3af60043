"""The types in a field's annotation."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from harness.experiment.base import Section


def scalar_types_of(annotation: Any) -> set[type]:
    """Return the scalar types that a value itself may have; empty for a list."""
    if annotation in (bool, int, float, str):
        return {annotation}
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return set()
    if origin is Literal:
        return {type(part) for part in parts}
    return {found for part in parts for found in scalar_types_of(part)}


def all_scalar_types(annotation: Any) -> set[type]:
    """Return the scalar types anywhere in an annotation, including those of list elements."""
    if annotation in (bool, int, float, str, type(None)):
        return {annotation}
    if get_origin(annotation) is Literal:
        return {type(part) for part in get_args(annotation)}
    return {found for part in get_args(annotation) for found in all_scalar_types(part)}


def section_models(annotation: Any) -> list[type[Section]]:
    """Return the Section classes of a field: one, or one for each kind."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in get_args(annotation) for model in section_models(part)]
