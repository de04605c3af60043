"""Training: `harness.run` and `harness.resume`. The command `harness run` calls these functions."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness import formatting
from harness.api.arguments import (
    Overrides,
    checked_labels,
    overrides_of,
    refuse_silent_store,
    seconds_of,
    store_at,
    tidy,
)
from harness.api.progress import Progress, close, closing, finish, run_display, say
from harness.api.runs import Run
from harness.api.session import session
from harness.errors import HarnessError
from harness.interrupts import Deadline

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.runs.seeds import Replicates
    from harness.runs.session import Display, RunResult
    from harness.tracking import Store

LOADING = "loading PyTorch and MLflow ..."


def run(
    experiment: str | Path | Experiment = "default",
    *,
    epochs: int | None = None,
    subset: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    set: Overrides | None = None,
    seeds: int | None = None,
    batch_runs: int | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    max_time: str | None = None,
    tracking_uri: str | None = None,
    system_metrics: bool = True,
    allow_changes: bool = False,
    trust: bool = False,
    progress: Progress = True,
) -> Run:
    """Train an experiment as one MLflow run, as `harness run` does.

    experiment: a name (see `harness experiments`), a YAML file, or the experiment of another run.
    epochs, subset (training images), seed, device: short for leaves of `set`.
    set: leaves to change, by dotted path: {"optimizer.lr": 1e-3}.
    seeds: train under so many seeds, below one parent run with mean and deviation. batch_runs: how many of them are
    trained at once as one program; None chooses by a timing.
    max_time: end cleanly before that, for example "30m".
    tracking_uri: the MLflow store; else $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db, which is created.
    trust: import classes (`package.module:Class`) that a stored run names; those of `experiment` and `set` are trusted.
    progress: show how far it is: one updated output in Jupyter, a live line on standard error elsewhere.
    Ctrl-C, or the interrupt button of Jupyter, ends the run after the epoch, KILLED and saved; `resume` continues it.
    Raises HarnessError, before a run is created, for what cannot be trained.
    """
    deadline = _deadline(max_time)
    if batch_runs is not None and (seeds is None or not 1 <= batch_runs <= seeds):
        expected = "it goes with --seeds N" if seeds is None else f"expected 1 to {seeds}, the number of seeds"
        raise HarnessError(f"--batch-runs is {batch_runs}; {expected}")
    display = run_display(progress)
    with session(trusted=trust), closing(display), as_file(experiment) as source:
        from harness import experiment as experiments

        changes = overrides_of(set, seed=seed, device=device, epochs=epochs, subset=subset)
        experiments.parse_overrides(changes)
        experiments.read(source)  # a name that is not known is refused at once
        labels = checked_labels(name, [f"{key}={value}" for key, value in (tags or {}).items()], note)
        display.message(LOADING)
        from harness.runs import small_data

        resolved, fit = small_data.load(source, changes)
        if fit.line:
            say(display, fit.line)
        refuse_silent_store(tracking_uri)
        from harness.gan.auto import resolve_device
        from harness.runs import seeds as replicating
        from harness.runs import session as course
        from harness.runs import train

        resolve_device(resolved.train.device)  # refused before a store is created
        options = course.RunOptions(
            name=name,
            tags=labels,
            note=note,
            deadline=deadline,
            system_metrics=system_metrics,
            allow_changes=allow_changes,
        )
        store = store_at(tracking_uri, create=True, message=display.message)
        tidy(store, display.message)
        if seeds is not None:
            replicates = replicating.replicate(resolved, seeds, store, options, display, batch_runs=batch_runs)
            return _ended(store, replicates, display, trusted=trust)
        outcome = train.run(resolved, store, options, display)
        return _ended(store, outcome, display, trusted=trust)


def resume(
    run: str | Run = "latest",
    *,
    epochs: int | None = None,
    set: Overrides | None = None,
    max_time: str | None = None,
    tracking_uri: str | None = None,
    system_metrics: bool = True,
    allow_changes: bool = False,
    trust: bool = False,
    progress: Progress = True,
) -> Run:
    """Resume a run from its last checkpoint, in the same MLflow run; on a CPU to the same bits as if never stopped.

    run: a `Run`, an id, a unique prefix of one, a name, or `latest`. epochs: extend it to so many.
    allow_changes: continue although images, judge or source have changed since; the run is tagged harness.changed.
    The other arguments are those of `harness.run`.
    Raises HarnessError, and leaves the run as it was, where it cannot be resumed.
    """
    deadline = _deadline(max_time)
    display = run_display(progress)
    with session(trusted=trust), closing(display):
        from harness import experiment as experiments

        values = experiments.parse_overrides(overrides_of(set, epochs=epochs))
        if isinstance(run, str):
            refuse_silent_store(tracking_uri)
        display.message(LOADING)
        from harness.runs import seeds as replicating
        from harness.runs import session as course
        from harness.runs import train

        options = course.RunOptions(deadline=deadline, system_metrics=system_metrics, allow_changes=allow_changes)
        store = store_at(tracking_uri, message=display.message) if isinstance(run, str) else run.store
        tidy(store, display.message)
        found = store.find(run if isinstance(run, str) else run.id)
        kind = found.data.tags.get("harness.kind")
        if kind == "study":
            raise HarnessError(
                f"{found.info.run_name} is a study: resume it with `{_tune_again(store, found.data.tags)}`"
            )
        if kind == "replicates":
            if values:
                raise HarnessError(
                    "replicates are resumed as they were started; leave --set, --epochs and the like out"
                )
            replicates = replicating.resume(found, store, options, display)
            return _ended(store, replicates, display, trusted=trust)
        outcome = train.resume(found.info.run_id, store, values, options, display)
        return _ended(store, outcome, display, trusted=trust)


def _ended(store: Store, outcome: RunResult | Replicates, display: Display, *, trusted: bool) -> Run:
    close(display)
    status = "stopped" if outcome.stopped else outcome.status.lower()
    finish(display, f"{status}: run {outcome.name} ({outcome.run_id[:8]})")
    return Run(store, outcome.run_id, outcome=outcome, trusted=trusted)


def _tune_again(store: Store, tags: Mapping[str, str]) -> str:
    storage = tags.get("harness.storage", "")  # a database, or the path of the usual journal
    return formatting.harness_command(
        "tune", study=tags["harness.study"], store=store.uri, storage=storage if "://" in storage else None
    )


def _deadline(max_time: str | None) -> Deadline:
    limit = seconds_of(max_time)
    return Deadline(None if limit is None else time.monotonic() + limit)


@contextlib.contextmanager
def as_file(experiment: str | Path | Experiment) -> Iterator[str | Path]:
    """What experiments are read from: a name, a file, or an `Experiment` written to one."""
    if isinstance(experiment, str | Path):
        yield experiment
        return
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        path = Path(folder) / "experiment.yaml"
        path.write_text(experiment.to_yaml(), encoding="utf-8")
        yield path
