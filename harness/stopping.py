"""Ending early, cleanly: signals and time limits."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """signal: the name of the first one that came, or None. What is at work then ends where it can be resumed."""

    signal: str | None = None


_current: Stop | None = None


@contextmanager
def interruptions() -> Iterator[Stop]:
    """The first Ctrl-C or SIGTERM is a request, seen in the Stop; the second raises KeyboardInterrupt at once.

    Inside another one it is that other's Stop: who runs many sees the signal that one of them was sent.
    """
    global _current
    if _current is not None:
        yield _current
        return
    stop = _current = Stop()

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
def hangups() -> Iterator[None]:
    """SIGHUP, that of a terminal which is closed, counts as SIGTERM; where it is ignored (nohup), it stays so."""
    previous = signal.getsignal(signal.SIGHUP)
    if previous is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)


class Deadline:
    """Whether another epoch would still end in time, going by the longest so far, and a tenth more.

    at: on the clock of `time.monotonic`, or None for no limit.
    """

    def __init__(self, at: float | None) -> None:
        self._at = at
        self._began = time.monotonic()
        self._longest = 0.0

    def near(self) -> bool:
        """Ask once an epoch: from one asking to the next all of an epoch goes by, scores and checkpoints too."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._began)
        self._began = now
        return self._at is not None and now + 1.1 * self._longest > self._at

    @property
    def passed(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at
