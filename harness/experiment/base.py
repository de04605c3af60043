"""Validated sections of an experiment: strict numbers, flattening, and values as text for messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _require_number(value: Any) -> Any:
    """Refuse what pydantic reads as a number too: texts such as `1_000` and `inf`, and booleans."""
    if isinstance(value, bool):
        raise PydanticCustomError("boolean", "a number was expected")
    if isinstance(value, str):
        raise PydanticCustomError("text", f"input should be a valid number{_number_hint(value)}")
    return value


def _number_hint(text: str) -> str:
    """Why a text that looks like a number is not one."""
    text = text.strip()
    if re.fullmatch(r"[-+]?\d+(:\d+)+(\.\d*)?", text):
        return " (minutes and seconds are not read; write one decimal number)"
    if re.fullmatch(r"[-+]?0[xob]\w+", text, re.IGNORECASE):
        return " (write it as a decimal number)"
    if re.fullmatch(r"[-+.\d_eE]+", text) and "_" in text and re.search(r"\d", text):
        return " (write it without _)"
    if re.fullmatch(r"[-+]?\.?(inf|infinity|nan)", text, re.IGNORECASE):
        return " that is finite"
    try:
        float(text)
    except ValueError:
        return ""
    return " (this is text; write it without quotes)"


Int = Annotated[int, BeforeValidator(_require_number)]
Float = Annotated[float, BeforeValidator(_require_number)]
Rate = Annotated[Float, Field(ge=0, lt=1)]
Share = Annotated[Float, Field(ge=0, le=1)]
Weight = Annotated[Float, Field(ge=0, le=1e6)]


class Section(BaseModel):
    """A part of an experiment: frozen; refuses unknown keys, infinite numbers, and booleans as numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def flatten(self) -> dict[str, Any]:
        """Return every field by its dotted path, in the order of declaration."""
        return _flatten(self.model_dump(mode="json"))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found


def format_value(value: Any) -> str:
    """Return a value as text for messages, at most 60 characters."""
    text = str(value) if isinstance(value, (int, float)) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
