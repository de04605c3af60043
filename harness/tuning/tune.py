"""`tune`: a study from start to end, by one process or several, and on from where it was stopped."""

from __future__ import annotations

import contextlib
import statistics
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from harness.data.source import write_cache_file
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.search_space import Search
from harness.files import safe_file_name
from harness.interrupts import handle_signals
from harness.quality.scoring import Scoring
from harness.runs.display import Display, NullDisplay
from harness.runs.options import Status
from harness.tracking import Store, ensure_final_status
from harness.tuning import storage as storages
from harness.tuning import study_run as parents
from harness.tuning.open_study import TRIALS, open_or_create_study, parent_of, reopened
from harness.tuning.progress import ProgressMonitor, StudyDisplay, StudyProgress, study_progress, summarize_trial
from harness.tuning.request import TuneRequest
from harness.tuning.settings import Settings
from harness.tuning.study_run import StudyRun
from harness.tuning.trials import Trials, best
from harness.tuning.worker import Worker
from harness.tuning.worker_pool import run_workers

PATIENCE = 5.0  # seconds for a tracking store that may be away at the end of a study


@dataclass(frozen=True)
class Result:
    """How `tune` ended. stopped: by what, before the study had all its trials. edges: ranges that seem too narrow.

    before: trials that had ended before this command. trial_seconds: of a trial that is trained to its end, the median.
    best_file: the best experiment, on this machine. unshipped: what keeps a part of the tracking here.
    """

    name: str
    run_id: str
    settings: Settings
    progress: StudyProgress
    stopped: str | None
    best_file: Path | None
    edges: list[parents.Edge]
    unshipped: str | None
    before: int = 0
    trial_seconds: float | None = None


def tune(
    experiment: Experiment | None, search: Search | None, request: TuneRequest, store: Store, display: StudyDisplay
) -> Result:
    """Search until the study has `request.trials` trials. Without an experiment the study must exist already.

    Raises HarnessError, before anything trains, for a search or a storage that cannot be used, and for a study of that
    name that searches otherwise.
    """
    storage = storages.open_storage(request.storage, store.root, store.uri, display.message)
    name = request.study or (experiment.name if experiment else "default")
    with contextlib.ExitStack() as code:
        trials, scoring, new = open_or_create_study(storage, name, experiment, search, request, store, display, code)
        if search is None:
            settings = trials.settings
            display.message(f"a trial: {settings.search.describe_trial(settings.experiment)}")
        return _search(trials, scoring, request, store, display, new=new)


def _search(
    trials: Trials, scoring: Scoring, request: TuneRequest, store: Store, display: StudyDisplay, *, new: bool
) -> Result:
    """Train what is left of a study that was opened."""
    with storages.storage_errors(files=False), handle_signals():
        total = request.trials or trials.total or TRIALS
        request = replace(request, trials=total)
        request.deadline.reserve("study")
        if trials.total != total:
            trials.total = total
        trials.name_metric()  # a study of an earlier version has none
        parent = parent_of(trials, request, store, display, new=new)
        if not new:
            _greet(trials, total, display)
        trials.keeping = parent is not None
        with ensure_final_status(parent.log) if parent else contextlib.nullcontext(), trials.heartbeat():
            monitor = ProgressMonitor(trials, total, display, parent)
            before = study_progress(trials, total)
            display.study_progress(before)
            if request.workers > 1:
                del scoring  # the workers have their own
                stopped = run_workers(trials, request, store, monitor, total)
            else:
                stopped = Worker(trials, store, request, scoring, display, monitor).work()
            return replace(_finish(trials, total, request, store, monitor, stopped), before=before.ended)


def _greet(trials: Trials, total: int, display: Display) -> None:
    now = study_progress(trials, total)
    left = max(0, total - now.ended)
    what = f"{left} to go" if left else "nothing is left to train"
    if now.ended > total:
        display.message(f"study {trials.name} has {now.ended} trials already, of {total} to be reached: {what}")
    else:
        display.message(f"study {trials.name} goes on: {now.ended} of {total} trials have ended, {what}")


def _finish(
    trials: Trials, total: int, request: TuneRequest, store: Store, monitor: ProgressMonitor, stopped: str | None
) -> Result:
    monitor.update()
    _tidy(store)
    now = study_progress(trials, total)
    parent = monitor.parent
    if parent is None and stopped is None:
        parent = _inherited(trials, store)
    unshipped = None
    if parent is not None:
        status: Status = "KILLED" if stopped else "FINISHED"
        with request.deadline.timed("study"):
            shipped = parent.close(status)
        if not shipped:
            unshipped = parent.log.lost or "the tracking server did not take everything"
    found = best(trials.study)
    assert trials.parent is not None
    return Result(
        trials.name,
        trials.parent,
        trials.settings,
        now,
        stopped,
        None if found is None else _best_file(trials, found, store),
        [] if found is None else parents.at_edges(trials.settings, found.params),
        unshipped,
        trial_seconds=_seconds_of_a_trial(trials),
    )


def _seconds_of_a_trial(trials: Trials) -> float | None:
    spans = [summarize_trial(trial).seconds for trial in trials.all() if trial.state == TrialState.COMPLETE]
    return statistics.median(spans) if spans else None


def _tidy(store: Store) -> None:
    """A worker that was killed has left its run RUNNING, and a part of it in its spool.

    A store that does not answer by now is left to the next command.
    """

    def tidy() -> None:
        with contextlib.suppress(HarnessError):
            store.sync()
            store.reconcile()

    thread = threading.Thread(target=tidy, name="tidy", daemon=True)
    thread.start()
    thread.join(timeout=PATIENCE)


def _inherited(trials: Trials, store: Store) -> StudyRun | None:
    """The record of the study, where who kept it has gone before the end: then it is ours to end."""
    with trials.deciding():
        log = reopened(trials, store)
        if log is None:
            return None
        parent = StudyRun(log, trials, store, NullDisplay())
    parent.observe()
    return parent


def _best_file(trials: Trials, found: FrozenTrial, store: Store) -> Path | None:
    try:
        text = parents.best_experiment(trials.settings, found, trials.name).to_yaml()
    except HarnessError:  # it is said where it is logged
        return None
    path = store.root / "studies" / safe_file_name(trials.name) / "best.yaml"
    try:
        with write_cache_file(path) as file:  # several commands may end one study together
            file.write(text.encode())
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror or error}") from error
    return path
