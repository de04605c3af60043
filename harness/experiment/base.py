"""What every section of an experiment is made of: its numbers, and values as messages show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _on_is_not_one(value: Any) -> Any:
    """pydantic by itself reads `lr: on` as 1.0."""
    if isinstance(value, bool):
        raise PydanticCustomError("boolean", "a number was expected (YAML reads yes, no, on and off as true and false)")
    return value


Int = Annotated[int, BeforeValidator(_on_is_not_one)]
Float = Annotated[float, BeforeValidator(_on_is_not_one)]
Rate = Annotated[Float, Field(ge=0, lt=1)]
Share = Annotated[Float, Field(ge=0, le=1)]
Weight = Annotated[Float, Field(ge=0, le=1e6)]


class Section(BaseModel):
    """A part of an experiment: frozen, unknown keys refused, numbers finite and not booleans."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def leaves(self) -> dict[str, Any]:
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
