"""Worker processes of a study: started, replaced when they die, and terminated together."""

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
from harness.tuning.open_study import load_scoring, stored_code
from harness.tuning.progress import ProgressMonitor
from harness.tuning.request import TuneRequest
from harness.tuning.storage import lock_dir, open_storage, storage_errors
from harness.tuning.trials import Trials
from harness.tuning.worker import POLL_INTERVAL, NullMonitor, Worker

MAX_DEATHS = 3  # workers that may die in a row before a trial ends, in addition to one for each worker


def run_workers(trials: Trials, request: TuneRequest, store: Store, monitor: ProgressMonitor, total: int) -> str | None:
    """Train in several processes. A process that dies is replaced, and its trial is resumed.

    Each process has its own process group, so it receives Ctrl-C only once, from this process.

    Returns:
        What stopped the study early: SIGINT, SIGTERM or max-time; else None.
    """
    if not trials.is_incomplete(total):
        return None
    workers: dict[int, SpawnProcess] = {}
    deaths, signalled = 0, False
    with handle_signals() as stop, _terminate_on_error(workers):
        while True:
            for index in range(request.workers):
                if index not in workers:
                    workers[index] = _spawn(index, trials, request, store)
            alive = [worker.sentinel for worker in workers.values() if worker.is_alive()]
            multiprocessing.connection.wait(alive, timeout=POLL_INTERVAL)
            if monitor.update():
                deaths = 0
            if stop.signal and not signalled:
                signalled = True
                for worker in workers.values():
                    worker.terminate()
            for index, worker in list(workers.items()):
                if worker.is_alive():
                    continue
                if worker.exitcode == 0 or stop.signal:
                    continue
                del workers[index]
                deaths += 1
                if deaths >= MAX_DEATHS + request.workers:
                    raise HarnessError(
                        f"{deaths} workers in a row have ended without a result (exit code {worker.exitcode}); "
                        "their trials can be resumed. Try --workers 1 to see why"
                    )
            if len(workers) == request.workers and not any(worker.is_alive() for worker in workers.values()):
                monitor.update()
                return (stop.signal or "max-time") if trials.is_incomplete(total) else None


@contextlib.contextmanager
def _terminate_on_error(workers: Mapping[int, SpawnProcess]) -> Iterator[None]:
    """Terminate the workers after an exception, and kill those that do not end within 10 s."""
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
class _WorkerArgs:
    """The arguments of a worker process.

    Attributes:
        uri: URI of the MLflow store.
        root: Folder of the spool.
        study: Name of the study.
        request: The options of the command.
        first: Whether this is the first worker, which logs system metrics.
        policy: Which custom code may be imported.
        log: Path and title of the log file in which output continues when the terminal is closed.
    """

    uri: str
    root: Path
    study: str
    request: TuneRequest
    first: bool
    policy: trust.Policy
    log: tuple[Path, str] | None


def _spawn(index: int, trials: Trials, request: TuneRequest, store: Store) -> SpawnProcess:
    log = console.current_log()
    arguments = _WorkerArgs(
        store.uri,
        store.root,
        trials.name,
        request,
        index == 0,
        trust.get_policy(),
        None if log is None else (log.path, log.title),
    )
    with _environment(_resource_environment(index, request.workers)):  # torch reads them when it is imported
        process = multiprocessing.get_context("spawn").Process(target=_worker_main, args=(arguments,), daemon=False)
        process.start()
    return process


def _resource_environment(index: int, workers: int) -> dict[str, str]:
    """Environment variables that give a worker its share of the cores, and one GPU."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    variables = {"OMP_NUM_THREADS": str(max(1, available // workers))}
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is None:
        import torch

        gpus = ",".join(str(number) for number in range(torch.cuda.device_count()))
    if names := [name for name in gpus.split(",") if name.strip()]:
        variables["CUDA_VISIBLE_DEVICES"] = names[index % len(names)]
    return variables


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


def _worker_main(arguments: _WorkerArgs) -> None:
    """The main function of a worker process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    console.install()
    log = None if arguments.log is None else console.Log(*arguments.log, failed=terminate)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    # From here on, SIGTERM saves the trials and ends the process.
    with handle_signals(), console.continue_in(log), on_hangup(console.leave_terminal):
        threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
        try:
            trust.set_policy(arguments.policy)
            store = Store.open(arguments.uri, root=arguments.root, create=False)
            request = arguments.request
            storage = open_storage(request.storage, store.root, store.uri)
            trials = Trials.find(storage, arguments.study, lock_dir(request.storage, store.root))
            assert trials is not None
            if not arguments.first:
                request = replace(request, system_metrics=False)
            with storage_errors(files=False), trials.heartbeat(), stored_code(trials, store):
                scoring = load_scoring(trials, store, NullDisplay())
                Worker(trials, store, request, scoring, NullDisplay(), NullMonitor()).work()
        except HarnessError as error:
            print(f"harness: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)
