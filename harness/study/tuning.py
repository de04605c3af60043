"""`tune`: a study from start to end, by one process or several, and on from where it was stopped."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal, Protocol

from optuna.trial import FrozenTrial, TrialState

from harness import running
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import resolved_population
from harness.running import Display, Quiet, Status
from harness.scoring import Scoring
from harness.search import Search
from harness.stopping import interruptions
from harness.study import parent as parents
from harness.study import storage as storages
from harness.study.parent import Parent
from harness.study.settings import METRICS, PRUNERS, SAMPLERS, Direction, Settings, based, metric_of, resolved_like
from harness.study.trials import Trials, best, counts, value_of
from harness.study.worker import PAUSE, Worker
from harness.tracking import RunLog, Store

TRIALS = 20  # where nobody has said how many
TOGETHER = 20  # trials at most that are trained as one program where that pays
REDUCTION = 3
NEED_ENDS = ("gp", "cmaes")  # samplers that take no notice of pruned trials, and would propose them again
DEATHS = 3  # workers, besides one each, that may die in a row without a trial having ended

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Wish:
    """What was asked for; None leaves it to the study as it is, or to the default for a new one.

    trials: how many in total; a study that was asked for some before keeps to that. storage: a database, instead of the
    journal file. fuse: None times it.
    rung: the epoch from which on trials may be pruned. deadline: on the clock of `time.monotonic`.
    """

    trials: int | None = None
    study: str | None = None
    storage: str | None = None
    sampler: str | None = None
    pruner: str | None = None
    rung: int | None = None
    metric: str | None = None
    direction: Direction | None = None
    fuse: int | None = None
    workers: int = 1
    deadline: float | None = None
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    system_metrics: bool = True


@dataclass(frozen=True)
class Tried:
    """A trial that has ended. score: None where it has none; on_the_way: it is the last one before it was pruned."""

    number: int
    state: State
    values: Mapping[str, Any]
    score: float | None
    on_the_way: bool
    seconds: float
    run_id: str | None
    remark: str | None


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    metric: what trials are compared by. running: that somebody is training now. Those tried again are not counted.
    """

    metric: str
    total: int
    complete: int
    pruned: int
    failed: int
    running: int
    best: Tried | None
    own: Tried | None

    @property
    def ended(self) -> int:
        return self.complete + self.pruned + self.failed


class StudyDisplay(Display, Protocol):
    """What a study tells whoever watches, beside what its runs say."""

    def trial(self, tried: Tried, standing: Standing) -> None: ...

    def standing(self, standing: Standing) -> None: ...


@dataclass(frozen=True)
class Result:
    """How `tune` ended. stopped: by what, before the study had all its trials. edges: ranges that seem too narrow.

    best_file: the best experiment, on this machine. unshipped: what keeps a part of the tracking here.
    """

    name: str
    run_id: str
    settings: Settings
    standing: Standing
    stopped: str | None
    best_file: Path | None
    edges: list[str]
    unshipped: str | None


def tune(
    experiment: Experiment | None, search: Search | None, wish: Wish, store: Store, display: StudyDisplay
) -> Result:
    """Search until the study has `wish.trials` trials. Without an experiment the study must exist already.

    Raises HarnessError, before anything trains, for a search or a storage that cannot be used, and for a study of that
    name that searches otherwise.
    """
    storage = storages.open_storage(wish.storage, store.root, store.uri)
    name = wish.study or (experiment.name if experiment else "default")
    trials, scoring, new = _opened(storage, name, experiment, search, wish, store, display)
    with storages.asking(files=False), interruptions():
        total = wish.trials or trials.total or TRIALS
        wish = replace(wish, trials=total)
        if trials.total != total:
            trials.total = total
        parent = _parent(trials, wish, store, display, new=new)
        if not new:
            _greet(trials, total, display)
        trials.keeping = parent is not None
        with running.truthful(parent.log) if parent else contextlib.nullcontext(), trials.beating():
            watch = _Watch(trials, total, display, parent)
            display.standing(standing(trials, total))
            if wish.workers > 1:
                del scoring  # the workers have their own
                stopped = _by_workers(trials, wish, store, watch, total)
            else:
                stopped = _worker(trials, wish, store, scoring, display, watch.look).work()
            return _concluded(trials, total, store, watch, stopped)


# Opening ---------------------------------------------------------------------------------------------------------


