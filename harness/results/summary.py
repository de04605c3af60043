"""What the store says of a run, for people: which run is meant, its summary, its sample grids. Needs no torch."""

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

_STATES = {"FINISHED": "without a score", "FAILED": "failed", "RUNNING": "running"}  # else stopped on the way
_GRID = re.compile(r"epoch-(\d+)\.png")


def resolve_run(store: Store, run: Run, message: Callable[[str], None] = to_stderr) -> Run:
    """Return the one run that is meant: the best trial of a study, the best run of replicates, else the run itself.

    The best run of replicates is the one with the best primary score while training, or the first that finished where
    nothing was scored on the validation split.

    Args:
        store: The store.
        run: The run, study or replicates.
        message: Called with one line where a study's best trial is deleted, and the next best is taken.

    Raises:
        HarnessError: No run below it has finished.
    """
    if run.data.tags.get(Tag.KIND) == "study":
        return _best_trial(store, run, message)
    if run.data.tags.get(Tag.KIND) != "replicates":
        return run
    finished = [child for child in reversed(store.children(run.info.run_id)) if child.info.status == "FINISHED"]
    if not finished:
        raise HarnessError(f"no run below {run.info.run_name} has finished yet")
    tag = primary_of_params(run.data.params).tag
    return min(finished, key=lambda child: float(child.data.tags.get(tag, "inf")))


def _best_trial(store: Store, study: Run, message: Callable[[str], None]) -> Run:
    """The study's best trial, or the best of those whose runs are still there."""
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
        message(f"trial {best}, the best of study {name}, is deleted: trial {number}, the next best, is taken{restore}")
    else:
        message(f"study {name} has not ended: trial {number}, the best so far, is taken")
    return chosen


def _states(trials: Sequence[Run]) -> str:
    """How many trials ended in which way, in words."""
    states = Counter(
        "pruned" if Tag.PRUNED in trial.data.tags else _STATES.get(trial.info.status, "stopped") for trial in trials
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
        """The line below the picture: epoch and score."""
        # Scored against held-out images, while tables have the scores of the test split.
        split = "validation " if self.primary.against_real else ""
        score = "" if self.score is None else f" · {split}{self.primary.label} {self.primary.score.format(self.score)}"
        return [f"epoch {self.epoch}{score}"]


def grids(store: Store, run: Run) -> list[Grid]:
    """Load all sample grids that a run has logged, in order of epoch. Raises HarnessError where there is none."""
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
    """Return the file of a sample grid on this machine; None where the artifacts are elsewhere. Asks no store.

    Args:
        store: The store.
        run_id: A run that was started or resumed in this process.
        epoch: Of which epoch, where the run has that grid; else the newest.
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
    """Return what `harness runs` says of a run, as plain data.

    `epoch` is how many were trained, None while it runs; `epochs` how many were planned. Replicates have instead
    `seeds_ended` and `seeds`. `seconds` is how long it was worked on, None while it runs; `started` is local ISO time.
    Numbers that are not finite are None.
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


def progress(summary: Mapping[str, Any]) -> str:
    """Return `2/3`, the epochs trained of those planned, or `2/3 seeds`. summary: see `summary`."""
    for done, planned, unit in (("epoch", "epochs", ""), ("seeds_ended", "seeds", " seeds")):
        if summary[planned] is not None:
            return f"{'?' if summary[done] is None else summary[done]}/{summary[planned]}{unit}"
    return ""


def _number(text: str | int | None) -> int | None:
    return None if text is None else int(text)


@contextmanager
def scratch() -> Iterator[Path]:
    """Provide a temporary folder while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        yield Path(folder)
