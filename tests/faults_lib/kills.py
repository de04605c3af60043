"""SIGKILL, simulated in this process: at the N-th step that changes a file or the store, nothing is done any more.

    with life() as process:            # a process that will be dead afterwards: its locks are free, its pid is gone
        with process.killed_at(12):    # or process.recorded(): count the points without dying
            cli.main()

A real SIGKILL skips every handler. Here a BaseException unwinds the stack, and handlers do run: but from the kill on,
every further step of the same kind raises it again, so handlers cannot write anything either. Python code between two
steps leaves nothing behind, so killing before each step reaches every state that a killed process can leave.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from harness.media import pictures
from harness.tracking import RunLog
from harness.tracking import store as store_module
from harness.tracking.process_tags import this_process
from harness.tracking.spool import Spool

DEAD_PID = "4194303"  # the highest pid that Linux gives, and hardly ever does

# What changes the store: each of these is a request that arrives or does not.
_REQUESTS = (
    "create_run",
    "update_run",
    "delete_tag",
    "set_tag",
    "set_terminated",
    "log_batch",
    "log_artifact",
    "log_inputs",
    "log_outputs",
    "create_logged_model",
    "log_model_artifacts",
    "finalize_logged_model",
)


class Killed(BaseException):
    """The process is dead. Not an Exception: no handler of the program may take it for an error."""


class Process:
    """One life of a process. points: the steps it has reached, in order, as `thread: step`.

    They are counted from the first that contains `start`: what a command tidies up before it differs from time to time.
    """

    def __init__(self, start: str) -> None:
        self._start = start
        self.points: list[str] = []
        self.dead = False
        self._kill: Callable[[int, str], bool] = lambda count, point: False
        self._shipped: str | None = None
        self._watching = False
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self.logs: list[RunLog] = []
        self.spools: list[Spool] = []

    @contextmanager
    def killed_at(self, number: int, thread: str = "main") -> Iterator[None]:
        """Die before the `number`-th step (from 1) of the main thread, or of the one that ships (`ship`)."""
        with self._watch(lambda count, point: count == number and point.startswith(f"{thread}: ")), self._dies():
            yield

    @contextmanager
    def killed_before(self, step: str, number: int = 1, *, shipped: str | None = None) -> Iterator[None]:
        """Die before the `number`-th step whose description contains `step`.

        shipped: before each step of the main thread that contains this, all that was logged reaches the store.
        """
        self._shipped = shipped
        seen = [0]

        def kill(count: int, point: str) -> bool:
            seen[0] += step in point
            return step in point and seen[0] == number

        with self._watch(kill), self._dies():
            yield

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Live on; `points` then holds the points at which the process could have died."""
        with self._watch(lambda count, point: False):
            yield

    def count(self, thread: str = "main") -> int:
        return sum(point.startswith(f"{thread}: ") for point in self.points)

    @contextmanager
    def _watch(self, kill: Callable[[int, str], bool]) -> Iterator[None]:
        self._kill, self._watching = kill, True
        try:
            yield
        finally:
            self._watching = False

    @contextmanager
    def _dies(self) -> Iterator[None]:
        """Where the thread that ships has died, the main thread may find nothing to do any more and end as usual."""
        try:
            yield
        except (Killed, SystemExit):
            if not self.dead:
                raise
        assert self.dead, f"it was not killed; it passed {self.points}"

    def reach(self, step: str) -> None:
        if not self._watching and not self.dead:
            return
        if self._shipped and self._shipped in step and threading.current_thread() is threading.main_thread():
            for log in self.logs:
                assert self.dead or log.flush(60)
        with self._lock:
            if self.dead:
                raise Killed
            if not self.points and self._start not in step:
                return
            thread = "ship" if threading.current_thread().name.startswith("ship") else "main"
            point = f"{thread}: {step}"
            self.points.append(point)
            self._counts[thread] = self._counts.get(thread, 0) + 1
            if self._kill(self._counts[thread], point):
                self.dead = True
                raise Killed(point)

    def bury(self) -> None:
        """What the operating system does for a dead process: its threads end, its locks are free."""
        for log in self.logs:
            log._shipper.stop()
            log._shipper.join()
        for spool in self.spools:
            spool.release()


@contextmanager
def life(start: str = "request create_run") -> Iterator[Process]:
    """What runs inside is a process of its own, dead afterwards."""
    process = Process(start)
    with pytest.MonkeyPatch.context() as patch:
        _intercept(process, patch)
        patch.setattr(store_module, "this_process", lambda: this_process() | {"harness.pid": DEAD_PID})
        patch.setattr(threading, "excepthook", lambda args: None)  # the thread that ships dies in silence
        try:
            yield process
        finally:
            process.dead = True
            process.bury()


def _intercept(process: Process, patch: pytest.MonkeyPatch) -> None:
    def before(owner: Any, name: str, describe: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def step(*arguments: Any, **named: Any) -> Any:
            process.reach(describe(*arguments, **named))
            return original(*arguments, **named)

        patch.setattr(owner, name, step)

    before(Spool, "append", lambda spool, event, **_: f"append {_describe(event)}")
    before(Path, "replace", lambda path, target: f"replace {Path(target).name}")
    before(Path, "unlink", lambda path, *_, **__: f"unlink {path.name}")
    before(pictures, "save_png", lambda path, *_, **__: f"write {path.parent.name}/{path.name}")
    before(shutil, "copytree", lambda source, *_, **__: f"copy {Path(source).name}")
    before(shutil, "rmtree", lambda path, *_, **__: f"remove {Path(path).name}")
    for name in _REQUESTS:
        before(MlflowClient, name, partial(_request, name))

    start, acquire = RunLog.__init__, Spool.acquire

    def tracked_start(log: RunLog, *arguments: Any, **named: Any) -> None:
        start(log, *arguments, **named)
        process.logs.append(log)

    def tracked_acquire(spool: Spool) -> bool:
        taken = acquire(spool)
        if taken:
            process.spools.append(spool)
        return taken

    patch.setattr(RunLog, "__init__", tracked_start)
    patch.setattr(Spool, "acquire", tracked_acquire)


def _request(request: str, *_: Any, **__: Any) -> str:
    return f"request {request}"


def _describe(event: dict[str, Any]) -> str:
    about = event.get("key") or event.get("folder") or ",".join(list(event.get("values", ()))[:1])
    if event["kind"] == "artifact":
        about = f"{event['folder']}/{Path(event['file']).name}"
    if event["kind"] == "model":
        about = event["name"]
    step = f" {event['step']}" if "step" in event else ""
    return f"{event['kind']} {about or ''}{step}"
