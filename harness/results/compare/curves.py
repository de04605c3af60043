"""The metrics of the compared runs by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from harness.experiment.scores import PRIMARY_SCORES, SCORES
from harness.results.compare.selection import Comparison
from harness.tracking import Store

MAX_RUNS = 20  # number of runs whose curves are drawn
MAX_POINTS = 1000  # points of a curve
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
    """Return the metrics whose charts are open at first: the primary scores and the losses."""
    return (*(f"quality/{primary.key}" for primary in PRIMARY_SCORES), *_LOSSES)


def other_metrics() -> tuple[str, ...]:
    """Return the other metrics: secondary scores, other scores, and the state of the training."""
    others = [score for score in SCORES.values() if score.key != score.primary]
    return (*(f"quality/{score.key}" for score in sorted(others, key=lambda score: not score.secondary)), *_OTHERS)


def load_curves(store: Store, comparison: Comparison) -> tuple[dict[str, dict[str, Curve]], list[str]]:
    """Load the curves of the first 20 rows, with one request per metric and run.

    Returns:
        For each metric and run id, the values by epoch; and notices about runs that are left out.
    """
    rows = comparison.rows[:MAX_RUNS]
    notices = (
        [f"curves of the first {MAX_RUNS} of {len(comparison.rows)} runs"] if len(comparison.rows) > MAX_RUNS else []
    )
    curves: dict[str, dict[str, Curve]] = {}
    for metric in (*first_metrics(), *other_metrics()):
        for row in rows:
            owner = row.run if metric in row.run.data.metrics else row.picture_run
            if metric not in owner.data.metrics:
                continue
            points = store.history(owner.info.run_id, metric)
            stride = -(-len(points) // MAX_POINTS)
            thinned = {step: points[step] for index, step in enumerate(sorted(points)) if index % stride == 0}
            curves.setdefault(metric, {})[row.run.info.run_id] = thinned
    return curves, notices
