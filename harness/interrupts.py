"""Stop a command early and cleanly: signals and time limits."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_REASONS = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "max-time": "the time limit"}


@dataclass
class StopRequest:
    """A request to stop at the next point where the work can be resumed. signal: name of the first signal, or None."""

    signal: str | None = None


_current: StopRequest | None = None


def stop_message(stopped: str, saved: str) -> str:
    """Return the message of a command that was stopped on request.

    Args:
        stopped: SIGINT, SIGTERM or max-time.
        saved: What is saved.
    """
    return f"stopped as requested by {_REASONS[stopped]}: {saved} (KILLED in MLflow)"


@contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a StopRequest; the second raises KeyboardInterrupt at once.

    Nested blocks share one StopRequest: a command with several runs sees a signal that arrives during any of them.
    """
    global _current
    if _current is not None:
        yield _current
        return
    if threading.current_thread() is not threading.main_thread():  # only the main thread can handle signals
        yield StopRequest()
        return
    stop = _current = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signal:
            raise KeyboardInterrupt
        stop.signal = signal.Signals(number).name

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        _current = None
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def on_hangup(handle: Callable[[], object]) -> Iterator[None]:
    """Call `handle` at SIGHUP, which a terminal sends when it is closed. With nohup it stays ignored."""
    previous = signal.getsignal(signal.SIGHUP) if hasattr(signal, "SIGHUP") else signal.SIG_IGN  # Windows has none
    if previous is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGHUP, lambda number, frame: handle())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)


def terminate() -> None:
    """Send SIGTERM to this process."""
    signal.raise_signal(signal.SIGTERM)


@contextmanager
def hangup_as_sigterm() -> Iterator[None]:
    """Treat SIGHUP as SIGTERM: a server is of no use without the terminal that shows its address."""
    with on_hangup(terminate):
        yield


# Assumed seconds of each kind of work, until it is measured: load the data; end a run in MLflow; test scores and models
# of a complete run; mean curves of seeds; a study's plots; exit of the process.
DEFAULT_SECONDS = {"prepare": 0.5, "finish": 1.0, "conclude": 5.0, "seeds": 1.0, "study": 5.0, "exit": 1.5}


class Deadline:
    """The time limit of a command, and the longest duration of each kind of work so far.

    All runs of a command share one Deadline, so the first run's durations are known when the next run starts.
    """

    def __init__(self, end: float | None = None) -> None:
        """end: on the clock of `time.monotonic`, in seconds; None for no limit."""
        self._end = end
        self._longest = dict(DEFAULT_SECONDS)
        self._measured: set[str] = set()
        self._reserved = {"exit"}
        self._epoch_start: float | None = None  # when the epoch started

    def too_late_for(self, *work: str) -> bool:
        """Whether this work and the reserved work would exceed the time limit.

        The estimate of each kind is 110 % of its longest duration so far, or of DEFAULT_SECONDS; of unknown work, 0 s.
        """
        if self._end is None:
            return False
        needed = sum(self._longest.get(what, 0.0) for what in (*work, *self._reserved))
        return time.monotonic() + 1.1 * needed > self._end

    @property
    def passed(self) -> bool:
        """Whether the time limit is over."""
        return self._end is not None and time.monotonic() >= self._end

    def reserve(self, *work: str) -> None:
        """Keep time for this work at the end. Time for the exit of the process is always reserved."""
        self._reserved |= set(work)

    def has_measured(self, what: str) -> bool:
        """Whether work of this kind was measured."""
        return what in self._measured

    def record(self, what: str, seconds: float) -> None:
        """Record how long a piece of work took, in seconds."""
        before = self._longest.get(what, 0.0) if what in self._measured else 0.0
        self._longest[what] = max(before, seconds)
        self._measured.add(what)

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Record how long the block takes."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.record(what, time.monotonic() - start)

    def start_epoch(self) -> None:
        """Record the start of an epoch."""
        self._epoch_start = time.monotonic()

    def end_epoch(self) -> None:
        """Record the duration of the epoch, including scores, pictures and checkpoints. Without a start, do nothing."""
        if self._epoch_start is not None:
            self.record("epoch", time.monotonic() - self._epoch_start)
            self._epoch_start = None
