"""Searching: `harness.tune`. The command `harness tune` calls it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from harness.api.progress import Progress, close, closing, finish, replaces_notices, say, study_display
from harness.api.session import session
from harness.api.starting import as_file
from harness.api.studies import Study
from harness.errors import HarnessError
from harness.interrupts import Deadline

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.experiment.scores import Direction
    from harness.experiment.search_space import Search
    from harness.tuning.progress import StudyDisplay

LOADING = "loading PyTorch, MLflow and Optuna ..."


def tune(
    experiment: str | Path | Experiment | None = None,
    *,
    trials: int | None = None,
    study: str | None = None,
    epochs: int | None = None,
    subset: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    set: Overrides | None = None,
    sampler: str | None = None,
    pruner: str | None = None,
    prune_from: int | None = None,
    metric: str | None = None,
    direction: Direction | None = None,
    workers: int = 1,
    batch_runs: int | None = None,
    max_time: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    tracking_uri: str | None = None,
    system_metrics: bool = True,
    allow_changes: bool = False,
    trust: bool = False,
    progress: Progress = True,
) -> Study:
    """Search the values of an experiment, each trial a run below the study's own MLflow run, as `harness tune` does.

    experiment: see `harness.run`; `default` where None. With `study` alone, that study is resumed as it is.
    trials: in total; else what the study was asked for before, else 20.
    study: its name; one that exists is resumed. None takes the experiment's name.
    epochs, subset: of a trial. set: leaves to change, and {"search.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log":
    True}} to change what is searched.
    sampler: tpe, random, qmc, grid, gp or cmaes. pruner: halving or none. prune_from: epoch of the first comparison.
    metric: the score to search by, on validation images: kid, frechet, ... (docs/tuning.md); else the primary score.
    workers: processes. fuse: trials trained at once as one program; None chooses by a timing.
    max_time: end cleanly before that, for example "2h".
    storage: an Optuna database; else $HARNESS_STORAGE, else mlruns/optuna.journal.
    The other arguments are those of `harness.run`.
    Raises HarnessError, before anything is trained, for a search that cannot be, and for a study of that name that
    searches otherwise.
    """
    limit = seconds_of(max_time, "--max-time")
    deadline = Deadline(None if limit is None else time.monotonic() + limit)
    display = study_display(progress)
    storage = storage or os.environ.get(formatting.STORAGE) or None
    changes = overrides_of(set, seed=seed, device=device, epochs=epochs, subset=subset)
    labels = checked_labels(name, [f"{key}={value}" for key, value in (tags or {}).items()], note)
    with session(trusted=trust), closing(display):
        refuse_silent_store(tracking_uri)
        found = None
        if study is None or experiment is not None or changes:
            found = _find(experiment, changes, prune_from, workers, batch_runs, display)
            prune_from = found.prune_from
        display.message(LOADING)
        from harness.gan.auto import resolved_device
        from harness.runs import small_data
        from harness.tuning import request as requests
        from harness.tuning import trial_times
        from harness.tuning import tune as tuning

        if found is not None:
            with as_file(experiment or "default") as source:
                small_data.fit(source, changes, searched=True)  # refuses what nothing can be trained on
            resolved_device(found.experiment.train.device)
        request = requests.TuneRequest(
            trials=trials,
            study=study,
            storage=storage,
            sampler=sampler,
            pruner=pruner,
            min_resource=prune_from,
            metric=metric,
            direction=direction,
            batch_runs=batch_runs,
            workers=workers,
            deadline=deadline,
            name=name,
            tags=labels,
            note=note,
            system_metrics=system_metrics,
            allow_changes=allow_changes,
        )
        address = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
        requests.check(request, address, found.experiment if found else None)
        store = store_at(tracking_uri, create=True, message=display.message)
        tidy(store, display.message)
        described, search = (found.experiment, found.search) if found else (None, None)
        result = tuning.tune(described, search, request, store, display)
        close(display)
        if found is not None and result.trial_seconds is not None:
            trial_times.keep(found.kind, result.trial_seconds)
        ended = Study(store, result.name, storage=storage, result=result, request=request, trusted=trust)
        finish(display, f"{'stopped' if result.stopped else 'finished'}: {ended!r}")
        return ended


def plan(
    experiment: str | Path | Experiment | None = None,
    *,
    trials: int | None = None,
    study: str | None = None,
    set: Overrides | None = None,
    sampler: str | None = None,
    pruner: str | None = None,
    prune_from: int | None = None,
    metric: str | None = None,
    direction: Direction | None = None,
    workers: int = 1,
    batch_runs: int | None = None,
    progress: Progress = True,
) -> list[tuple[str, str]]:
    """What `tune` with these arguments would search, and what a trial costs: rows of a label and a text.

    Nothing is trained, timed or written. Raises HarnessError for what `tune` would refuse.
    """
    display, changes = study_display(progress), overrides_of(set)
    if study is not None and experiment is None and not changes:
        raise HarnessError("--dry-run shows a new study; name its experiment, and leave --study out or give a new name")
    with session(), closing(display):
        found = _find(experiment, changes, prune_from, workers, batch_runs, display)
        from harness.runs import small_data
        from harness.tuning import plan as planning
        from harness.tuning import request as requests

        with as_file(experiment or "default") as source:
            small_data.fit(source, changes, searched=True)
        request = requests.TuneRequest(
            trials=trials,
            study=study,
            sampler=sampler,
            pruner=pruner,
            min_resource=found.prune_from,
            metric=metric,
            direction=direction,
            batch_runs=batch_runs,
            workers=workers,
        )
        requests.check(request, "", found.experiment)
        return planning.plan(found.experiment, found.search, request, found.images)


@dataclass(frozen=True)
class _Found:
    """What is searched. images: how many there are, where they were counted. kind: see `trial_times`."""

    experiment: Experiment
    search: Search
    images: int | None
    prune_from: int | None
    kind: str


def _find(
    experiment: str | Path | Experiment | None,
    changes: Sequence[str],
    prune_from: int | None,
    workers: int,
    batch_runs: int | None,
    display: StudyDisplay,
) -> _Found:
    """The experiment and its search, with a line that says what a trial is.

    MNIST has images in plenty: nothing is counted, PyTorch is not loaded, and the line is there at once.
    """
    from harness.experiment import search_space as searches
    from harness.tuning import trial_times

    with as_file(experiment or "default") as source:
        if _is_mnist(source, changes):
            found, search = searches.load(source, changes)
            images, line = None, None
        else:
            if replaces_notices(display):  # elsewhere the line that says what a trial is comes first
                display.message(LOADING)
            from harness.runs import small_data

            fit = small_data.fit(source, changes, searched=True)
            found, search = searches.load(source, changes, fit.values, fit.images)
            images, line = fit.images, fit.line
    kind = trial_times.kind_of(
        found, search, workers=workers, batch_runs="auto" if batch_runs is None else str(batch_runs)
    )
    say(display, _trial(search, found, images, trial_times.recall(kind)))
    if line:
        say(display, line)
    if search.fixed:
        values = ", ".join(f"{path} is {value}" for path, value in search.fixed.items())
        say(display, f"not searched: {values} in every trial (command line)")
    return _Found(found, search, images, _prune_from(prune_from, search), kind)


def _is_mnist(source: str | Path, changes: Sequence[str]) -> bool:
    from harness import experiment as experiments

    section = experiments.read(source)[0].get("data")
    typed = experiments.parse_overrides(changes)
    file = section.get("name", "mnist") if isinstance(section, dict) else "mnist"
    return bool(typed.get("data.name", file) == "mnist")


def _trial(search: Search, experiment: Experiment, images: int | None, seconds: float | None) -> str:
    from harness.formatting import duration

    took = "" if seconds is None else f"; one took {duration(seconds)} in an earlier study"
    return f"a trial: {search.describe_trial(experiment, images)}{took}"


def _prune_from(given: int | None, search: Search) -> int | None:
    """The epoch that was typed, by either of its two names; the study knows the file's."""
    if "search_prune_from" not in search.given:
        return given
    if given not in (None, search.prune_from):
        raise HarnessError(f"search_prune_from is given twice, as {search.prune_from} and as {given}: give it once")
    return search.prune_from
