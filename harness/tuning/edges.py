"""Best values at an edge of their range, which may be too narrow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.experiment.dimensions import Range, Value
from harness.tuning.settings import Settings

EDGE = 0.03  # a value is at an edge of its range within this share of the range's length


@dataclass(frozen=True)
class Edge:
    """A best value at an edge of its range.

    Attributes:
        message: Which value, and which edge.
        wider_range: A wider range, as a value for --set.
    """

    message: str
    wider_range: str


def values_at_edges(settings: Settings, values: Mapping[str, Value]) -> list[Edge]:
    """Return the values that are at an edge of their range."""
    edges = []
    for path, dimension in settings.search.space.items():
        value = values.get(path)
        if not isinstance(dimension, Range) or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        low, high = dimension.low, dimension.high
        position = (value - low) / (high - low) if not dimension.log else math.log(value / low) / math.log(high / low)
        if EDGE < position < 1 - EDGE:
            continue
        if wider := _widen(settings, path, dimension, upper=position > 0.5):
            bounds = [str(int(end)) if dimension.integer else f"{end:g}" for end in wider]
            step = "" if dimension.step is None else f", step: {dimension.step:g}"
            range_ = f"{{low: {bounds[0]}, high: {bounds[1]}, log: {str(dimension.log).lower()}{step}}}"
            end = "upper" if position > 0.5 else "lower"
            message = f"{path} {value:.4g} is at the {end} edge of its range, {low:g} to {high:g}"
            edges.append(Edge(message, f"search.{path}={range_}"))
    return edges


def _widen(settings: Settings, path: str, dimension: Range, *, upper: bool) -> tuple[float, float] | None:
    """Extend a range at one end, as far as the experiment allows; None if it does not allow more."""
    low, high = dimension.low, dimension.high
    for share in (1.0, 0.5):
        step = 4**share if dimension.log else share * (high - low)
        end = (high * step if upper else low / step) if dimension.log else (high + step if upper else low - step)
        end = float(round(end)) if dimension.integer else end
        if end in (low, high):
            continue
        try:
            settings.base.with_values({path: int(end) if dimension.integer else end})
        except HarnessError:
            continue
        return (low, end) if upper else (end, high)
    return None
