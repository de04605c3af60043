"""The metrics of the compared runs by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from harness.experiment.scores import RANKINGS
from harness.results.compare.selection import Comparison
from harness.tracking import Store

MOST = 20  # runs whose curves are drawn
POINTS = 1000  # of a curve, at most
FIRST = (*(f"quality/{ranking.metric}" for ranking in RANKINGS), "loss/discriminator", "loss/generator")
OTHERS = (
    *(f"quality/{ranking.beside}" for ranking in RANKINGS),
    "quality/density",
    "quality/coverage",
    "quality/class_kl",
    "quality/memorisation",
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


def curves_of(store: Store, comparison: Comparison) -> tuple[dict[str, dict[str, Curve]], list[str]]:
    """Load the curves of the first 20 rows: a request for each metric of each run.

    Returns:
        Values by epoch, by run id, by metric; and lines about what is not shown.
    """
    rows = comparison.rows[:MOST]
    notices = [f"curves of the first {MOST} of {len(comparison.rows)} runs"] if len(comparison.rows) > MOST else []
    curves: dict[str, dict[str, Curve]] = {}
    for metric in (*FIRST, *OTHERS):
        for row in rows:
            owner = row.run if metric in row.run.data.metrics else row.drawn
            if metric not in owner.data.metrics:
                continue
            points = store.history(owner.info.run_id, metric)
            stride = -(-len(points) // POINTS)
            thinned = {step: points[step] for index, step in enumerate(sorted(points)) if index % stride == 0}
            curves.setdefault(metric, {})[row.run.info.run_id] = thinned
    return curves, notices
