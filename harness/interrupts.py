"""Ending early, cleanly: signals and time limits."""

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
    """signal: the name of the first one that came, or None. What is at work then ends where it can be resumed."""

    signal: str | None = None


_current: StopRequest | None = None


def stopped_by(stopped: str, saved: str) -> str:
    """What to say of a command that was stopped by SIGINT, SIGTERM or max-time, as someone had asked for."""
    return f"stopped as requested by {_REQUESTS[stopped]}: {saved} (KILLED in MLflow)"


@contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """The first Ctrl-C or SIGTERM is a request, seen in the Stop; the second raises KeyboardInterrupt at once.

    Inside another one it is that other's Stop: who runs many sees the signal that one of them was sent.
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
    """Stop as SIGTERM does."""
    signal.raise_signal(signal.SIGTERM)


@contextmanager
def hangups() -> Iterator[None]:
    """SIGHUP counts as SIGTERM: for a server, which is of no use without the terminal that shows its address."""
    with on_hangup(terminate):
        yield


# Seconds that work is taken to last until it has been measured: loading the data; ending a run in MLflow; test scores
# and models of one that is complete; mean curves of seeds; a study's plots; and the end of the process itself.
GUESSES = {"prepare": 0.5, "finish": 1.0, "conclude": 5.0, "seeds": 1.0, "study": 5.0, "exit": 1.5}


class Deadline:
    """When a command has to have ended, and how long each kind of its work took at most.

    at: on the clock of `time.monotonic`, or None for no limit. One that is shared by all runs of a command knows from
    the first what the next ones will take.
    """

    def __init__(self, at: float | None = None) -> None:
        self._at = at
        self._longest = dict(GUESSES)
        self._measured: set[str] = set()
        self._reserved = {"exit"}
        self._lap = time.monotonic()

    def near(self, *work: str) -> bool:
        """Whether this work would not end in time: going by the longest of each kind so far, and a tenth more.

        What is reserved is counted in; what was never measured or guessed counts as nothing.
        """
        if self._at is None:
            return False
        needed = sum(self._longest.get(what, 0.0) for what in (*work, *self._reserved))
        return time.monotonic() + 1.1 * needed > self._at

    @property
    def passed(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at

    def reserve(self, *work: str) -> None:
        """Keep time for this work at the end, whatever comes before it; the end of the process always is."""
        self._reserved |= set(work)

    def knows(self, what: str) -> bool:
        """Whether work of this kind was measured."""
        return what in self._measured

    def took(self, what: str, seconds: float) -> None:
        """Learn how long a piece of work took."""
        before = self._longest.get(what, 0.0) if what in self._measured else 0.0
        self._longest[what] = max(before, seconds)
        self._measured.add(what)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Learn how long a piece of work takes that is done inside."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.took(what, time.monotonic() - began)

    def start_lap(self) -> None:
        """An epoch begins."""
        self._lap = time.monotonic()

    def end_lap(self) -> None:
        """The epoch has ended, with its scores, pictures and checkpoints."""
        self.took("epoch", time.monotonic() - self._lap)
