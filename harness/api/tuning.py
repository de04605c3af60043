"""Searching: `harness.tune`. The command `harness tune` calls it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness import commands
from harness.api.arguments import (
    Overrides,
    checked_labels,
    overrides_of,
    refuse_silent_store,
    seconds_of,
    store_at,
    tidy,
)
from harness.api.progress import Progress, finish, study_display
from harness.api.session import session
from harness.api.starting import as_file
from harness.api.studies import Study
from harness.errors import HarnessError
from harness.stopping import Deadline

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.search import Search
    from harness.small_data import Fit
    from harness.study.settings import Direction


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
    fuse: int | None = None,
    timeout: str | None = None,
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
    metric: kid, frechet, density, coverage or class_kl (mode_kl or modes of stacked-mnist), on validation images.
    workers: processes. fuse: trials trained at once as one program; None chooses by a timing.
    timeout: end cleanly before that, for example "2h".
    storage: an Optuna database; else $HARNESS_STORAGE, else mlruns/optuna.journal.
    The other arguments are those of `harness.run`.
    Raises HarnessError, before anything is trained, for a search that cannot be, and for a study of that name that
    searches otherwise.
    """
    limit = seconds_of(timeout, "--timeout")
    deadline = Deadline(None if limit is None else time.monotonic() + limit)
    display = study_display(progress)
    storage = storage or os.environ.get(commands.STORAGE) or None
    with session(trusted=trust):
        from harness import search as searches

        changes = overrides_of(set, seed=seed, device=device, epochs=epochs, subset=subset)
        labels = checked_labels(name, [f"{key}={value}" for key, value in (tags or {}).items()], note)
        refuse_silent_store(tracking_uri)
        found, searched = None, None
        if study is None or experiment is not None or changes:
            from harness import small_data

            with as_file(experiment or "default") as source:
                fit = small_data.fit(source, changes, searched=True)
                found, searched = searches.load(source, changes, fit.values, fit.images)
            prune_from = _prune_from(prune_from, searched)
            for line in trial_lines(searched, found, fit):
                display.notice(line)
        display.notice("loading PyTorch, MLflow and Optuna ...")
        from harness.gan.auto import resolved_device

        if found is not None:
            resolved_device(found.train.device)
        from harness import study as studies

        request = studies.Wish(
            trials=trials,
            study=study,
            storage=storage,
            sampler=sampler,
            pruner=pruner,
            rung=prune_from,
            metric=metric,
            direction=direction,
            fuse=fuse,
            workers=workers,
            deadline=deadline,
            name=name,
            tags=labels,
            note=note,
            system_metrics=system_metrics,
            allow_changes=allow_changes,
        )
        studies.check(request, tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "", found)
        store = store_at(tracking_uri, create=True, notice=display.notice)
        tidy(store, display.notice)
        try:
            result = studies.tune(found, searched, request, store, display)
        finally:
            if close := getattr(display, "close", None):
                close()
        study_ = Study(store, result.name, storage=storage, result=result, request=request, trusted=trust)
        finish(display, f"{'stopped' if result.stopped else 'finished'}: {study_!r}")
        return study_


def trial_lines(search: Search, experiment: Experiment, fit: Fit) -> list[str]:
    """What a trial is, where that comes from, and what is not searched."""
    lines = [f"a trial: {search.describe_trial(experiment, fit.images)}"]
    if fit.line:
        lines.append(fit.line)
    if search.fixed:
        values = ", ".join(f"{path} is {value}" for path, value in search.fixed.items())
        lines.append(f"not searched: {values} in every trial (command line)")
    return lines


def _prune_from(given: int | None, search: Search) -> int | None:
    """The epoch that was typed, by either of its two names; the study knows the file's."""
    if "search_prune_from" not in search.given:
        return given
    if given not in (None, search.prune_from):
        raise HarnessError(f"search_prune_from is given twice, as {search.prune_from} and as {given}: give it once")
    return search.prune_from
