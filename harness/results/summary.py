"""Read runs from the store: the run that is meant, its summary, its sample grids. Needs no torch."""

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
from harness.experiment.tags import Tag
from harness.media import pictures
from harness.tracking import Store, seconds_of

if TYPE_CHECKING:
    from harness.tracking import Run

_STATES = {"FINISHED": "without a score", "FAILED": "failed", "RUNNING": "running"}  # others: stopped
_GRID = re.compile(r"epoch-(\d+)\.png")


def resolve_run(store: Store, run: Run, message: Callable[[str], None] = to_stderr) -> Run:
    """Return the best trial of a study, the best seed of a run with `seeds`, and any other run itself.

    The best seed is the one with the best primary score during training. If nothing was scored on the validation split,
    it is the first one that finished.

    Args:
        store: The store.
        run: A run, a study, or the parent of `seeds`.
        message: Receives one line if the best trial of a study is deleted, and the next best one is used.

    Raises:
        HarnessError: No run below it has finished.
    """
    if run.data.tags.get(Tag.KIND) == "study":
        return _best_trial(store, run, message)
    if Tag.SEEDS not in run.data.tags:
        return run
    return best_seed(store, run)


def best_seed(store: Store, run: Run) -> Run:
    """Return the best seed of a run or a trial with several seeds; see `resolve_run`."""
    finished = [child for child in reversed(store.children(run.info.run_id)) if child.info.status == "FINISHED"]
    if not finished:
        raise HarnessError(f"no run below {run.info.run_name} has finished yet")
    tag = primary_of_params(run.data.params).tag
    return min(finished, key=lambda child: float(child.data.tags.get(tag, "inf")))


def _best_trial(store: Store, study: Run, message: Callable[[str], None]) -> Run:
    """Return the best trial of a study; if its run is deleted, the best one of the others."""
    name, run_id = study.info.run_name, study.info.run_id
    best = study.data.tags.get(Tag.BEST_TRIAL)
    if best is not None and (found := store.children(run_id, {Tag.TRIAL: best})):
        return found[0]
    trials = [trial for trial in store.children(run_id) if trial.data.tags.get(Tag.TRIAL, "").isdecimal()]
    metric = study.data.params.get("study.metric", primary_of_params(study.data.params).key)
    sign = -1 if study.data.params.get("study.direction") == "maximize" else 1
    ended = [trial for trial in trials if trial.info.status == "FINISHED" or Tag.DIVERGED in trial.data.tags]
    scores = {trial.info.run_id: trial.data.metrics.get(f"validation/{metric}", math.nan) for trial in ended}
    complete = [trial for trial in ended if math.isfinite(scores[trial.info.run_id])]
    deleted = store.children(run_id, {Tag.TRIAL: best}, deleted=True) if best is not None else []
    restore = ""
    if deleted:
        line = formatting.mlflow_command("runs", "restore", "--run-id", deleted[0].info.run_id, store=store.uri)
        restore = f"; `{line}` brings it back"
    if not complete:
        if best is not None:
            raise HarnessError(f"trial {best}, the best of study {name}, is deleted, and no other is complete{restore}")
        raise HarnessError(f"no trial of study {name} is complete: {_states(trials)}")
    chosen = min(complete, key=lambda run: (sign * scores[run.info.run_id], int(run.data.tags[Tag.TRIAL])))
    number = chosen.data.tags[Tag.TRIAL]
    if best is not None:
        message(f"trial {best}, the best of study {name}, is deleted: trial {number}, the next best, is used{restore}")
    else:
        message(f"study {name} has not ended: trial {number}, the best so far, is used")
    return chosen


def _states(trials: Sequence[Run]) -> str:
    """Return the number of trials in each state, in words."""
    states = Counter(
        "pruned" if Tag.PRUNED in trial.data.tags else _STATES.get(trial.info.status, "stopped") for trial in trials
    )
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "none has a run"


