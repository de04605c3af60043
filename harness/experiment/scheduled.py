"""The part of an experiment that holds its schedule."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from harness.errors import HarnessError
from harness.experiment.base import Float, Section
from harness.experiment.schedules import find_error, values_at


class Scheduled(Section):
    """A section with a schedule, which is left out of its mapping and its params while it is empty."""

    schedule: dict[str, dict[int, Float]] = Field(
        default_factory=dict,
        description="values that change while training, by epoch: optimizer.lr: {1: 0.0002, 10: 0.0001}",
    )

    @abstractmethod
    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with the fields of these dotted paths changed."""

    def at_epoch(self, epoch: int) -> Self:
        """Return a copy with the scheduled values of an epoch, counted from 1, and without a schedule."""
        if not self.schedule:
            return self
        return self.with_values({"schedule": {}, **values_at(self.schedule, epoch)})

    def plain(self) -> dict[str, Any]:
        """Return all fields as plain data, as in a YAML file."""
        plain = self.model_dump(mode="json")
        if self.schedule:  # JSON has no numbers as keys
            plain["schedule"] = {path: dict(changes) for path, changes in self.schedule.items()}
        return plain

    def flatten(self) -> dict[str, Any]:
        """Return every field by its dotted path, in the order of declaration; the schedule of a field is one value."""
        fields = super().flatten()
        if not self.schedule:
            return fields
        plain = {path: value for path, value in fields.items() if not path.startswith("schedule.")}
        return {**plain, **{f"schedule.{path}": dict(changes) for path, changes in self.schedule.items()}}

    def __hash__(self) -> int:  # pydantic's own cannot hash a mapping
        return hash(self.model_dump_json())

    @model_serializer(mode="wrap")
    def _move_schedule_to_the_end(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = serialize(self)
        schedule = plain.pop("schedule", None)
        return {**plain, "schedule": schedule} if schedule else plain

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        if not self.schedule:
            return self
        if problem := find_error(self.schedule, self.flatten()):
            raise ValueError(problem)
        for epoch in sorted({start for changes in self.schedule.values() for start in changes}):
            try:
                self.at_epoch(epoch)
            except HarnessError as error:
                raise ValueError(f"schedule, epoch {epoch}: {str(error).removeprefix('the overrides: ')}") from error
        return self
