"""Runs as the store tells of them: which is meant, what is said of it, what it drew. Needs no torch."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlparse

from harness import pictures, ranking
from harness.errors import HarnessError
from harness.ranking import KID, Ranking
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run


def single(store: Store, run: Run) -> Run:
    """The run itself; below a study its best trial, and below replicates the one that ranks first while training.

    Where nothing was scored on the validation split, that is the first that finished.
    """
    if run.data.tags.get("harness.kind") == "study":
        trial = run.data.tags.get("harness.best_trial")
        found = store.children(run.info.run_id, {"harness.trial": trial}) if trial else []
        if not found:
            raise HarnessError(f"no trial of study {run.info.run_name} is complete yet")
        return found[0]
    if run.data.tags.get("harness.kind") != "replicates":
        return run
    finished = [child for child in reversed(store.children(run.info.run_id)) if child.info.status == "FINISHED"]
    if not finished:
        raise HarnessError(f"no run below {run.info.run_name} has finished yet")
    tag = ranking.of_params(run.data.params).tag
    return min(finished, key=lambda child: float(child.data.tags.get(tag, "inf")))


class Grid(NamedTuple):
    """What a run drew from its fixed noise after an epoch, and the score that ranks of that epoch, where it has one."""

    epoch: int
    picture: pictures.Picture
    score: float | None
    ranking: Ranking = KID

    @property
    def caption(self) -> list[str]:
        return [f"epoch {self.epoch}" + ("" if self.score is None else f" · {self.ranking.label} {self.score:.4f}")]


def grids(store: Store, run: Run) -> list[Grid]:
    """All sample grids that a run has logged, in order of epoch. Raises HarnessError where there is none."""
    missing = HarnessError(
        f"run {run.info.run_name} ({run.info.run_id[:8]}) has no sample grids"
        f"{' yet' if run.info.status == 'RUNNING' else ''}; a run has them from its first track.samples_every epochs on"
    )
    with scratch() as folder:
        try:
            samples = store.download(run.info.run_id, "samples", folder)
        except HarnessError as error:
            raise missing from error
        named = ((re.fullmatch(r"epoch-(\d+)\.png", path.name), path) for path in samples.glob("*.png"))
        try:
            found = {int(match[1]): pictures.load_image(path) for match, path in named if match}
        except HarnessError as error:
            raise HarnessError(f"run {run.info.run_name}: {error}; take it out of its artifacts, samples/") from error
    if not found:
        raise missing
    ranked = ranking.of_params(run.data.params)
    curve = store.history(run.info.run_id, f"quality/{ranked.metric}")
    scores = {epoch: value for epoch, value in curve.items() if math.isfinite(value)}
    return [Grid(epoch, found[epoch], scores.get(epoch), ranked) for epoch in sorted(found)]


def newest_grid(store: Store, run_id: str) -> Path | None:
    """The newest sample grid of a run that was written here, as a file on this machine; None where that is elsewhere.

    Does not ask the store.
    """
    run = store.written(run_id)
    if run is None:
        return None
    parts = urlparse(run.info.artifact_uri)
    if parts.scheme not in {"", "file"}:
        return None
    grids = sorted((Path(unquote(parts.path)) / "samples").glob("*.png"))
    return grids[-1] if grids else None


def summary(run: Run) -> dict[str, Any]:
    """What `harness runs` says of a run; times in seconds, `started` as local ISO time.

    epoch: how many were trained, None while it runs; epochs: how many were planned. Numbers that are not finite are
    None.
    """
    info, tags = run.info, run.data.tags
    ended = info.end_time / 1000 if info.end_time else None
    planned = None if tags.get("harness.kind") == "study" else run.data.params.get("train.epochs")
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "experiment_id": info.experiment_id,
        "kind": tags.get("harness.kind", ""),
        "experiment": tags.get("harness.experiment", ""),
        "parent": tags.get("mlflow.parentRunId"),
        "status": info.status,
        "diverged": tags.get("harness.diverged"),
        "epoch": _number(tags.get("harness.epoch")),
        "epochs": _number(tags.get("harness.epochs") or planned),
        "started": datetime.fromtimestamp(info.start_time / 1000).isoformat(timespec="seconds"),
        "seconds": ended - info.start_time / 1000 if ended else None,
        "metrics": {name: value if math.isfinite(value) else None for name, value in run.data.metrics.items()},
    }


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        yield Path(folder)
