"""`tune`: run or resume a study, in one process or several."""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from harness.data.source import write_cache_file
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.search import Search
from harness.interrupts import handle_signals
from harness.quality.scoring import Scoring
from harness.runs.display import Display, NullDisplay
from harness.runs.options import Status
from harness.tracking import Store, ensure_final_status
from harness.tuning.edges import Edge, values_at_edges
from harness.tuning.new_study import DEFAULT_TRIALS
from harness.tuning.open_study import open_or_create_study, open_study_run, reopen_study_run
from harness.tuning.population import PopulationWorker
from harness.tuning.progress import (
    ProgressMonitor,
    StudyDisplay,
    StudyProgress,
    TrialSummary,
    study_progress,
    summarize_trial,
)
from harness.tuning.request import TuneRequest
from harness.tuning.settings import Settings
from harness.tuning.shared_study import study_folder
from harness.tuning.storage import open_storage, storage_errors, warn_of_network_files
from harness.tuning.study_job import run_workers
from harness.tuning.study_run import StudyRun, best_experiment
from harness.tuning.trial_values import best_trial, pareto_front, verdict_text
from harness.tuning.trials import Trials
from harness.tuning.worker import Worker

CLEANUP_TIMEOUT = 5.0  # seconds that the end of a study waits for the tracking store


@dataclass(frozen=True)
class Result:
    """The result of `tune`.

    Attributes:
        name: Name of the study.
        run_id: Id of the study's MLflow run.
        settings: Settings of the study.
        progress: Numbers of trials, and the best one.
        stopped: What stopped the study before it had all its trials: SIGINT, SIGTERM or max-time; else None.
        best_file: Path of the best experiment on this machine.
        edges: Best values at an edge of their range, which may be too narrow.
        unshipped: Why a part of the tracking is still on this machine; None if the store has everything.
        before: Number of trials that had ended before this command.
        trial_seconds: Median duration of the complete trials.
        verdict: How good the best trial is, in one sentence; None if there is nothing to compare it with.
        front: The trials on the Pareto front, if the study has several metrics.
        front_folder: Folder of their experiments on this machine.
    """

    name: str
    run_id: str
    settings: Settings
    progress: StudyProgress
    stopped: str | None
    best_file: Path | None
    edges: list[Edge]
    unshipped: str | None
    before: int = 0
    trial_seconds: float | None = None
    verdict: str | None = None
    front: tuple[TrialSummary, ...] = ()
    front_folder: Path | None = None


def tune(
    experiment: Experiment | None, search: Search | None, request: TuneRequest, store: Store, display: StudyDisplay
) -> Result:
    """Search until the study has `request.trials` trials. Without an experiment the study must exist.

    Raises:
        HarnessError: The search or the storage cannot be used, or the existing study has other settings. Raised before
            the first trial.
    """
    storage = open_storage(request.storage, store.root, store.uri, display.message)
    warn_of_network_files(request.storage, store.root, display.message)
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
    """Train the remaining trials of an open study."""
    with storage_errors(files=False), handle_signals():
        total = request.trials or trials.total or DEFAULT_TRIALS
        request = replace(request, trials=total)
        request.deadline.reserve("study")
        if trials.settings.method == "pbt":
            _check_population(trials, request, total)
        if trials.total != total:
            trials.total = total
        trials.name_metric()  # for a study of an earlier version
        study_run = open_study_run(trials, request, store, display, new=new)
        if not new:
            _print_resumed(trials, total, display)
        trials.writes_study_run = study_run is not None
        with ensure_final_status(study_run.log) if study_run else contextlib.nullcontext(), trials.heartbeat():
            monitor = ProgressMonitor(trials, total, display, study_run)
            before = study_progress(trials, total)
            display.study_progress(before)
            if request.workers > 1 or request.executor != "local":
                del scoring  # each worker process loads it
                stopped = run_workers(trials, request, store, monitor, total)
            else:
                worker = PopulationWorker if trials.settings.method == "pbt" else Worker
                stopped = worker(trials, store, request, scoring, display, monitor).work()
            return replace(_finish(trials, total, request, store, monitor, stopped), before=before.ended)


