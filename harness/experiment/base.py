"""What every section of an experiment is made of: its numbers, and values as messages show them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _a_number(value: Any) -> Any:
    """pydantic by itself reads a text as a number, `1_000` and `inf` among them, and true as 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("boolean", "a number was expected")
    if isinstance(value, str):
        raise PydanticCustomError("text", f"input should be a valid number{_why_not(value)}")
    return value


def _why_not(text: str) -> str:
    """What keeps a text that looks like a number from being one."""
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


Int = Annotated[int, BeforeValidator(_a_number)]
Float = Annotated[float, BeforeValidator(_a_number)]
Rate = Annotated[Float, Field(ge=0, lt=1)]
Share = Annotated[Float, Field(ge=0, le=1)]
Weight = Annotated[Float, Field(ge=0, le=1e6)]


class Section(BaseModel):
    """A part of an experiment: frozen, unknown keys refused, numbers finite and not booleans."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def flatten(self) -> dict[str, Any]:
        """Every leaf by its dotted path, in the order of declaration."""
        return _leaves(self.model_dump(mode="json"))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(_leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found


def shown(value: Any) -> str:
    """A value as it stands in messages."""
    text = str(value) if isinstance(value, (int, float)) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
