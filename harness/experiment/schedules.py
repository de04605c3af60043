"""Schedules: values of fields by epoch. A schedule of a field is a mapping from an epoch to the value from it on."""

from __future__ import annotations

from collections.abc import Mapping

from harness.experiment.sections import PENALTIES

# A run may change these from one epoch to the next: no network, no optimizer state and no image depends on them.
SCHEDULABLE = (
    "optimizer.lr",
    "optimizer.discriminator_lr",
    "discriminator.dropout",
    "train.ema_half_life",
    *(f"objective.{name}" for name in PENALTIES),
)
# These are on in all epochs or in none: 0 and null are off.
_SWITCHES = ("train.ema_half_life", *(f"objective.{name}" for name in PENALTIES))

Schedule = Mapping[str, Mapping[int, float]]


def values_at(schedule: Schedule, epoch: int) -> dict[str, float]:
    """Return the scheduled values of an epoch, by dotted path. epoch: counted from 1."""
    found = {}
    for path, changes in schedule.items():
        started = [start for start in changes if start <= epoch]
        if started:
            found[path] = changes[max(started)]
    return found


def stretched(schedule: Schedule, factor: float) -> dict[str, dict[int, float]]:
    """Return a schedule for a run that has `factor` times as many epochs.

    Changes that fall on the same epoch of a shorter run become one: the last.
    """
    return {
        path: {1 + round((start - 1) * factor): changes[start] for start in sorted(changes)}
        for path, changes in schedule.items()
    }


def find_error(schedule: Schedule, values: Mapping[str, float | None]) -> str | None:
    """Return what is wrong with the fields of a schedule, in words; None if nothing is.

    Args:
        schedule: The schedule.
        values: The values of the experiment, by dotted path.
    """
    for path, changes in schedule.items():
        if path not in SCHEDULABLE:
            return f"schedule.{path}: expected one of {', '.join(SCHEDULABLE)}"
        if not changes:
            return f"schedule.{path} is empty: expected epochs and values, for example {{1: 0.0002, 10: 0.0001}}"
        if min(changes) < 1:
            return f"schedule.{path} has epoch {min(changes)}; epochs are counted from 1"
        on = {bool(values.get(path)), *map(bool, changes.values())}
        if path in _SWITCHES and len(on) > 1:
            return f"schedule.{path}: the value of {path} and all values of its schedule must be above 0, or none"
    return None
