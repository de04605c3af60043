"""Runs as the store tells of them: which is meant, what is said of it, what it drew. Needs no torch."""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlparse

from harness import formatting
from harness.console import to_stderr
from harness.errors import HarnessError
from harness.experiment.scores import KID, PrimaryScore, primary_of_params
from harness.media import pictures
from harness.tracking import Store, seconds_of

if TYPE_CHECKING:
    from harness.tracking import Run

_STATES = {"FINISHED": "without a score", "FAILED": "failed", "RUNNING": "running"}  # else stopped on the way
_GRID = re.compile(r"epoch-(\d+)\.png")


def single(store: Store, run: Run, message: Callable[[str], None] = to_stderr) -> Run:
    """The run itself; below a study its best trial, and below replicates the one that ranks first while training.

    Of replicates where nothing was scored on the validation split, it is the first that finished.
    notice: is given one line where a study's best trial is deleted, and the next best is taken.
    """
    if run.data.tags.get("harness.kind") == "study":
        return _best_trial(store, run, message)
    if run.data.tags.get("harness.kind") != "replicates":
        return run
    finished = [child for child in reversed(store.children(run.info.run_id)) if child.info.status == "FINISHED"]
    if not finished:
        raise HarnessError(f"no run below {run.info.run_name} has finished yet")
    tag = primary_of_params(run.data.params).tag
    return min(finished, key=lambda child: float(child.data.tags.get(tag, "inf")))


def _best_trial(store: Store, study: Run, message: Callable[[str], None]) -> Run:
    """The study's best trial, or the best of those whose runs are still there."""
    name, run_id = study.info.run_name, study.info.run_id
    best = study.data.tags.get("harness.best_trial")
    if best is not None and (found := store.children(run_id, {"harness.trial": best})):
        return found[0]
    trials = [trial for trial in store.children(run_id) if trial.data.tags.get("harness.trial", "").isdecimal()]
    metric = study.data.params.get("study.metric", primary_of_params(study.data.params).key)
    sign = -1 if study.data.params.get("study.direction") == "maximize" else 1
    ended = [trial for trial in trials if trial.info.status == "FINISHED" or "harness.diverged" in trial.data.tags]
    scores = {trial.info.run_id: trial.data.metrics.get(f"validation/{metric}", math.nan) for trial in ended}
    complete = [trial for trial in ended if math.isfinite(scores[trial.info.run_id])]
    deleted = store.children(run_id, {"harness.trial": best}, deleted=True) if best is not None else []
    restore = ""
    if deleted:
        line = formatting.mlflow_command("runs", "restore", "--run-id", deleted[0].info.run_id, store=store.uri)
        restore = f"; `{line}` brings it back"
    if not complete:
        if best is not None:
            raise HarnessError(f"trial {best}, the best of study {name}, is deleted, and no other is complete{restore}")
        raise HarnessError(f"no trial of study {name} is complete: {_states(trials)}")
    chosen = min(complete, key=lambda run: (sign * scores[run.info.run_id], int(run.data.tags["harness.trial"])))
    number = chosen.data.tags["harness.trial"]
    if best is not None:
        message(f"trial {best}, the best of study {name}, is deleted: trial {number}, the next best, is taken{restore}")
    else:
        message(f"study {name} has not ended: trial {number}, the best so far, is taken")
    return chosen


def _states(trials: Sequence[Run]) -> str:
    """How many trials ended in which way, in words."""
    states = Counter(
        "pruned" if "harness.pruned" in trial.data.tags else _STATES.get(trial.info.status, "stopped")
        for trial in trials
    )
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "none has a run"


class Grid(NamedTuple):
    """What a run drew from its fixed noise after an epoch, and the primary score of that epoch, where it has one."""

    epoch: int
    picture: pictures.Picture
    score: float | None
    primary: PrimaryScore = KID

    @property
    def caption(self) -> list[str]:
        # Scored against held-out images, while tables have the scores of the test split.
        split = "validation " if self.primary.against_real else ""
        score = "" if self.score is None else f" · {split}{self.primary.label} {self.primary.score.format(self.score)}"
        return [f"epoch {self.epoch}{score}"]


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
        named = ((_GRID.fullmatch(path.name), path) for path in samples.glob("*.png"))
        try:
            found = {int(match[1]): pictures.load_image(path) for match, path in named if match}
        except HarnessError as error:
            raise HarnessError(f"run {run.info.run_name}: {error}; take it out of its artifacts, samples/") from error
    if not found:
        raise missing
    primary = primary_of_params(run.data.params)
    curve = store.history(run.info.run_id, f"quality/{primary.key}")
    scores = {epoch: value for epoch, value in curve.items() if math.isfinite(value)}
    return [Grid(epoch, found[epoch], scores.get(epoch), primary) for epoch in sorted(found)]


def newest_grid(store: Store, run_id: str, epoch: int | None = None) -> Path | None:
    """A sample grid of a run that was written here, as a file on this machine; None where that is elsewhere.

    epoch: which grid to take where the run has it; else the newest. Does not ask the store.
    """
    run = store.written(run_id)
    if run is None:
        return None
    parts = urlparse(run.info.artifact_uri)
    if parts.scheme not in {"", "file"}:
        return None
    named = ((_GRID.fullmatch(path.name), path) for path in (Path(unquote(parts.path)) / "samples").glob("*.png"))
    found = {int(match[1]): path for match, path in named if match}
    return found.get(epoch or 0, found[max(found)]) if found else None


def summary(run: Run) -> dict[str, Any]:
    """What `harness runs` says of a run; times in seconds, `started` as local ISO time.

    epoch: how many were trained, None while it runs; epochs: how many were planned. Of replicates it is instead
    seeds_ended: how many seeds have ended, and seeds: how many were planned. seconds: while it was worked on, None
    while it runs. Numbers that are not finite are None.
    """
    info, tags = run.info, run.data.tags
    kind = tags.get("harness.kind", "")
    planned = None if kind in ("study", "replicates") else run.data.params.get("train.epochs")
    seeds = _number(tags.get("harness.seeds")) if kind == "replicates" else None
    ended = tags.get("harness.seeds.ended", seeds if info.status == "FINISHED" else None) if seeds else None
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "experiment_id": info.experiment_id,
        "kind": kind,
        "experiment": tags.get("harness.experiment", ""),
        "parent": tags.get("mlflow.parentRunId"),
        "status": info.status,
        "diverged": tags.get("harness.diverged"),
        "epoch": _number(tags.get("harness.epoch")),
        "epochs": _number(tags.get("harness.epochs") or planned),
        "seeds": seeds,
        "seeds_ended": _number(ended),
        "started": datetime.fromtimestamp(info.start_time / 1000).isoformat(timespec="seconds"),
        "seconds": None if info.status == "RUNNING" else seconds_of(run),
        "metrics": {name: value if math.isfinite(value) else None for name, value in run.data.metrics.items()},
    }


def progress(summary: Mapping[str, Any]) -> str:
    """`2/3`, epochs trained of those planned, or `2/3 seeds`; of a `summary`."""
    for done, planned, unit in (("epoch", "epochs", ""), ("seeds_ended", "seeds", " seeds")):
        if summary[planned] is not None:
            return f"{'?' if summary[done] is None else summary[done]}/{summary[planned]}{unit}"
    return ""


def _number(text: str | int | None) -> int | None:
    return None if text is None else int(text)


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        yield Path(folder)
