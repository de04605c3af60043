"""A comparison as text: cells of a table, and plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from harness import records
from harness.comparing.selection import ON_THE_WAY, Comparison, Row
from harness.display import duration
from harness.tracking import Store

CELL = 24  # letters of a param's value


def as_cells(comparison: Comparison, params: list[str]) -> Iterator[list[str]]:
    """A header, then a line a run, with these of the params that differ."""
    yield ["name", "run", "status", "epoch", "KID", "Frechet", "took", *short(params, comparison.params)]
    for row in comparison.rows:
        said = [row.name, row.short_id, row.status, epochs(row), *scores(row, comparison.score), duration(row.seconds)]
        yield said + [_cut(row.run.data.params.get(path, "-")) for path in params]


def _cut(text: str) -> str:
    """A param's value, short: a number with four digits."""
    try:
        return text if len(text) <= 8 else f"{float(text):.4g}"
    except ValueError:
        return text if len(text) <= CELL else text[: CELL - 1] + "…"


def scores(row: Row, score: str | None) -> tuple[str, str]:
    """KID with its spread, and Frechet; in brackets those on the way, where it has no other."""
    for metric, form in ((score or ON_THE_WAY, "{}"), (ON_THE_WAY, "({})")):
        kid = row.kid(metric)
        if kid is not None:
            spread = row.spread(metric)
            frechet = row.frechet(metric)
            shown = f"{kid:.4f}" if spread is None else f"{kid:.4f} ±{spread:.4f}"
            return form.format(shown), "" if frechet is None else form.format(f"{frechet:.2f}")
    return "", ""


def epochs(row: Row) -> str:
    """Epochs trained, of those planned."""
    summary = records.summary(row.run)
    done, planned = summary["epoch"], summary["epochs"]
    return "" if planned is None else f"{'?' if done is None else done}/{planned}"


def short(params: list[str], among: list[str]) -> list[str]:
    """The last parts of dotted paths, where that is enough to tell them apart."""
    leaves = Counter(path.rpartition(".")[2] for path in among)
    return [path.rpartition(".")[2] if leaves[path.rpartition(".")[2]] == 1 else path for path in params]


def footer(comparison: Comparison) -> str:
    """What the scores in the table are."""
    said = {
        "test/kid": "test split",
        "validation/kid": "validation split",
        "quality/kid": "validation split, best while training",
        None: "validation split, best while training, where known",
    }[comparison.score]
    line = f"KID and Frechet: {said}; lower is better; ± is the standard error, or the deviation over seeds"
    bracketed = comparison.score and any(row.kid(comparison.score) is None for row in comparison.rows)
    return line + ("; in brackets: while training" if bracketed else "")


def as_json(store: Store, comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data: `runs` best first, with the params that differ and all metrics."""
    return {
        "score": comparison.score,
        "params": comparison.params,
        "notices": comparison.notices,
        "runs": [
            {
                **records.summary(row.run),
                "seconds": row.seconds,
                "outcome": row.status,
                "score": comparison.score and row.kid(comparison.score),
                "spread": comparison.score and row.spread(comparison.score),
                "params": {path: row.run.data.params.get(path) for path in comparison.params},
                "url": store.link(row.run),
            }
            for row in comparison.rows
        ],
    }
