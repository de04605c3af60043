"""Trials trained in this process, or in several that are replaced when they die."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

from harness import console
from harness.errors import HarnessError
from harness.experiment import trust
from harness.interrupts import handle_signals, on_hangup, terminate
from harness.runs.display import NullDisplay
from harness.tracking import Store
from harness.tuning import storage as storages
from harness.tuning.open_study import code_of, scoring_of
from harness.tuning.progress import ProgressMonitor
from harness.tuning.request import TuneRequest
from harness.tuning.trials import Trials
from harness.tuning.worker import PAUSE, NullMonitor, Worker

DEATHS = 3  # workers, besides one each, that may die in a row without a trial having ended


def run_workers(trials: Trials, request: TuneRequest, store: Store, monitor: ProgressMonitor, total: int) -> str | None:
    """Train in several processes. Returns what stopped them. One that dies is replaced, and its trial is resumed.

    Each process has a group of its own: Ctrl-C reaches it through us, once.
    """
    if not trials.open(total):
        return None
    workers: dict[int, SpawnProcess] = {}
    deaths, told = 0, 0
    with handle_signals() as stop, _together(workers):
        while True:
            for index in range(request.workers):
                if index not in workers:
                    workers[index] = _spawned(index, trials, request, store)
            alive = [worker.sentinel for worker in workers.values() if worker.is_alive()]
            multiprocessing.connection.wait(alive, timeout=PAUSE)
            if monitor.update():
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
                if deaths >= DEATHS + request.workers:
                    raise HarnessError(
                        f"{deaths} workers in a row have ended without a result (exit code {worker.exitcode}); "
                        "their trials can be resumed. Try --workers 1 to see why"
                    )
            if len(workers) == request.workers and not any(worker.is_alive() for worker in workers.values()):
                monitor.update()
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
    """What a worker process needs to find the study.

    policy: which code it may import. log: where its output goes when the terminal is closed.
    """

    uri: str
    root: Path
    study: str
    request: TuneRequest
    first: bool
    policy: trust.Policy
    log: tuple[Path, str] | None


def _spawned(index: int, trials: Trials, request: TuneRequest, store: Store) -> SpawnProcess:
    log = console.current_log()
    place = _Place(
        store.uri,
        store.root,
        trials.name,
        request,
        index == 0,
        trust.get_policy(),
        None if log is None else (log.path, log.title),
    )
    with _environment(_share(index, request.workers)):  # threads are counted when torch is imported
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
    console.install()
    log = None if place.log is None else console.Log(*place.log, failed=terminate)
    above = multiprocessing.parent_process()
    assert above is not None

    def end_with_it() -> None:
        multiprocessing.connection.wait([above.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    # From the first moment, SIGTERM means: save, and end.
    with handle_signals(), console.continue_in(log), on_hangup(console.leave_terminal):
        threading.Thread(target=end_with_it, name="above", daemon=True).start()
        try:
            trust.set_policy(place.policy)
            store = Store.open(place.uri, root=place.root, create=False)
            storage = storages.open_storage(place.request.storage, store.root, store.uri)
            trials = Trials.find(storage, place.study, storages.lock_dir(place.request.storage, store.root))
            assert trials is not None
            request = place.request if place.first else replace(place.request, system_metrics=False)
            with storages.storage_errors(files=False), trials.heartbeat(), code_of(trials, store):
                scoring = scoring_of(trials, store, NullDisplay())
                Worker(trials, store, request, scoring, NullDisplay(), NullMonitor()).work()
        except HarnessError as error:
            print(f"harness: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)
