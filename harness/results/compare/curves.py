"""The metrics of the compared runs by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from harness.experiment.scores import PRIMARY_SCORES, SCORES
from harness.results.compare.selection import Comparison
from harness.tracking import Store

MOST = 20  # runs whose curves are drawn
POINTS = 1000  # of a curve, at most
_LOSSES = ("loss/discriminator", "loss/generator")
_OTHERS = (
    "loss/penalty",
    "logit/real",
    "logit/held_out",
    "logit/fake",
    "accuracy/real",
    "accuracy/held_out",
    "accuracy/fake",
    "gradient/discriminator",
    "gradient/generator",
)

Curve = Mapping[int, float]


def first_metrics() -> tuple[str, ...]:
    """The metrics that are shown at once, the primary scores first; all others are folded in."""
    return (*(f"quality/{primary.key}" for primary in PRIMARY_SCORES), *_LOSSES)


def other_metrics() -> tuple[str, ...]:
    """All other metrics: secondary scores, the rest of the scores, and how the training went."""
    others = [score for score in SCORES.values() if score.key != score.primary]
    return (*(f"quality/{score.key}" for score in sorted(others, key=lambda score: not score.secondary)), *_OTHERS)


def curves_of(store: Store, comparison: Comparison) -> tuple[dict[str, dict[str, Curve]], list[str]]:
    """Load the curves of the first 20 rows: a request for each metric of each run.

    Returns:
        Values by epoch, by run id, by metric; and lines about what is not shown.
    """
    rows = comparison.rows[:MOST]
    notices = [f"curves of the first {MOST} of {len(comparison.rows)} runs"] if len(comparison.rows) > MOST else []
    curves: dict[str, dict[str, Curve]] = {}
    for metric in (*first_metrics(), *other_metrics()):
        for row in rows:
            owner = row.run if metric in row.run.data.metrics else row.drawn
            if metric not in owner.data.metrics:
                continue
            points = store.history(owner.info.run_id, metric)
            stride = -(-len(points) // POINTS)
            thinned = {step: points[step] for index, step in enumerate(sorted(points)) if index % stride == 0}
            curves.setdefault(metric, {})[row.run.info.run_id] = thinned
    return curves, notices
