"""What a person sees while a run trains: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from harness import pictures

if TYPE_CHECKING:
    from harness.gan import Report, Training
    from harness.study import Standing, Tried


class Terminal:
    """The display of `harness run`: epoch, both losses, images a second, time left.

    preview: draw the sample grid in the terminal whenever there is a new one.
    """

    def __init__(self, console: Console, *, preview: bool = False) -> None:
        self.console = console
        self.preview = preview
        self._progress: _Live | None = None
        self._training: Training | None = None
        self._began = 0.0
        self._first_epoch = 0

    def notice(self, text: str) -> None:
        self.console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)

    def started(self, training: Training, name: str) -> None:
        experiment = training.experiment
        self._training, self._began, self._first_epoch = training, time.monotonic(), training.epoch
        self.notice(
            f"training {name}: {len(training.images):,} images of {experiment.data.name}, "
            f"{experiment.train.epochs - training.epoch} epochs of {training.steps_per_epoch} steps, "
            f"{experiment.train.device} {experiment.train.precision}"
        )
        if self.console.is_terminal:
            self._progress = _Live(training, self.console)
            self._progress.start()

    def epoch(self, report: Report) -> None:
        line = _numbers(report)
        if self._progress is not None:
            self._progress.numbers = line
            return
        training = self._training
        if training is None:
            return
        epochs = training.experiment.train.epochs
        done = max(1, report.epoch - self._first_epoch)
        left = (time.monotonic() - self._began) / done * (epochs - report.epoch)
        self.console.print(
            f"epoch {report.epoch}/{epochs}  {line}  {duration(left)} left", highlight=False, soft_wrap=True
        )
        self.console.file.flush()

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        if self.preview:
            width = min(shutil.get_terminal_size().columns, picture.shape[1])
            sheet = pictures.terminal(picture, width)
            if self._progress is not None:
                self.console.print(f"samples after epoch {epoch}", Text.from_ansi(sheet), sep="\n")  # above the bar
            else:
                self.console.file.write(f"samples after epoch {epoch}\n{sheet}\n")
                self.console.file.flush()

    def ended(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class StudyTerminal:
    """The display of `harness tune`: a line for every trial that has ended, and below them how far the study is."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._training: Training | None = None
        self._report: Report | None = None
        self._standing: Standing | None = None
        self._began, self._first = time.monotonic(), 0

    def notice(self, text: str) -> None:
        if not text.startswith("scoring epoch"):  # a line a trial is enough
            self.console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)

    def started(self, training: Training, name: str) -> None:
        self._training = training
        self._draw()

    def epoch(self, report: Report) -> None:
        self._report = report
        self._draw()

    def grid(self, picture: pictures.Picture, epoch: int) -> None: ...

    def ended(self) -> None:
        self._training = self._report = None

    def trial(self, tried: Tried, standing: Standing) -> None:
        words = [f"trial {tried.number:<3}", f"{tried.state:8}"]
        if tried.score is not None:
            words.append(f"{standing.metric} {tried.score:.4f}{' when pruned' if tried.on_the_way else ''}")
        words += [shown_values(tried.values), duration(tried.seconds)]
        if standing.best is not None and standing.best.number == tried.number:
            words.append("best so far")
        if tried.remark:
            words.append(tried.remark[:120])
        style = {"failed": "red", "pruned": "dim"}.get(tried.state)
        self.console.print("  ".join(words), style=style, highlight=False, markup=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.print(self._summary(standing), highlight=False, markup=False, soft_wrap=True)
            self.console.file.flush()

    def standing(self, standing: Standing) -> None:
        if self._standing is None:
            self._began, self._first = time.monotonic(), standing.ended
            if self.console.is_terminal:
                self._progress = Progress(
                    TextColumn("trials {task.completed}/{task.total}"),
                    BarColumn(bar_width=20),
                    TextColumn("{task.fields[text]}", markup=False),
                    console=self.console,
                    refresh_per_second=4,
                )
                self._progress.add_task("trials", total=standing.total, completed=standing.ended, text="")
                self._progress.start()
        self._standing = standing
        self._draw()

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _draw(self) -> None:
        if self._progress is not None and self._standing is not None:
            text = self._summary(self._standing)
            if self._training is not None:
                epochs = self._training.experiment.train.epochs
                text += f" · epoch {min(self._training.epoch + 1, epochs)}/{epochs}"
            self._progress.update(self._progress.task_ids[0], completed=self._standing.ended, text=text)

    def _summary(self, standing: Standing) -> str:
        """Trials done, running, pruned, the best so far, time left."""
        counts = f"{standing.ended}/{standing.total} ended · {standing.running} running · {standing.pruned} pruned"
        words = [counts if not standing.failed else f"{counts} · {standing.failed} failed"]
        if standing.best is not None and standing.best.score is not None:
            values = shown_values(standing.best.values)
            words.append(f"best {standing.metric} {standing.best.score:.4f} (trial {standing.best.number}: {values})")
        done, left = standing.ended - self._first, standing.total - standing.ended
        if done and left > 0:
            words.append(f"{duration((time.monotonic() - self._began) / done * left)} left")
        return " · ".join(words)


def shown_values(values: Mapping[str, object]) -> str:
    """`optimizer.lr 0.00123  generator.latent 64`."""
    return "  ".join(
        f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}" for path, value in values.items()
    )


class _Live(Progress):
    """A progress bar that reads the training's own step count whenever it is redrawn."""

    def __init__(self, training: Training, console: Console) -> None:
        self.training = training
        self.numbers = ""
        super().__init__(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            refresh_per_second=4,
            speed_estimate_period=300,
        )
        total = training.experiment.train.epochs * training.steps_per_epoch
        self.add_task("training", total=total, completed=training.steps, epoch="", numbers="")

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.task_ids:
            training = self.training
            epochs = training.experiment.train.epochs
            running = min(training.epoch + 1, epochs)
            self.update(self.task_ids[0], completed=training.steps, epoch=f"{running}/{epochs}", numbers=self.numbers)
        yield from super().get_renderables()


def _numbers(report: Report) -> str:
    metrics = report.metrics
    return (
        f"loss D {brief_number(metrics['loss/discriminator'])} G {brief_number(metrics['loss/generator'])}"
        f"  {metrics['speed/images_per_second']:,.0f} images/s"
    )


def duration(seconds: float) -> str:
    """`3 h 05 min`, `2 min 07 s`, `9 s`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


_COLOURS = {"passed": "green", "FINISHED": "green", "failed": "red", "FAILED": "red", "skipped": "yellow"}


def brief_number(value: float) -> str:
    """Three decimals, or a power of ten where the number is too large for them to matter."""
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.3g}"


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, gives_way: int = 0) -> None:
    """A table whose numbers never wrap: where the terminal is narrow, one column gives way, the first or another."""
    screen = console()
    if not screen.is_terminal:
        screen.width = 200  # in a file or a pipe nothing is cut
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(header):
        wraps = index == gives_way
        table.add_column(title, no_wrap=not wraps, overflow="fold", min_width=12 if wraps else None)
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    screen.print(table)


def console() -> Console:
    """Standard output as rich sees it."""
    return Console(file=sys.stdout)
