"""The display of a run: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from harness import console as streams
from harness.api.eta import TimeLeft
from harness.api.live_line import Line, Part, Screen
from harness.formatting import brief_number, duration, format_count
from harness.media import pictures

if TYPE_CHECKING:
    from harness.gan import Report, Training
    from harness.runs.display import Stage

_STAGES: Mapping[str, str] = {"exporting": "saving models", "final scoring": "scoring"}  # other stages: by their names


class Terminal(Screen):
    """The display of `harness run`: epoch, losses, primary score, images per second, time left.

    In a terminal, an epoch that was scored also has a line of its own.

    Attributes:
        preview: Draw each new sample grid in the terminal.
    """

    def __init__(self, console: Console, *, preview: bool = False) -> None:
        super().__init__(console)
        self.preview = preview
        self._training: Training | None = None
        self._report: Report | None = None
        self._scored: Report | None = None
        self._stage: Stage | None = None
        self._timer = TimeLeft()
        self._finished = False

    def started(self, training: Training, name: str) -> None:
        """Show that a run begins to train, or is resumed."""
        experiment = training.experiment
        self._training, self._stage, self._finished = training, None, False
        self._report = self._scored = None
        self._timer.start(training)
        self.line(
            f"training {name}: {format_count(len(training.images), 'image')} of {experiment.data.name}, "
            f"{format_count(experiment.train.epochs - training.epoch, 'epoch')} of "
            f"{format_count(training.steps_per_epoch, 'step')}, "
            f"{experiment.train.device} {experiment.train.precision}",
            style="dim",
        )
        self.start_live(self._live_line, experiment.train.epochs * training.steps_per_epoch, training.steps)

    def epoch(self, report: Report) -> None:
        """Show an epoch that has ended."""
        self._report = report
        self._timer.epoch(report)
        training = self._training
        if training is None:
            return
        score = format_score(training, report)
        if score:
            self._scored = report
        if self.is_live() and not score:
            return
        parts = [f"epoch {report.epoch}/{training.experiment.train.epochs}", f"loss {format_losses(report)}", score]
        left = "" if self.is_live() else self._left()
        self.line("  ".join(part for part in (*parts, format_speed(report), left) if part))

    def stage(self, stage: Stage | None) -> None:
        """Show work other than training. None: training continues."""
        self._stage = stage
        self._timer.stage(stage)

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        """Show a new sample grid."""
        if not self.preview:
            return
        live = self.is_live()
        size = self.console.size
        lines = size.height - 4 if self.console.is_terminal else None  # its title, the live line, and the prompt
        picture, columns = crop_rows(picture, size.width, lines)
        blocks = streams.readable(pictures.HALF_BLOCK, self.console.encoding) == pictures.HALF_BLOCK
        sheet = pictures.render_terminal(picture, columns, ascii_only=not blocks)
        if live:
            self.console.print(f"samples after epoch {epoch}", Text.from_ansi(sheet), sep="\n")  # above the bar
        else:
            self.console.file.write(f"samples after epoch {epoch}\n{sheet}\n")
            self.console.file.flush()

    def ended(self) -> None:
        """Show that the run has ended."""
        self._finished = True
        self.stop_live()

    def _left(self) -> str:
        return format_time_left(self._timer.seconds_left())

    def _live_line(self) -> Line:
        training, report = self._training, self._report
        assert training is not None
        epochs = training.experiment.train.epochs
        current = training.epoch if self._stage else training.epoch + 1
        parts = [Part(f"epoch {min(max(1, current), epochs)}/{epochs}")]
        if report is not None:
            losses = format_losses(report)
            parts.append(Part(f"loss {losses}", 3, short=losses))
            if self._scored is not None:
                epoch = "" if self._scored.epoch == report.epoch else f" (epoch {self._scored.epoch})"
                parts.append(Part(f"{format_score(training, self._scored)}{epoch}", 1))
        if self._stage is not None:
            parts.append(Part(format_stage(self._stage), 2))
        elif report is not None:
            parts.append(Part(format_speed(report), 5))
        if not self._finished and (left := self._left()):
            parts.append(Part(left, 2))
        return Line(training.steps, parts, "  ", bar=24)


def crop_rows(picture: pictures.Picture, columns: int, lines: int | None) -> tuple[pictures.Picture, int]:
    """Return the part of a sample grid that fits into a terminal, and the number of columns that it takes.

    Each row has ten images. The grid is as wide as the terminal, with at most one column per pixel. Rows that do not
    fit are left out.

    Args:
        picture: The grid.
        columns: Columns of the terminal.
        lines: Lines of the terminal. None: no limit.
    """
    height, width = picture.shape[:2]
    columns = min(columns, width)
    if lines is None:
        return picture, columns
    cell = (width - 2) // 10
    max_height = int(2 * max(1, lines) * width / columns)  # pixels of the picture; a line has two
    rows = max(1, min((height - 2) // cell, (max_height - 2) // cell))
    return picture[: rows * cell + 2], columns


def format_losses(report: Report) -> str:
    """Return `D 0.693 G 0.712`."""
    metrics = report.metrics
    return f"D {brief_number(metrics['loss/discriminator'])} G {brief_number(metrics['loss/generator'])}"


def format_speed(report: Report) -> str:
    """Return `12,345 images/s`."""
    return f"{report.metrics['speed/images_per_second']:,.0f} images/s"


def format_score(training: Training, report: Report, *, best: bool = True) -> str:
    """Return `KID 0.0123 best`; empty if the epoch was not scored. best: mark the best score so far."""
    primary = training.experiment.primary
    value = report.metrics.get(f"quality/{primary.key}")
    if value is None:
        return ""
    return f"{primary.label} {primary.score.format(value)}{' best' if best and getattr(report, 'best', False) else ''}"


def format_stage(stage: Stage) -> str:
    """Return a stage in words."""
    return _STAGES.get(stage, stage)


def format_time_left(seconds: float | None) -> str:
    """Return `8 s left`; empty if the time is unknown or less than half a second."""
    return "" if seconds is None or seconds < 0.5 else f"{duration(seconds)} left"
