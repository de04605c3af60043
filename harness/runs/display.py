"""What a run tells whoever watches it: the interface, and displays that show less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.gan import Report, Training
from harness.media import pictures

# Work beside training: after an epoch, or (the last two) at the end of a run.
Stage = Literal["scoring", "drawing", "saving", "exporting", "final scoring", "finishing"]


@dataclass(frozen=True)
class EpochReport(Report):
    """A report with the scores of the epoch among its metrics, where it was scored.

    Attributes:
        best: whether it is the best of all scored epochs so far.
    """

    best: bool = False


class Display(Protocol):
    """What a run tells whoever watches."""

    def message(self, text: str) -> None:
        """Show one line. A text that ends in `...` says what starts now; the next call says that it has ended."""

    def started(self, training: Training, name: str) -> None:
        """Training starts."""

    def epoch(self, report: Report) -> None:
        """Show an epoch: an `EpochReport` of one run, or the mean of several runs that are trained at once."""

    def stage(self, stage: Stage | None) -> None:
        """Show what the run does from now on beside training; None: it trains again."""

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        """Show a sample grid."""

    def ended(self) -> None:
        """Training has ended; scores and models may follow."""


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
    """The display of one run of several that are trained at once, whose epochs are shown as their mean.

    It passes messages and stages on, and grids where `grids` says so.
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
def staged(display: Display, stage: Stage) -> Iterator[None]:
    """Show that the run is in this stage while the block lasts."""
    display.stage(stage)
    try:
        yield
    finally:
        display.stage(None)


@contextmanager
def show_training(display: Display, training: Training, name: str) -> Iterator[None]:
    """Show that a training is running while the block lasts."""
    display.started(training, name)
    try:
        yield
    finally:
        display.ended()
