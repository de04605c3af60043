"""`studies`: what a storage holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudySummary
from optuna.trial import TrialState

from harness.errors import HarnessError
from harness.tuning import storage as storages
from harness.tuning.trials import Trials, best, is_counted, value_of


def studies(url: str | None, root: Path) -> list[dict[str, Any]]:
    """The studies in the database at `url`, or in the journal in `root`, newest first; `started` as local ISO time."""
    storage = storages.open_existing(url, root)
    if storage is None:
        return []
    rows = []
    for name in [summary.study_name for summary in summaries(storage)]:
        try:
            trials = Trials.find(storage, name, storages.lock_dir(url, root))
        except HarnessError:
            continue  # somebody else's study
        if trials is not None:
            rows.append(_row(trials))
    return sorted(rows, key=lambda row: row["started"] or "", reverse=True)


def summaries(storage: BaseStorage) -> list[StudySummary]:
    """Return Optuna's summaries of all studies."""
    with storages.storage_errors():
        return list(optuna.get_all_study_summaries(storage, include_best_trial=False))


def _row(trials: Trials) -> dict[str, Any]:
    every = [trial for trial in trials.all() if is_counted(trial)]
    found = best(trials.study)
    started = min((trial.datetime_start for trial in every if trial.datetime_start), default=None)
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
    return {
        "study": trials.name,
        "experiment": trials.settings.experiment.name,
        **{state.name.lower(): sum(trial.state == state for trial in every) for state in states},
        "failed": sum(trial.state == TrialState.FAIL for trial in every),
        "metric": trials.settings.metric,
        "best": None if found is None else value_of(found),
        "best_trial": None if found is None else found.number,
        "best_values": None if found is None else found.params,
        "run_id": trials.parent,
        "started": started.isoformat(timespec="seconds") if started else None,
    }
