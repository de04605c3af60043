"""A comparison as text: cells of a table, and plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.formatting import duration, join_words
from harness.results import summary
from harness.results.compare.selection import Comparison, Row
from harness.tracking import Store

CELL = 24  # letters of a param's value


def as_cells(comparison: Comparison, params: list[str]) -> Iterator[list[str]]:
    """A header, then a line a run, with these of the params that differ."""
    labels = [score.label for primary in comparison.scores for score in primary.shown]
    yield ["name", "run", "status", "epoch", *labels, "run time", *short(params, comparison.params)]
    for row in comparison.rows:
        said = [row.name, row.short_id, row.status, epochs(row)]
        for primary in comparison.scores:
            said += scores(row, comparison.score_of(row)) if primary == row.primary else [""] * len(primary.shown)
        yield said + [duration(row.seconds)] + [cut(row.run.data.params.get(path, "-")) for path in params]


def cut(text: str) -> str:
    """Shorten a param's value: a number to four digits, a text to CELL characters."""
    try:
        return text if len(text) <= 8 else f"{float(text):.4g}"
    except ValueError:
        return text if len(text) <= CELL else text[: CELL - 1] + "…"


def scores(row: Row, score: str) -> list[str]:
    """The primary score with its spread, and the secondary ones; those while training, in brackets, for lack of it."""
    primary = row.primary
    for metric, form in ((score, "{}"), (row.on_the_way, "({})")):
        value = row.score(metric)
        if value is not None:
            spread = row.spread(metric)
            text = primary.score.format(value)
            cells = [form.format(text if spread is None else f"{text} ±{primary.score.format(spread)}")]
            for other in primary.secondary:
                value = row.secondary(metric, other)
                cells.append("" if value is None else form.format(other.format(value)))
            return cells
    return [""] * len(primary.shown)


def epochs(row: Row) -> str:
    """Return the epochs trained, or the seeds that have ended, of those planned: `2/3`."""
    return summary.progress(summary.summary(row.run))


def short(params: list[str], among: list[str]) -> list[str]:
    """Shorten dotted paths to their last parts, where no two in `among` have the same."""
    leaves = Counter(path.rpartition(".")[2] for path in among)
    return [path.rpartition(".")[2] if leaves[path.rpartition(".")[2]] == 1 else path for path in params]


def footer(comparison: Comparison) -> str:
    """Return a line that says what the scores in the table are."""
    rows = comparison.rows
    lines = []
    for primary, score in comparison.scores.items():
        said = _WHERE[primary.against_real][score and score.partition("/")[0]]
        labels = join_words([each.label for each in primary.shown], "and")
        lines.append(f"{labels}: {said}; {primary.better}")
    bracketed = any(comparison.scores[row.primary] and row.score(comparison.score_of(row)) is None for row in rows)
    return (
        f"{'; '.join(lines)}; ± is the standard error, or the deviation over seeds"
        f"{'; in brackets: while training' if bracketed else ''}"
    )


# Where a score comes from, in words; by whether images were compared with real ones.
_WHERE: Mapping[bool, Mapping[str | None, str]] = {
    True: {
        "test": "test split",
        "validation": "validation split",
        "quality": "validation split, best while training",
        None: "validation split, best while training, where known",
    },
    False: {
        "test": "once, when the run had ended",
        "validation": "once, when the trial had ended",
        "quality": "best while training",
        None: "best while training, where known",
    },
}


def as_json(store: Store, comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data: `runs` best first, with the params that differ and all metrics."""
    return {
        "score": comparison.score,
        "params": comparison.params,
        "notices": comparison.notices,
        "runs": [
            {
                **summary.summary(row.run),
                "seconds": row.seconds,
                "outcome": row.status,
                "score": comparison.scores[row.primary] and row.score(comparison.score_of(row)),
                "spread": comparison.scores[row.primary] and row.spread(comparison.score_of(row)),
                "params": {path: row.run.data.params.get(path) for path in comparison.params},
                "url": store.link(row.run),
            }
            for row in comparison.rows
        ],
    }
