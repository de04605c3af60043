"""The values of an experiment that change while it is trained: by its schedule, or by a decision between epochs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from harness.experiment import Experiment
from harness.experiment.schedules import values_at


class ScheduledValues:
    """The scheduled values of one training.

    Attributes:
        changes: The schedule: by dotted path, values by the epoch from which on they hold.
        current: The experiment with the values of the epoch that is trained now, or was trained last.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self.changes: dict[str, dict[int, float]] = {}
        self.load({})
        self.current = experiment.at_epoch(1)

    def set_from(self, epoch: int, values: Mapping[str, float]) -> None:
        """Use these values, by dotted path, from an epoch on. The paths must be in `SCHEDULABLE`."""
        for path, value in values.items():
            self.changes.setdefault(path, {})[epoch] = value

    def begin(self, epoch: int) -> bool:
        """Set `current` for an epoch. Returns whether it has changed."""
        before = self.current
        if self.changes:
            self.current = self._experiment.with_values({"schedule": {}, **values_at(self.changes, epoch)})
        return self.current != before

    def values(self, epoch: int) -> dict[str, float]:
        """Return the scheduled values of an epoch, by dotted path."""
        return values_at(self.changes, epoch)

    def metrics(self, epoch: int) -> dict[str, float]:
        """Return the values of an epoch by their names in MLflow."""
        return {f"schedule/{path}": value for path, value in self.values(epoch).items()}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs: the schedule, if it is not that of the experiment."""
        return {} if self.changes == self._experiment.schedule else {"schedule": copy.deepcopy(self.changes)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.changes = {path: dict(each) for path, each in state.get("schedule", self._experiment.schedule).items()}
