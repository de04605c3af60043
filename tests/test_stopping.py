"""Ending early: what the first and the second signal do, nested or not, and when a deadline is near."""

from __future__ import annotations

import os
import signal

import pytest

from harness import stopping
from harness.stopping import Deadline, interruptions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_an_end(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruptions() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal == number.name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_who_runs_many_sees_the_signal_that_one_was_sent() -> None:
    with interruptions() as outer:
        with interruptions() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.signal == "SIGTERM"
        assert outer.signal == "SIGTERM"
    with interruptions() as fresh:
        assert fresh.signal is None


def test_a_deadline_is_near_when_the_longest_epoch_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now)
    deadline = Deadline(150.0)
    now = 120.0  # an epoch of 20 s
    assert not deadline.near()
    now = 125.0  # one of 5 s: 125 + 1.1 * 20 still fits
    assert not deadline.near()
    now = 130.0
    assert deadline.near()
    assert not deadline.passed
    now = 150.0
    assert deadline.passed


def test_without_a_limit_no_deadline_is_near() -> None:
    deadline = Deadline(None)
    assert not deadline.near()
    assert not deadline.passed
