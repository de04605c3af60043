"""Parallel coordinates of a comparison: params and scores of the runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from harness.results.compare import table
from harness.results.compare.selection import Comparison, Row
from harness.results.compare.style import PALETTE, needs_log_axis

MAX_AXES = 10  # number of axes of params; all searched params have one


def coordinates(comparison: Comparison) -> Any:
    """Plot parallel coordinates of the score and of the params that differ or were searched.

    Returns:
        A Plotly figure; None if there are too few params or runs, or if the scores cannot be compared.
    """
    from plotly import graph_objects

    if len(comparison.scores) != 1:
        return None
    rows = [row for row in comparison.rows if _score(row, comparison.score_of(row)) is not None]
    searched = [path for path in comparison.searched if any(path in row.run.data.params for row in rows)]
    others = [path for path in comparison.params if path not in searched]
    params = [*searched, *others[: max(0, MAX_AXES - len(searched))]]
    if len(rows) < 3 or len(params) < 2:
        return None
    names = table.shorten_paths(params, params)
    axes = [
        _param_axis(name, [row.run.data.params.get(path) for row in rows], log=comparison.searched.get(path, False))
        for name, path in zip(names, params, strict=True)
    ]
    axes.append(_axis(rows[0].primary.label, [_score(row, comparison.score_of(row)) for row in rows]))
    line = {"color": axes[-1]["values"], "colorscale": [[0, PALETTE[4]], [1, PALETTE[1]]]}
    figure = graph_objects.Figure(graph_objects.Parcoords(dimensions=axes, line=line))
    figure.update_layout(height=380, margin={"t": 60, "r": 60, "b": 30, "l": 60})
    return figure


def _score(row: Row, score: str) -> float | None:
    value = row.score(score)
    return row.score(row.training_metric) if value is None else value


def _param_axis(name: str, texts: Sequence[str | None], *, log: bool) -> dict[str, Any]:
    """Return the axis of a param: numbers if all values are numbers, else categories. Runs without it have `-`.

    Args:
        name: The title of the axis.
        texts: The value of each run.
        log: The param was searched on a logarithmic scale.
    """
    numbers = [_number(text) for text in texts]
    if all(number is not None for number in numbers):
        return _axis(name, numbers, log=log)
    labels = ["-" if text is None else text for text in texts]
    order = sorted(set(labels), key=lambda text: (_number(text) is None, _number(text) or 0.0, text))
    return {
        "label": name,
        "values": [order.index(text) for text in labels],
        "tickvals": list(range(len(order))),
        "ticktext": [escape(table.shorten_value(text)) for text in order],
        "range": [-0.5, len(order) - 0.5],
    }


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _axis(name: str, values: Sequence[Any], *, log: bool = False) -> dict[str, Any]:
    """Return an axis of numbers. It is logarithmic if they span more than a decade, or if `log` is set.

    Plotly's parallel coordinates have no logarithmic axis: the values are logarithms, and the ticks show the numbers.
    """
    low, high = min(values), max(values)
    if not (needs_log_axis(values) or (log and 0 < low < high)):
        return {"label": name, "values": list(values)}
    ticks = sorted({low, high, *_round_numbers(low, high)})
    return {
        "label": name,
        "values": [math.log10(value) for value in values],
        "tickvals": [math.log10(tick) for tick in ticks],
        "ticktext": [f"{tick:.3g}" for tick in ticks],
    }


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between two numbers, or only the powers. None is close to an end."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = (step * 10.0**power for power in range(first, last + 1) for step in steps)
    apart = (high / low) ** 0.08
    return [tick for tick in ticks if low * apart <= tick <= high / apart]
