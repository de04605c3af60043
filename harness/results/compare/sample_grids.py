"""The sample grids of the compared runs, all of the same epoch."""

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

MAX_RUNS = 12  # number of runs whose grids are shown
COLUMNS = 4


@dataclass(frozen=True)
class SampleGrid:
    """The sample grid of a run, and the lines below it.

    Attributes:
        row: The run.
        picture: uint8 [H, W] or [H, W, 3]. None: the run has no such grid.
        caption: The lines.
    """

    row: Row
    picture: pictures.Picture | None
    caption: list[str]


def load_sample_grids(
    store: Store, comparison: Comparison, *, step: int | None = None
) -> tuple[list[SampleGrid], list[str]]:
    """Load the sample grids of the first 12 rows, of the same epoch.

    If the runs have no epoch in common, the newest grid of each is loaded.

    Args:
        store: The store.
        comparison: The runs.
        step: The epoch. None: the newest one that all of them have.

    Returns:
        The grids, and notices about missing ones.

    Raises:
        HarnessError: No run has a grid of epoch `step`.
    """
    rows = comparison.rows[:MAX_RUNS]
    notices = []
    if len(comparison.rows) > MAX_RUNS:
        notices.append(f"pictures of the first {MAX_RUNS} of {len(comparison.rows)} runs")
    by_run = {row.run.info.run_id: _grids(store, row, notices) for row in rows}
    existing = [grids for grids in by_run.values() if grids]
    shared = set.intersection(*(set(grids) for grids in existing)) if existing else set()
    epoch = step if step is not None else max(shared, default=None)
    if step is not None and not any(step in grids for grids in existing):
        if not existing:
            raise HarnessError(f"--step {step}: no run has a grid yet")
        epochs = sorted(set().union(*existing))
        raise HarnessError(
            f"--step {step}: no run has a grid of that epoch; expected {', '.join(map(str, epochs[-8:]))}"
        )
    if epoch is None and existing:
        notices.append("the runs have grids of no common epoch: the newest one of each is shown")
    return [_sample_grid(row, by_run[row.run.info.run_id], epoch, comparison.score_of(row)) for row in rows], notices


def _grids(store: Store, row: Row, notices: list[str]) -> dict[int, Grid]:
    try:
        return {grid.epoch: grid for grid in summary.load_grids(store, row.picture_run)}
    except HarnessError as error:
        notices.append(f"no pictures: {error}")
        return {}


def _sample_grid(row: Row, grids: dict[int, Grid], epoch: int | None, score: str) -> SampleGrid:
    chosen = max(grids, default=None) if epoch is None else epoch
    if chosen is None or chosen not in grids:
        return SampleGrid(row, None, [row.name, "no samples" if not grids else f"no samples of epoch {epoch}"])
    return SampleGrid(row, grids[chosen].picture, [row.name, *_caption(row, grids[chosen], score)])


def _caption(row: Row, grid: Grid, score: str) -> list[str]:
    """Return the epoch, and the score in the table. During training, it is the score of the epoch instead."""
    split, value = score.partition("/")[0], row.score(score)
    if value is None or split == "quality":
        return grid.caption
    primary = row.primary
    label = f"{split} {primary.label}" if primary.against_real else primary.label
    best = row.run.data.tags.get(Tag.BEST_EPOCH, str(grid.epoch))
    of = " over seeds" if row.picture_run is not row.run else f" of epoch {best}" if best != str(grid.epoch) else ""
    return [f"epoch {grid.epoch} · {label} {primary.score.format(value)}{of}"]


def combine_grids(grids: Sequence[SampleGrid]) -> pictures.Picture:
    """Return all grids in one picture. A run without a grid has an empty one.

    Raises:
        HarnessError: No run has a grid.
    """
    existing = [grid.picture for grid in grids if grid.picture is not None]
    if not existing:
        raise HarnessError("none of the runs has sample grids, so there is no picture of them")
    empty = np.full(existing[0].shape, 40, np.uint8)
    cells = [(empty if grid.picture is None else grid.picture, grid.caption) for grid in grids]
    return pictures.contact_sheet(cells, min(COLUMNS, len(cells)), white=True)
