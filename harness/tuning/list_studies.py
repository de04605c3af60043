"""`studies`: list the studies of a storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudySummary
from optuna.trial import TrialState

from harness.errors import HarnessError
from harness.tuning.storage import lock_dir, open_existing, storage_errors
from harness.tuning.trial_values import best_trial, is_counted, trial_value
from harness.tuning.trials import Trials


def studies(url: str | None, root: Path) -> list[dict[str, Any]]:
    """Return the studies in the database at `url`, or in the journal in `root`, newest first.

    `started` is local time in ISO format.
    """
    storage = open_existing(url, root)
    if storage is None:
        return []
    rows = []
    for name in [summary.study_name for summary in summaries(storage)]:
        try:
            trials = Trials.find(storage, name, lock_dir(url, root))
        except HarnessError:
            continue  # not a study of harness
        if trials is not None:
            rows.append(_row(trials))
    return sorted(rows, key=lambda row: row["started"] or "", reverse=True)


def summaries(storage: BaseStorage) -> list[StudySummary]:
    """Return Optuna's summaries of all studies."""
    with storage_errors():
        return list(optuna.get_all_study_summaries(storage, include_best_trial=False))


def _row(trials: Trials) -> dict[str, Any]:
    every = [trial for trial in trials.all() if is_counted(trial)]
    found = best_trial(trials.study)
    started = min((trial.datetime_start for trial in every if trial.datetime_start), default=None)
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
    return {
        "study": trials.name,
        "experiment": trials.settings.experiment.name,
        **{state.name.lower(): sum(trial.state == state for trial in every) for state in states},
        "failed": sum(trial.state == TrialState.FAIL for trial in every),
        "metric": trials.settings.metric,
        "best": None if found is None else trial_value(found),
        "best_trial": None if found is None else found.number,
        "best_values": None if found is None else found.params,
        "run_id": trials.run_id,
        "started": started.isoformat(timespec="seconds") if started else None,
    }