class Grid(NamedTuple):
    """A sample grid of a run, always drawn from the same noise, and the primary score of its epoch, if there is one."""

    epoch: int
    picture: pictures.Picture
    score: float | None
    primary: PrimaryScore = KID

    @property
    def caption(self) -> list[str]:
        """The line below the picture, with epoch and score."""
        # Tables show the scores on the test split; this one is on the validation split.
        split = "validation " if self.primary.against_real else ""
        score = "" if self.score is None else f" · {split}{self.primary.label} {self.primary.score.format(self.score)}"
        return [f"epoch {self.epoch}{score}"]


def load_grids(store: Store, run: Run) -> list[Grid]:
    """Load all sample grids of a run, in the order of their epochs. Raises HarnessError if there is none."""
    missing = HarnessError(
        f"run {run.info.run_name} ({run.info.run_id[:8]}) has no sample grids"
        f"{' yet' if run.info.status == 'RUNNING' else ''}; the first one is logged after track.samples_every epochs"
    )
    with temporary_folder() as folder:
        try:
            samples = store.download(run.info.run_id, "samples", folder)
        except HarnessError as error:
            raise missing from error
        named = ((_GRID.fullmatch(path.name), path) for path in samples.glob("*.png"))
        try:
            found = {int(match[1]): pictures.load_image(path) for match, path in named if match}
        except HarnessError as error:
            raise HarnessError(
                f"run {run.info.run_name}: {error}; delete it from the artifacts of the run, samples/"
            ) from error
    if not found:
        raise missing
    primary = primary_of_params(run.data.params)
    curve = store.history(run.info.run_id, f"quality/{primary.key}")
    scores = {epoch: value for epoch, value in curve.items() if math.isfinite(value)}
    return [Grid(epoch, found[epoch], scores.get(epoch), primary) for epoch in sorted(found)]


def newest_grid_file(store: Store, run_id: str, epoch: int | None = None) -> Path | None:
    """Return the file of a sample grid on this machine; None if the artifacts are elsewhere.

    It sends no request to the store.

    Args:
        store: The store.
        run_id: A run that was started or resumed in this process.
        epoch: Epoch of the grid. The newest one is returned if the run has no such grid.
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


def summarize_run(run: Run) -> dict[str, Any]:
    """Return what `harness runs` shows of a run, as plain data.

    `epoch` is the number of trained epochs, None while the run is RUNNING; `epochs` is the planned number. A run with
    `seeds` has `seeds_ended` and `seeds` instead. `seconds` is the time of all commands that trained it, None while it
    is RUNNING; `started` is local ISO time. Numbers that are not finite are None.
    """
    info, tags = run.info, run.data.tags
    kind = tags.get(Tag.KIND, "")
    planned = None if kind in ("study", "replicates") else run.data.params.get("train.epochs")
    seeds = _number(tags.get(Tag.SEEDS)) if kind == "replicates" else None
    ended = tags.get(Tag.SEEDS_ENDED, seeds if info.status == "FINISHED" else None) if seeds else None
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "experiment_id": info.experiment_id,
        "kind": kind,
        "experiment": tags.get(Tag.EXPERIMENT, ""),
        "parent": tags.get("mlflow.parentRunId"),
        "status": info.status,
        "diverged": tags.get(Tag.DIVERGED),
        "epoch": _number(tags.get(Tag.EPOCH)),
        "epochs": _number(tags.get(Tag.EPOCHS) or planned),
        "seeds": seeds,
        "seeds_ended": _number(ended),
        "started": datetime.fromtimestamp(info.start_time / 1000).isoformat(timespec="seconds"),
        "seconds": None if info.status == "RUNNING" else seconds_of(run),
        "metrics": {name: value if math.isfinite(value) else None for name, value in run.data.metrics.items()},
    }


def format_progress(summary: Mapping[str, Any]) -> str:
    """Return `2/3`, the trained and the planned epochs, or `2/3 seeds`. summary: from `summarize_run`."""
    for done, planned, unit in (("epoch", "epochs", ""), ("seeds_ended", "seeds", " seeds")):
        if summary[planned] is not None:
            return f"{'?' if summary[done] is None else summary[done]}/{summary[planned]}{unit}"
    return ""


def _number(text: str | int | None) -> int | None:
    return None if text is None else int(text)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a temporary folder that exists inside the block."""
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        yield Path(folder)