def _opened(
    storage: Any,
    name: str,
    experiment: Experiment | None,
    search: Search | None,
    wish: Wish,
    store: Store,
    display: Display,
) -> tuple[Trials, Scoring, bool]:
    """The study, its images and judge, and whether it is new."""
    folder = storages.meeting_place(wish.storage, store.root)
    trials = Trials.find(storage, name, folder)
    if trials is None and experiment is None:
        known = ", ".join(sorted(summary.study_name for summary in _summaries(storage))) or "none yet"
        raise HarnessError(f"there is no study {name!r} to go on with; there are {known}")
    new = False
    if trials is None:
        assert experiment is not None
        assert search is not None
        settings, scoring = _settled(experiment, search, wish, display)
        trials = Trials.create(storage, name, settings, folder)
        new = trials is not None
        if trials is None:
            trials = Trials.find(storage, name, folder)
            assert trials is not None
    else:
        scoring = _scoring(trials.settings.base, display)
    if not new:
        _check_same(trials, experiment, search, wish)
    return trials, scoring, new


def _settled(experiment: Experiment, search: Search, wish: Wish, display: Display) -> tuple[Settings, Scoring]:
    """The settings of a new study, with what `auto` stands for."""
    metric = metric_of(experiment, wish.metric)
    base = based(experiment, search)
    training, scoring = running.prepare(base, display)
    scoring = _needed(scoring, base)
    if base.data.validation != experiment.with_values(search.budget).data.validation:
        display.notice(
            f"experiment {experiment.name} holds out no validation images: {base.data.validation:,} of its training "
            "images are held out for this study"
        )
    base = training.experiment
    settled = {path: base.leaves()[path] for path in ("train.device", "train.precision")}
    fuse, planned = wish.fuse, wish.trials or TRIALS
    if fuse is None:
        share = -(-planned // wish.workers)  # no process is to claim what the others are waiting for
        fuse = resolved_population(base, training.images, min(TOGETHER, share))
    sampler = wish.sampler or "tpe"
    settings = Settings(
        experiment.with_values(settled),
        search,
        metric,
        wish.direction or METRICS[metric],
        sampler,
        wish.pruner or ("none" if sampler in NEED_ENDS else "halving"),
        wish.rung or search.prune_from or first_rung(base.train.epochs),
        REDUCTION,
        fuse,
        planned,
    )
    for path, value in search.own(base).items():
        if search.plain(path, value) != base.leaves()[path]:
            display.notice(f"{path} is {base.leaves()[path]}, outside of its search; the first trial takes {value}")
    if sampler in NEED_ENDS and settings.pruner != "none":
        raise HarnessError(f"--sampler {sampler} learns only from trials that reach their end: leave --pruner out")
    if settings.sampler == "cmaes" and len(search.space) < 2:
        raise HarnessError("--sampler cmaes needs a search of two leaves or more; take tpe or gp for one")
    return settings, scoring


def first_rung(epochs: int) -> int:
    """The epoch at which trials of so many epochs are first compared, where the experiment does not say.

    Three quarters: GANs that are to be the best may look the worst for long (docs/tuning.md).
    """
    return max(1, round(0.75 * epochs))


def check(wish: Wish, tracking_uri: str, experiment: Experiment | None = None) -> None:
    """Raise HarnessError for what nobody can wish for; tracking_uri: where MLflow keeps its runs.

    experiment: what is searched, where that is known before its study is.
    """
    if wish.storage is not None:
        storages.check(wish.storage, tracking_uri)
    for what, value, known in (
        ("--metric", wish.metric, tuple(METRICS)),
        ("--sampler", wish.sampler, SAMPLERS),
        ("--pruner", wish.pruner, PRUNERS),
    ):
        if value is not None and value not in known:
            raise HarnessError(f"{what} {value}: expected one of {', '.join(known)}")
    if experiment is not None:
        metric_of(experiment, wish.metric)


def _scoring(base: Experiment, display: Display) -> Scoring:
    return _needed(running.prepare(base, display)[1], base)


def _needed(scoring: Scoring | None, base: Experiment) -> Scoring:
    if scoring is None:
        raise HarnessError(
            f"a search goes by scores, and there is no judge for the images of {base.name}, which have no labels: set "
            "quality.judge to a feature network of your own, package.module:Class"
        )
    return scoring


def _check_same(trials: Trials, experiment: Experiment | None, search: Search | None, wish: Wish) -> None:
    """Raise HarnessError where the study that exists is another one than what was asked for."""
    known = trials.settings
    given = Settings(
        known.experiment if experiment is None else resolved_like(experiment, known.experiment),
        search or known.search,
        wish.metric or known.metric,
        wish.direction or (METRICS[wish.metric] if wish.metric else known.direction),
        wish.sampler or known.sampler,
        wish.pruner or known.pruner,
        wish.rung or (search and search.prune_from) or known.rung,
        known.reduction,
        wish.fuse or known.fuse,
        known.planned,
    )
    if differences := known.differences(given):
        raise HarnessError(
            f"study {trials.name} exists and differs: {'; '.join(differences)}. Search anew with --study NEW, "
            "or go on with the old one as it is: harness tune --study " + trials.name
        )


def _parent(trials: Trials, wish: Wish, store: Store, display: Display, *, new: bool) -> Parent | None:
    """The study's own run, to be written by this process; None where another one is doing so."""
    settings = trials.settings
    if not new:
        _wait_for(lambda: trials.parent is not None, seconds=30)
    with trials.deciding():
        if trials.parent is None:
            log = store.start_run(
                project=settings.experiment.project,
                name=wish.name or trials.name,
                kind="study",
                params=parents.params(settings),
                tags={
                    "harness.experiment": settings.experiment.name,
                    "harness.study": trials.name,
                    "harness.storage": storages.shown(wish.storage, store.root),
                    **wish.tags,
                },
                note=wish.note,
            )
            log.text(settings.experiment.to_yaml(), "experiment.yaml")
            trials.parent = log.run_id
            return Parent(log, trials, store, display)
        reopened = _reopened(trials, store)
    if reopened is None:
        display.notice(f"another process keeps the record of study {trials.name}; this one trains with it")
        return None
    return Parent(reopened, trials, store, display)


def _reopened(trials: Trials, store: Store) -> RunLog | None:
    assert trials.parent is not None
    try:
        run = store.client.get_run(trials.parent)
    except Exception as error:
        raise HarnessError(
            f"study {trials.name} belongs to the run {trials.parent}, which is not in {store.shown_uri}: "
            "give its store with --tracking-uri, or search anew with --study NEW"
        ) from error
    if run.info.status == "RUNNING" and trials.kept(run.data.tags):
        return None
    return store.resume_run(trials.parent, claimed=True)


def _greet(trials: Trials, total: int, display: Display) -> None:
    now = standing(trials, total)
    left = max(0, total - now.ended)
    what = f"{left} to go" if left else "nothing is left to train"
    display.notice(f"study {trials.name} goes on: {now.ended} of {total} trials have ended, {what}")


def _wait_for(condition: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


# Watching --------------------------------------------------------------------------------------------------------


def standing(trials: Trials, total: int) -> Standing:
    every = [trial for trial in trials.all() if counts(trial)]
    states = [trial.state for trial in every]
    found = best(trials.study)
    own = next((t for t in every if t.user_attrs.get("harness.own") and t.state == TrialState.COMPLETE), None)
    return Standing(
        metric=trials.settings.metric,
        total=max(total, len(every)),
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING),
        best=None if found is None else tried(found),
        own=None if own is None else tried(own),
    )


def tried(trial: FrozenTrial) -> Tried:
    states: Mapping[TrialState, State] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    span = trial.duration
    return Tried(
        trial.number,
        states.get(trial.state, "failed"),
        trial.params,
        None if trial.value is None else value_of(trial),
        trial.state == TrialState.PRUNED,
        span.total_seconds() if span else 0.0,
        trial.user_attrs.get("harness.run_id"),
        trial.user_attrs.get("harness.diverged") or trial.user_attrs.get("harness.error"),
    )


class _Watch:
    """Looks at what has ended, tells the display, and keeps the parent run up to date where that is ours to do."""

    def __init__(self, trials: Trials, total: int, display: StudyDisplay, parent: Parent | None) -> None:
        self._trials, self._total, self._display, self.parent = trials, total, display, parent
        self._known = {trial.number for trial in trials.all() if trial.state.is_finished()}
        self._shown: Standing | None = None
        if parent is not None:
            parent.observe()  # what ended after the last command had gone

    def look(self) -> int:
        """How many trials have ended since the last look."""
        if self.parent is not None:
            self.parent.observe()
        fresh = [t for t in self._trials.all() if t.state.is_finished() and t.number not in self._known]
        now = standing(self._trials, self._total)
        for trial in fresh:
            self._known.add(trial.number)
            self._display.trial(tried(trial), now)
        if now != self._shown:
            self._display.standing(now)
            self._shown = now
        return len(fresh)


# Training --------------------------------------------------------------------------------------------------------


def _worker(
    trials: Trials, wish: Wish, store: Store, scoring: Scoring, display: Display, ended: Any = lambda: None
) -> Worker:
    assert trials.parent is not None
    assert wish.trials is not None
    return Worker(
        trials,
        store,
        trials.parent,
        display,
        total=wish.trials,
        scoring=scoring,
        fuse=trials.settings.fuse,
        deadline=wish.deadline,
        tags=wish.tags,
        system_metrics=wish.system_metrics,
        ended=ended,
    )


def _by_workers(trials: Trials, wish: Wish, store: Store, watch: _Watch, total: int) -> str | None:
    """Have several processes train; returns what stopped them. One that dies is replaced, and its trial gone on with.

    A process that we start has a group of its own: Ctrl-C reaches it through us, once.
    """
    if not trials.open(total):
        return None
    workers: dict[int, SpawnProcess] = {}
    deaths, told = 0, 0
    with interruptions() as stop, _together(workers):
        while True:
            for index in range(wish.workers):
                if index not in workers:
                    workers[index] = _spawned(index, trials, wish, store)
            alive = [worker.sentinel for worker in workers.values() if worker.is_alive()]
            multiprocessing.connection.wait(alive, timeout=PAUSE)
            if watch.look():
                deaths = 0
            if stop.signal and not told:
                told = 1
                for worker in workers.values():
                    worker.terminate()
            for index, worker in list(workers.items()):
                if worker.is_alive():
                    continue
                if worker.exitcode == 0 or stop.signal:
                    continue
                del workers[index]
                deaths += 1
                if deaths >= DEATHS + wish.workers:
                    raise HarnessError(
                        f"{deaths} workers in a row have ended without a result (exit code {worker.exitcode}); "
                        "what they were training waits to be gone on with. Try --workers 1 to see why"
                    )
            if len(workers) == wish.workers and not any(worker.is_alive() for worker in workers.values()):
                watch.look()
                return (stop.signal or "max-time") if trials.open(total) else None


@contextlib.contextmanager
def _together(workers: Mapping[int, SpawnProcess]) -> Iterator[None]:
    """Whatever ends us, ends them: first asked to, then not."""
    try:
        yield
    except BaseException:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join(timeout=10)
            if worker.is_alive():
                worker.kill()
        raise


@dataclass(frozen=True)
class _Place:
    """What a worker process needs to find the study."""

    uri: str
    root: Path
    study: str
    wish: Wish
    first: bool


def _spawned(index: int, trials: Trials, wish: Wish, store: Store) -> SpawnProcess:
    place = _Place(store.uri, store.root, trials.name, wish, index == 0)
    with _environment(_share(index, wish.workers)):  # threads are counted when torch is imported
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(place,), daemon=False)
        process.start()
    return process


