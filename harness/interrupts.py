"""Stop a command early and cleanly: signals and time limits."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_REQUESTS = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "max-time": "the time limit"}


@dataclass
class StopRequest:
    """A request to stop where the work can be resumed. signal: the name of the first signal, or None."""

    signal: str | None = None


_current: StopRequest | None = None


def stopped_by(stopped: str, saved: str) -> str:
    """Return the line for a command that was stopped on request.

    Args:
        stopped: SIGINT, SIGTERM or max-time.
        saved: What is saved.
    """
    return f"stopped as requested by {_REQUESTS[stopped]}: {saved} (KILLED in MLflow)"


@contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a StopRequest; the second raises KeyboardInterrupt at once.

    Blocks can be nested, and then share one StopRequest: a command of many runs sees the signal that one of them got.
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
    """Call `handle` at SIGHUP, which a terminal sends when it is closed. Where it is ignored (nohup), it stays so."""
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
    """Let SIGHUP count as SIGTERM: a server is of no use without the terminal that shows its address."""
    with on_hangup(terminate):
        yield


# Seconds that work is taken to last until it has been measured: loading the data; ending a run in MLflow; test scores
# and models of one that is complete; mean curves of seeds; a study's plots; and the end of the process itself.
GUESSES = {"prepare": 0.5, "finish": 1.0, "conclude": 5.0, "seeds": 1.0, "study": 5.0, "exit": 1.5}


class Deadline:
    """When a command must have ended, and how long each kind of its work took at most.

    All runs of a command share one: from the first run it knows how long the next ones will take.
    """

    def __init__(self, at: float | None = None) -> None:
        """at: on the clock of `time.monotonic`, in seconds; None for no limit."""
        self._at = at
        self._longest = dict(GUESSES)
        self._measured: set[str] = set()
        self._reserved = {"exit"}
        self._lap: float | None = None  # when the epoch started

    def near(self, *work: str) -> bool:
        """Whether this work, with what is reserved, would not end in time.

        Each kind is taken to last a tenth longer than the longest so far; what was never measured or guessed, no time.
        """
        if self._at is None:
            return False
        needed = sum(self._longest.get(what, 0.0) for what in (*work, *self._reserved))
        return time.monotonic() + 1.1 * needed > self._at

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._at is not None and time.monotonic() >= self._at

    def reserve(self, *work: str) -> None:
        """Keep time for this work at the end, whatever comes before it. Time for the end of the process always is."""
        self._reserved |= set(work)

    def knows(self, what: str) -> bool:
        """Whether work of this kind was measured."""
        return what in self._measured

    def took(self, what: str, seconds: float) -> None:
        """Record how long a piece of work took, in seconds."""
        before = self._longest.get(what, 0.0) if what in self._measured else 0.0
        self._longest[what] = max(before, seconds)
        self._measured.add(what)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Record how long the block takes."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.took(what, time.monotonic() - start)

    def start_lap(self) -> None:
        """An epoch starts."""
        self._lap = time.monotonic()

    def end_lap(self) -> None:
        """The epoch, if one was started, has ended with its scores, pictures and checkpoints."""
        if self._lap is not None:
            self.took("epoch", time.monotonic() - self._lap)
            self._lap = None
