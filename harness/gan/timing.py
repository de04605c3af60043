"""Find out which of two ways to train is faster on this machine, in as few timed rounds as possible."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch

MIN_GAIN = 1.15  # required speed-up
MIN_ROUNDS, MAX_ROUNDS = 3, 6  # counted rounds of the other way; the current one has at least as many
BUDGET = 2.0  # seconds of training after which the rounds so far decide
STEPS = {"cpu": 1, "mps": 10, "cuda": 20}  # a round; the host waits for the device before and after it

Timer = Callable[[], float]
"""Train a few steps and return the seconds that they took."""


class Steps(Protocol):
    """A training with steps: `Training` or `BatchedTraining`."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch."""
        ...

    def begin_epoch(self) -> None:
        """Prepare the first step of the next epoch."""
        ...

    def train_step(self) -> None:
        """Run one step; the host does not wait for the device."""
        ...


def epoch_timer(training: Steps) -> Timer:
    """Return a function that trains one epoch and returns the seconds of its steps.

    Only the steps are timed, not what comes before and after them.
    """

    def time_epoch() -> float:
        training.begin_epoch()
        _synchronize(training.device)
        started = time.perf_counter()
        for _ in range(training.steps_per_epoch):
            training.train_step()
        _synchronize(training.device)
        return time.perf_counter() - started

    return time_epoch


def is_faster(other: Timer, current: Timer) -> bool:
    """Return whether `other` is at least `MIN_GAIN` times as fast as `current`.

    Compares the minimum over several rounds, because other work on the machine only adds time. Both have one round to
    warm up. Stops early when every round of one side is faster than every round of the other.
    """
    spent = current()
    current_times: list[float] = []
    while not current_times or (len(current_times) < MIN_ROUNDS and spent <= BUDGET):
        current_times.append(current())
        spent += current_times[-1]
    warm_up = other()
    if warm_up > spent:
        return False
    spent += warm_up
    other_times: list[float] = []
    while len(other_times) < MAX_ROUNDS:
        other_times.append(other())
        spent += other_times[-1]
        if len(other_times) >= MIN_ROUNDS:  # other work may have slowed down a round or two
            if min(other_times) > max(current_times):
                return False
            if min(current_times) > MIN_GAIN * max(other_times):
                return True
        if spent > BUDGET:
            break
        current_times.append(current())
        spent += current_times[-1]
    return min(current_times) > MIN_GAIN * min(other_times)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