def _share(index: int, workers: int) -> dict[str, str]:
    """Of the machine: a part of the cores, and one GPU."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = {"OMP_NUM_THREADS": str(max(1, available // workers))}
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is None:
        import torch

        gpus = ",".join(str(number) for number in range(torch.cuda.device_count()))
    if names := [name for name in gpus.split(",") if name.strip()]:
        share["CUDA_VISIBLE_DEVICES"] = names[index % len(names)]
    return share


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work(place: _Place) -> None:
    """The main function of a worker process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    above = multiprocessing.parent_process()
    assert above is not None

    def end_with_it() -> None:
        multiprocessing.connection.wait([above.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    with interruptions():  # from the first moment, SIGTERM means: save, and end
        threading.Thread(target=end_with_it, name="above", daemon=True).start()
        try:
            store = Store.open(place.uri, root=place.root, create=False)
            storage = storages.open_storage(place.wish.storage, store.root, store.uri)
            trials = Trials.find(storage, place.study, storages.meeting_place(place.wish.storage, store.root))
            assert trials is not None
            wish = place.wish if place.first else replace(place.wish, system_metrics=False)
            with storages.asking(files=False), trials.beating():
                _worker(trials, wish, store, _scoring(trials.settings.base, Quiet()), Quiet()).work()
        except HarnessError as error:
            print(f"harness: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)


# The end ---------------------------------------------------------------------------------------------------------


def _concluded(trials: Trials, total: int, store: Store, watch: _Watch, stopped: str | None) -> Result:
    watch.look()
    store.reconcile()  # a worker that was killed has left its run RUNNING
    now = standing(trials, total)
    parent = watch.parent
    if parent is None and stopped is None:
        parent = _inherited(trials, store, watch)
    unshipped = None
    if parent is not None:
        status: Status = "KILLED" if stopped else "FINISHED"
        if not parent.close(status):
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
    )


def _inherited(trials: Trials, store: Store, watch: _Watch) -> Parent | None:
    """The record of the study, where who kept it has gone before the end: then it is ours to end."""
    with trials.deciding():
        log = _reopened(trials, store)
        if log is None:
            return None
        parent = Parent(log, trials, store, Quiet())
    parent.observe()
    return parent


def _best_file(trials: Trials, found: FrozenTrial, store: Store) -> Path | None:
    try:
        text = parents.best_experiment(trials.settings, found, trials.name).to_yaml()
    except HarnessError:  # it is said where it is logged
        return None
    folder = store.root / "studies" / trials.name.replace("/", "_")
    path = folder / "best.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror or error}") from error
    return path


# Looking ---------------------------------------------------------------------------------------------------------


def _summaries(storage: Any) -> list[Any]:
    import optuna

    return list(optuna.get_all_study_summaries(storage))
