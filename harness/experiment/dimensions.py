"""One dimension of a search: a range of numbers, or a few choices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str | None


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; log: evenly on a logarithmic scale; whole: integers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, share: float) -> float | int:
        """The number that a share of [0, 1) of the range lies below."""
        low, high = self.low, self.high + (1 if self.whole else 0)
        value = math.exp(_between(math.log(low), math.log(high), share)) if self.log else _between(low, high, share)
        return self.nearest(math.floor(value) if self.whole else value)

    def nearest(self, value: float) -> float | int:
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.whole else inside

    def points(self, count: int) -> list[Value]:
        """`count` numbers at even distances, both ends among them."""
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        spots = [_between(*ends, index / (count - 1)) for index in range(count)]
        return list(dict.fromkeys(self.nearest(math.exp(spot) if self.log else spot) for spot in spots))

    def describe(self) -> dict[str, Any]:
        return {"low": self.nearest(self.low), "high": self.nearest(self.high), "log": self.log}


@dataclass(frozen=True)
class Choices:
    """A few values, in no order. What is not a scalar stands as JSON text."""

    values: tuple[Value, ...]

    def at(self, share: float) -> Value:
        return self.values[int(share * len(self.values))]

    def nearest(self, value: Value) -> Value:
        return value if value in self.values else self.values[0]

    def points(self, count: int) -> list[Value]:
        return list(self.values)

    def describe(self) -> list[Value]:
        return list(self.values)


Dimension = Range | Choices


def _between(low: float, high: float, share: float) -> float:
    return low + share * (high - low)
