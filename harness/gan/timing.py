"""Which of two ways to train is faster here: steps are timed in turns, no longer than it takes to tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch

MIN_GAIN = 1.15  # how many times as fast the other way has to be
FEWEST, MOST = 3, 6  # counted turns of the other way; the current one has at least as many
BUDGET = 2.0  # seconds of training after which the turns so far decide
STEPS = {"cpu": 1, "mps": 10, "cuda": 20}  # of a turn: the host waits for the device before and after it

Turn = Callable[[], float]
"""Trains a few steps. Returns the seconds that they took."""


class Steps(Protocol):
    """What can be trained step by step: a training, or several as one batch."""

    @property
    def device(self) -> torch.device: ...

    @property
    def steps_per_epoch(self) -> int: ...

    def begin_epoch(self) -> None: ...

    def train_step(self) -> None: ...


def time_turn(training: Steps) -> Turn:
    """A turn is all steps of an epoch. What comes before and after them is not timed."""

    def turn() -> float:
        training.begin_epoch()
        _wait(training.device)
        started = time.perf_counter()
        for _ in range(training.steps_per_epoch):
            training.train_step()
        _wait(training.device)
        return time.perf_counter() - started

    return turn


def is_faster(other: Turn, current: Turn) -> bool:
    """Whether `other` is at least `MIN_GAIN` times as fast as `current`.

    The least of several turns decides, because other work on the machine only adds to them. Both have a turn to warm
    up. The timing ends early when every turn of one side is faster than every turn of the other.
    """
    spent = current()
    known: list[float] = []
    while not known or (len(known) < FEWEST and spent <= BUDGET):
        known.append(current())
        spent += known[-1]
    warm_up = other()
    if warm_up > spent:
        return False
    spent += warm_up
    others: list[float] = []
    while len(others) < MOST:
        others.append(other())
        spent += others[-1]
        if len(others) >= FEWEST:  # a slow turn or two may be the fault of other work
            if min(others) > max(known):
                return False
            if min(known) > MIN_GAIN * max(others):
                return True
        if spent > BUDGET:
            break
        known.append(current())
        spent += known[-1]
    return min(known) > MIN_GAIN * min(others)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
