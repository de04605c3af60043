"""Ending early: what the first and the second signal do, nested or not, and when a deadline is near."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from harness import interrupts
from harness.interrupts import Deadline, handle_signals, stop_message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_an_end(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with handle_signals() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal == number.name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_who_runs_many_sees_the_signal_that_one_was_sent() -> None:
    with handle_signals() as outer:
        with handle_signals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.signal == "SIGTERM"
        assert outer.signal == "SIGTERM"
    with handle_signals() as fresh:
        assert fresh.signal is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time that deadlines see; it is 100 at first."""
    now = 100.0
    monkeypatch.setattr("harness.interrupts.time.monotonic", lambda: now)

    def set_to(value: float) -> None:
        nonlocal now
        now = value

    return set_to


EXIT = interrupts.DEFAULT_SECONDS["exit"]


def test_a_deadline_is_near_when_the_longest_epoch_would_not_fit(clock: Callable[[float], None]) -> None:
    deadline = Deadline(150.0 + 1.1 * EXIT)
    deadline.start_epoch()
    clock(120.0)  # an epoch of 20 s
    deadline.end_epoch()
    deadline.start_epoch()
    assert not deadline.too_late_for("epoch")
    clock(125.0)  # one of 5 s: 125 + 1.1 * 20 still fits
    deadline.end_epoch()
    assert not deadline.too_late_for("epoch")
    clock(130.0)
    assert deadline.too_late_for("epoch")
    assert not deadline.passed
    clock(150.0 + 1.1 * EXIT)
    assert deadline.passed


def test_what_follows_an_epoch_needs_time_too(clock: Callable[[float], None]) -> None:
    deadline = Deadline(150.0 + 1.1 * EXIT)
    deadline.record("epoch", 10.0)
    deadline.record("stop", 10.0)
    with deadline.measure("conclude"):
        clock(130.0)
    clock(110.0)
    assert not deadline.too_late_for("epoch", "stop")
    assert deadline.too_late_for("epoch", "conclude"), "30 s of scores and models"
    assert deadline.too_late_for("epoch", "stop", "stop", "stop"), "three runs that end one after the other"
    deadline.reserve("conclude")
    assert deadline.too_late_for("epoch", "stop"), "what has to be done whenever the command stops"


def test_a_guess_counts_until_the_work_was_measured(clock: Callable[[float], None]) -> None:
    deadline = Deadline(100.0 + 1.1 * EXIT + 1.0)
    assert not deadline.has_measured("conclude")
    assert deadline.too_late_for("conclude")
    deadline.record("conclude", 0.1)
    assert deadline.has_measured("conclude")
    assert not deadline.too_late_for("conclude")


def test_without_a_limit_no_deadline_is_near() -> None:
    deadline = Deadline(None)
    deadline.record("epoch", 1e9)
    assert not deadline.too_late_for("epoch")
    assert not deadline.passed


@pytest.mark.parametrize(
    ("stopped", "who"), [("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM"), ("max-time", "the time limit")]
)
def test_a_stop_that_was_asked_for_is_called_that(stopped: str, who: str) -> None:
    said = stop_message(stopped, "epoch 3 of 9 is saved")
    assert said == f"stopped as requested by {who}: epoch 3 of 9 is saved (KILLED in MLflow)"
