"""Dimensions of a search space: a range of numbers, or a list of choices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str | None


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: lower bound.
        high: upper bound.
        log: uniform on a logarithmic scale.
        integer: whole numbers only.
        step: distance of the values, counted from `low`; None for any. Then `high` is one of them.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    step: float | None = None

    def quantile(self, q: float) -> float | int:
        """Return the quantile of the range. q: in [0, 1)."""
        if self.step is not None:
            count = round((self.high - self.low) / self.step) + 1
            return self.nearest(self.low + math.floor(q * count) * self.step)
        low, high = self.low, self.high + (1 if self.integer else 0)
        value = math.exp(_lerp(math.log(low), math.log(high), q)) if self.log else _lerp(low, high, q)
        return self.nearest(math.floor(value) if self.integer else value)

    def nearest(self, value: float) -> float | int:
        """Return the value of the range that is closest to `value`."""
        inside = min(max(value, self.low), self.high)
        if self.step is not None:
            # Rounded to 12 digits: 0.1 + 2 * 0.1 is 0.3.
            inside = float(f"{self.low + round((inside - self.low) / self.step) * self.step:.12g}")
        return round(inside) if self.integer else inside

    def grid(self, count: int) -> list[Value]:
        """Return `count` evenly spaced values, with both bounds; fewer if integers repeat."""
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        spots = [_lerp(*ends, index / (count - 1)) for index in range(count)]
        return list(dict.fromkeys(self.nearest(math.exp(spot) if self.log else spot) for spot in spots))

    def describe(self) -> dict[str, Any]:
        """Return the range as in an experiment file."""
        described = {"low": self.nearest(self.low), "high": self.nearest(self.high), "log": self.log}
        return described if self.step is None else {**described, "step": self.step}


@dataclass(frozen=True)
class Choices:
    """A few values without an order. Lists are stored as JSON text."""

    values: tuple[Value, ...]

    def quantile(self, q: float) -> Value:
        """Return a choice; all have equal shares. q: in [0, 1)."""
        return self.values[int(q * len(self.values))]

    def nearest(self, value: Value) -> Value:
        """Return `value` if it is a choice, else the first choice."""
        return value if value in self.values else self.values[0]

    def grid(self, count: int) -> list[Value]:
        """Return all choices, whatever `count` is."""
        return list(self.values)

    def describe(self) -> list[Value]:
        """Return the choices as in an experiment file."""
        return list(self.values)


Dimension = Range | Choices


def _lerp(low: float, high: float, q: float) -> float:
    return low + q * (high - low)
