"""The sample grids of the compared runs, of the same epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import HarnessError
from harness.experiment.tags import Tag
from harness.media import pictures
from harness.results import summary
from harness.results.compare.selection import Comparison, Row
from harness.results.summary import Grid
from harness.tracking import Store

MOST = 12  # runs that are shown
COLUMNS = 4


@dataclass(frozen=True)
class SampleGrid:
    """A run's sample grid, and the lines below it. picture: uint8 [H, W] or [H, W, 3], None where there is none."""

    row: Row
    picture: pictures.Picture | None
    caption: list[str]


def load_sample_grids(
    store: Store, comparison: Comparison, *, step: int | None = None
) -> tuple[list[SampleGrid], list[str]]:
    """Load the sample grids of the first 12 rows: of the newest epoch that all of them have, or of `step`.

    Where they have no epoch in common, each run shows its newest.

    Args:
        store: The store.
        comparison: The runs.
        step: The epoch.

    Returns:
        The grids, and lines about what is not shown.

    Raises:
        HarnessError: No run has a grid of epoch `step`.
    """
    rows = comparison.rows[:MOST]
    notices = []
    if len(comparison.rows) > MOST:
        notices.append(f"pictures of the first {MOST} of {len(comparison.rows)} runs")
    drawn = {row.run.info.run_id: _grids(store, row, notices) for row in rows}
    having = [grids for grids in drawn.values() if grids]
    shared = set.intersection(*(set(grids) for grids in having)) if having else set()
    epoch = step if step is not None else max(shared, default=None)
    if step is not None and not any(step in grids for grids in having):
        there = sorted(set().union(*having)) if having else []
        raise HarnessError(
            f"--step {step}: no run has drawn that epoch; there are {', '.join(map(str, there[-8:])) or 'none'}"
        )
    if epoch is None and having:
        notices.append("the runs have drawn no epoch in common: each shows its newest")
    return [_sample_grid(row, drawn[row.run.info.run_id], epoch, comparison.score_of(row)) for row in rows], notices


def _grids(store: Store, row: Row, notices: list[str]) -> dict[int, Grid]:
    try:
        return {grid.epoch: grid for grid in summary.grids(store, row.drawn)}
    except HarnessError as error:
        notices.append(f"no pictures: {error}")
        return {}


def _sample_grid(row: Row, grids: dict[int, Grid], epoch: int | None, score: str) -> SampleGrid:
    chosen = max(grids, default=None) if epoch is None else epoch
    if chosen is None or chosen not in grids:
        return SampleGrid(row, None, [row.name, "no samples" if not grids else f"no samples of epoch {epoch}"])
    return SampleGrid(row, grids[chosen].picture, [row.name, *_caption(row, grids[chosen], score)])


def _caption(row: Row, grid: Grid, score: str) -> list[str]:
    """The epoch and the score that the table has, of the same split; for lack of it, or while training, the epoch's."""
    split, value = score.partition("/")[0], row.score(score)
    if value is None or split == "quality":
        return grid.caption
    primary = row.primary
    label = f"{split} {primary.label}" if primary.against_real else primary.label
    best = row.run.data.tags.get(Tag.BEST_EPOCH, str(grid.epoch))
    of = " over seeds" if row.drawn is not row.run else f" of epoch {best}" if best != str(grid.epoch) else ""
    return [f"epoch {grid.epoch} · {label} {primary.score.format(value)}{of}"]


def sheet(grids: Sequence[SampleGrid]) -> pictures.Picture:
    """Return all grids in one picture, with an empty one where a run has none.

    Raises:
        HarnessError: No run has a grid.
    """
    shown = [grid.picture for grid in grids if grid.picture is not None]
    if not shown:
        raise HarnessError("none of the runs has sample grids: there is nothing to draw a picture of")
    empty = np.full(shown[0].shape, 40, np.uint8)
    cells = [(empty if grid.picture is None else grid.picture, grid.caption) for grid in grids]
    return pictures.contact_sheet(cells, min(COLUMNS, len(cells)), white=True)
