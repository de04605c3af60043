"""A comparison as cells of a table, and as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.formatting import duration, join_words
from harness.results import summary
from harness.results.compare.selection import Comparison, Row
from harness.tracking import Store

MAX_VALUE_LENGTH = 24  # characters of the value of a param


def as_cells(comparison: Comparison, params: list[str]) -> Iterator[list[str]]:
    """Yield the header, then one row per run. params: those of the params that differ that have a column."""
    labels = [score.label for primary in comparison.scores for score in primary.shown]
    yield ["name", "run", "status", "epoch", *labels, "run time", *shorten_paths(params, comparison.params)]
    for row in comparison.rows:
        cells = [row.name, row.short_id, row.status, format_epochs(row)]
        for primary in comparison.scores:
            cells += score_cells(row, comparison.score_of(row)) if primary == row.primary else [""] * len(primary.shown)
        yield cells + [duration(row.seconds)] + [shorten_value(row.run.data.params.get(path, "-")) for path in params]


def shorten_value(text: str) -> str:
    """Shorten the value of a param: a number to four digits, a text to MAX_VALUE_LENGTH characters."""
    try:
        return text if len(text) <= 8 else f"{float(text):.4g}"
    except ValueError:
        return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 1] + "…"


def score_cells(row: Row, score: str) -> list[str]:
    """Return the primary score with its spread, and the secondary ones. In brackets: the scores during training."""
    primary = row.primary
    for metric, form in ((score, "{}"), (row.training_metric, "({})")):
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


def format_epochs(row: Row) -> str:
    """Return `2/3`, the trained and the planned epochs, or the seeds that have ended and all seeds."""
    return summary.format_progress(summary.summarize_run(row.run))


def shorten_paths(params: list[str], among: list[str]) -> list[str]:
    """Shorten dotted paths to their last parts, unless two of `among` have the same last part."""
    names = Counter(path.rpartition(".")[2] for path in among)
    return [path.rpartition(".")[2] if names[path.rpartition(".")[2]] == 1 else path for path in params]


def footer(comparison: Comparison) -> str:
    """Return the line below a table: which scores it shows."""
    rows = comparison.rows
    lines = []
    for primary, score in comparison.scores.items():
        source = _SOURCES[primary.against_real][score and score.partition("/")[0]]
        labels = join_words([each.label for each in primary.shown], "and")
        lines.append(f"{labels}: {source}; {primary.better}")
    bracketed = any(comparison.scores[row.primary] and row.score(comparison.score_of(row)) is None for row in rows)
    return (
        f"{'; '.join(lines)}; ± is the standard error, or the deviation over seeds"
        f"{'; in brackets: while training' if bracketed else ''}"
    )


# The source of a score in words, by whether images were compared with real ones, and by the prefix of the metric.
_SOURCES: Mapping[bool, Mapping[str | None, str]] = {
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
    """Return the comparison as plain data: `runs`, the best first, with all metrics and the params that differ."""
    return {
        "score": comparison.score,
        "params": comparison.params,
        "notices": comparison.notices,
        "runs": [
            {
                **summary.summarize_run(row.run),
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
