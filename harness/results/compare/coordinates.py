"""Parallel coordinates of a comparison: which params go with which score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from harness.results.compare import table
from harness.results.compare.selection import Comparison, Row
from harness.results.compare.style import PALETTE, is_wide

AXES = 10  # of params, at most; all searched params have one


def coordinates(comparison: Comparison) -> Any:
    """Plot parallel coordinates over the params that differ or were searched, and the score.

    Returns:
        A Plotly figure; None where there are too few params or runs, and where scores do not compare.
    """
    from plotly import graph_objects

    if len(comparison.scores) != 1:
        return None
    rows = [row for row in comparison.rows if _score(row, comparison.score_of(row)) is not None]
    searched = [path for path in comparison.searched if any(path in row.run.data.params for row in rows)]
    others = [path for path in comparison.params if path not in searched]
    params = [*searched, *others[: max(0, AXES - len(searched))]]
    if len(rows) < 3 or len(params) < 2:
        return None
    names = table.short(params, params)
    axes = [
        _param_axis(name, [row.run.data.params.get(path) for row in rows], wide=comparison.searched.get(path, False))
        for name, path in zip(names, params, strict=True)
    ]
    axes.append(_axis(rows[0].primary.label, [_score(row, comparison.score_of(row)) for row in rows]))
    line = {"color": axes[-1]["values"], "colorscale": [[0, PALETTE[4]], [1, PALETTE[1]]]}
    figure = graph_objects.Figure(graph_objects.Parcoords(dimensions=axes, line=line))
    figure.update_layout(height=380, margin={"t": 60, "r": 60, "b": 30, "l": 60})
    return figure


def _score(row: Row, score: str) -> float | None:
    own = row.score(score)
    return row.score(row.on_the_way) if own is None else own


def _param_axis(name: str, texts: Sequence[str | None], *, wide: bool) -> dict[str, Any]:
    """The axis of a param: of numbers where all values are numbers, else of categories, `-` for runs without it.

    wide: whether it was searched on a logarithmic scale.
    """
    numbers = [_number(text) for text in texts]
    if all(number is not None for number in numbers):
        return _axis(name, numbers, wide=wide)
    labels = ["-" if text is None else text for text in texts]
    order = sorted(set(labels), key=lambda text: (_number(text) is None, _number(text) or 0.0, text))
    return {
        "label": name,
        "values": [order.index(text) for text in labels],
        "tickvals": list(range(len(order))),
        "ticktext": [escape(table.cut(text)) for text in order],
        "range": [-0.5, len(order) - 0.5],
    }


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _axis(name: str, values: Sequence[Any], *, wide: bool = False) -> dict[str, Any]:
    """An axis of numbers, logarithmic where they span more than a decade, or where it is `wide` and they are positive.

    Plotly's parallel coordinates have no logarithmic axis: the values are the logarithms, the ticks say the numbers.
    """
    low, high = min(values), max(values)
    if not (is_wide(values) or (wide and 0 < low < high)):
        return {"label": name, "values": list(values)}
    ticks = sorted({low, high, *_round_numbers(low, high)})
    return {
        "label": name,
        "values": [math.log10(value) for value in values],
        "tickvals": [math.log10(tick) for tick in ticks],
        "ticktext": [f"{tick:.3g}" for tick in ticks],
    }


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers, or the powers alone, but none that crowds an end."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = (step * 10.0**power for power in range(first, last + 1) for step in steps)
    apart = (high / low) ** 0.08
    return [tick for tick in ticks if low * apart <= tick <= high / apart]
