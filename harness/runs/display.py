"""The interface of a progress display, and displays that show less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.gan import Report, Training
from harness.media import pictures

# Work other than training: after an epoch, or at the end of a run (the last three).
Stage = Literal["scoring", "drawing", "saving", "exporting", "final scoring", "finishing"]


@dataclass(frozen=True)
class EpochReport(Report):
    """A report whose metrics include the scores of the epoch, if it was scored.

    Attributes:
        best: It is the best of all scored epochs so far.
    """

    best: bool = False


class Display(Protocol):
    """Receives the progress of a run."""

    def message(self, text: str) -> None:
        """Show one line. A text that ends in `...` describes work that starts; it has ended at the next call."""

    def started(self, training: Training, name: str) -> None:
        """Show that training starts."""

    def epoch(self, report: Report) -> None:
        """Show an epoch: the `EpochReport` of one run, or the mean of several runs in a batch."""

    def stage(self, stage: Stage | None) -> None:
        """Show work other than training, which starts now. None: training continues."""

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        """Show a sample grid."""

    def ended(self) -> None:
        """Show that training has ended. Scores and models may follow."""


class NullDisplay:
    """A display that shows nothing."""

    def message(self, text: str) -> None:
        """Show nothing."""

    def started(self, training: Training, name: str) -> None:
        """Show nothing."""

    def epoch(self, report: Report) -> None:
        """Show nothing."""

    def stage(self, stage: Stage | None) -> None:
        """Show nothing."""

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        """Show nothing."""

    def ended(self) -> None:
        """Show nothing."""


class MemberDisplay(NullDisplay):
    """The display of one run of a batch. The epochs of the batch are shown as their mean.

    It forwards messages and stages, and grids if `grids` is True.
    """

    def __init__(self, display: Display, *, grids: bool) -> None:
        self._display, self._grids = display, grids

    def message(self, text: str) -> None:
        """Show one line."""
        self._display.message(text)

    def stage(self, stage: Stage | None) -> None:
        """Show the stage of the run."""
        self._display.stage(stage)

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        """Show a grid, if this display shows grids."""
        if self._grids:
            self._display.grid(picture, epoch)


@contextmanager
def show_stage(display: Display, stage: Stage) -> Iterator[None]:
    """Show a stage while the block runs."""
    display.stage(stage)
    try:
        yield
    finally:
        display.stage(None)


@contextmanager
def show_training(display: Display, training: Training, name: str) -> Iterator[None]:
    """Show a training while the block runs."""
    display.started(training, name)
    try:
        yield
    finally:
        display.ended()
