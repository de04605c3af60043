"""A comparison as text: cells of a table, and plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.formatting import duration
from harness.results import summary
from harness.results.compare.selection import Comparison, Row
from harness.tracking import Store

CELL = 24  # letters of a param's value


def as_cells(comparison: Comparison, params: list[str]) -> Iterator[list[str]]:
    """Yield a header, and a line for each run with these params."""
    labels = [label for ranking in comparison.scores for label in (ranking.label, ranking.beside_label)]
    yield ["name", "run", "status", "epoch", *labels, "run time", *short(params, comparison.params)]
    for row in comparison.rows:
        said = [row.name, row.short_id, row.status, epochs(row)]
        for ranking in comparison.scores:
            said += scores(row, comparison.score_of(row)) if ranking == row.ranking else ("", "")
        yield said + [duration(row.seconds)] + [cut(row.run.data.params.get(path, "-")) for path in params]


def cut(text: str) -> str:
    """Shorten a param's value: a number to four digits, a text to CELL characters."""
    try:
        return text if len(text) <= 8 else f"{float(text):.4g}"
    except ValueError:
        return text if len(text) <= CELL else text[: CELL - 1] + "…"


def scores(row: Row, score: str) -> tuple[str, str]:
    """The score that ranks with its spread, and what stands beside it; in brackets those on the way, for lack of it."""
    for metric, form in ((score, "{}"), (row.on_the_way, "({})")):
        value = row.score(metric)
        if value is not None:
            spread = row.spread(metric)
            beside = row.beside(metric)
            shown = f"{value:.4f}" if spread is None else f"{value:.4f} ±{spread:.4f}"
            return form.format(shown), "" if beside is None else form.format(f"{beside:.{row.ranking.beside_digits}f}")
    return "", ""


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
    for ranking, score in comparison.scores.items():
        said = _WHERE[ranking.against_real][score and score.partition("/")[0]]
        lines.append(f"{ranking.label} and {ranking.beside_label}: {said}; {ranking.better}")
    bracketed = any(comparison.scores[row.ranking] and row.score(comparison.score_of(row)) is None for row in rows)
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
                "score": comparison.scores[row.ranking] and row.score(comparison.score_of(row)),
                "spread": comparison.scores[row.ranking] and row.spread(comparison.score_of(row)),
                "params": {path: row.run.data.params.get(path) for path in comparison.params},
                "url": store.link(row.run),
            }
            for row in comparison.rows
        ],
    }