def _check_population(trials: Trials, request: TuneRequest, total: int) -> None:
    """Raise HarnessError if a population cannot be trained as requested."""
    if request.workers > 1 or request.executor != "local":
        raise HarnessError("--method pbt trains all trials in one process: leave --workers and --executor out")
    if trials.total not in (None, total):
        raise HarnessError(
            f"study {trials.name} is a population of {trials.total} trials, not {total}: leave --trials out, or start "
            "a new study with --study NEW"
        )


def _print_resumed(trials: Trials, total: int, display: Display) -> None:
    now = study_progress(trials, total)
    left = max(0, total - now.ended)
    what = f"{left} left" if left else "no trial is left to train"
    if now.ended > total:
        display.message(f"study {trials.name} has {now.ended} trials, {total} are requested: {what}")
    else:
        display.message(f"study {trials.name} is resumed: {now.ended} of {total} trials have ended, {what}")


def _finish(
    trials: Trials, total: int, request: TuneRequest, store: Store, monitor: ProgressMonitor, stopped: str | None
) -> Result:
    monitor.update()
    _recover_runs(store)
    now = study_progress(trials, total)
    study_run = monitor.study_run
    if study_run is None and stopped is None:
        study_run = _take_over_study_run(trials, store)
    unshipped = None
    if study_run is not None:
        status: Status = "KILLED" if stopped else "FINISHED"
        with request.deadline.measure("study"):
            shipped = study_run.close(status)
        if not shipped:
            unshipped = study_run.log.shipping_error or "the tracking server did not take everything"
    found, front = best_trial(trials.study), pareto_front(trials.study)
    assert trials.run_id is not None
    return Result(
        trials.name,
        trials.run_id,
        trials.settings,
        now,
        stopped,
        None if found is None else _write(trials, found, store, "best.yaml"),
        [] if found is None or trials.settings.method == "pbt" else values_at_edges(trials.settings, found.params),
        unshipped,
        trial_seconds=_median_seconds(trials),
        verdict=verdict_text(trials.study, trials.settings),
        front=tuple(summarize_trial(trial) for trial in front),
        front_folder=_write_front(trials, front, store),
    )


def _median_seconds(trials: Trials) -> float | None:
    if trials.settings.race or trials.settings.method == "pbt":  # a trial waits for the others
        return None
    seconds = [summarize_trial(trial).seconds for trial in trials.all() if trial.state == TrialState.COMPLETE]
    return statistics.median(seconds) if seconds else None


def _recover_runs(store: Store) -> None:
    """Ship the spools of killed workers, and set their RUNNING runs to KILLED.

    If the store does not answer within CLEANUP_TIMEOUT, the next command does it.
    """

    def recover() -> None:
        with contextlib.suppress(HarnessError):
            store.sync()
            store.reconcile()

    thread = threading.Thread(target=recover, name="recover", daemon=True)
    thread.start()
    thread.join(timeout=CLEANUP_TIMEOUT)


def _take_over_study_run(trials: Trials, store: Store) -> StudyRun | None:
    """Return the study's MLflow run, if the process that wrote it has ended; None if that process is alive."""
    with trials.locked():
        log = reopen_study_run(trials, store)
        if log is None:
            return None
        study_run = StudyRun(log, trials, store, NullDisplay())
    study_run.log_ended_trials()
    return study_run


def _write_front(trials: Trials, front: Sequence[FrozenTrial], store: Store) -> Path | None:
    """Write the experiments of the Pareto front, and remove those that are no longer on it. Returns their folder."""
    if not front:
        return None
    written = {path for trial in front if (path := _write(trials, trial, store, f"front/trial-{trial.number}.yaml"))}
    folder = study_folder(store.root, trials.name) / "front"
    for path in set(folder.glob("trial-*.yaml")) - written:
        path.unlink(missing_ok=True)
    return folder


def _write(trials: Trials, found: FrozenTrial, store: Store, name: str) -> Path | None:
    try:
        text = best_experiment(trials.settings, found, trials.name).to_yaml()
    except HarnessError:  # `StudyRun.close` has reported it
        return None
    path = study_folder(store.root, trials.name) / name
    try:
        with write_cache_file(path) as file:  # several processes may end the study at once
            file.write(text.encode())
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror or error}") from error
    return path
