"""What a person sees while a run trains: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from harness import output, pictures

if TYPE_CHECKING:
    from harness.gan import Report, Training
    from harness.study import Standing, Tried


class _Screen:
    """Lines of text and, in a terminal, a live line below them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: _LiveLine | None = None

    def line(self, text: str, style: str | None = None) -> None:
        self._check_terminal()
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
        self.console.file.flush()

    def start_live(self, line: Callable[[], _Line], total: int, completed: int) -> None:
        """Show `line` in a terminal until stop_live. It is called whenever it is drawn."""
        if self.console.is_terminal:
            self._live = _LiveLine(line, self.console, total, completed)
            self._live.start()

    def stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def is_live(self) -> bool:
        self._check_terminal()
        return self._live is not None

    def _check_terminal(self) -> None:
        """When the terminal has disappeared, continue with plain lines: they go to a log."""
        if self._live is not None and self._live.on_terminal and not self.console.file.isatty():
            self.console.quiet = True  # no control codes into the log
            self.stop_live()
            self.console = Console(file=self.console.file, force_terminal=False)


class Terminal(_Screen):
    """The display of `harness run`: epoch, both losses, images a second, time left.

    preview: draw the sample grid in the terminal whenever there is a new one.
    """

    def __init__(self, console: Console, *, preview: bool = False) -> None:
        super().__init__(console)
        self.preview = preview
        self._training: Training | None = None
        self._report: Report | None = None
        self._began = 0.0
        self._first_epoch = 0

    def notice(self, text: str) -> None:
        self.line(text, style="dim")

    def started(self, training: Training, name: str) -> None:
        experiment = training.experiment
        self._training, self._began, self._first_epoch = training, time.monotonic(), training.epoch
        self._report = None
        self.notice(
            f"training {name}: {len(training.images):,} images of {experiment.data.name}, "
            f"{experiment.train.epochs - training.epoch} epochs of {training.steps_per_epoch} steps, "
            f"{experiment.train.device} {experiment.train.precision}"
        )
        self.start_live(self._live_line, experiment.train.epochs * training.steps_per_epoch, training.steps)

    def epoch(self, report: Report) -> None:
        self._report = report
        training = self._training
        if self.is_live() or training is None:
            return
        epochs = training.experiment.train.epochs
        done = max(1, report.epoch - self._first_epoch)
        left = (time.monotonic() - self._began) / done * (epochs - report.epoch)
        self.line(f"epoch {report.epoch}/{epochs}  {_losses(report)}  {_speed(report)}  {duration(left)} left")

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        if self.preview:
            width = min(shutil.get_terminal_size().columns, picture.shape[1])
            blocks = output.readable(pictures.HALF_BLOCK, self.console.encoding) == pictures.HALF_BLOCK
            sheet = pictures.terminal(picture, width, ascii_only=not blocks)
            if self.is_live():
                self.console.print(f"samples after epoch {epoch}", Text.from_ansi(sheet), sep="\n")  # above the bar
            else:
                self.console.file.write(f"samples after epoch {epoch}\n{sheet}\n")
                self.console.file.flush()

    def ended(self) -> None:
        self.stop_live()

    def _live_line(self) -> _Line:
        training, report = self._training, self._report
        assert training is not None
        epochs = training.experiment.train.epochs
        parts = [Part(f"epoch {min(training.epoch + 1, epochs)}/{epochs}")]
        if report is not None:
            parts += [Part(_losses(report), 1), Part(_speed(report), 4)]
        if self._live is not None and (left := self._live.seconds_left()) is not None:
            parts.append(Part(f"{duration(left)} left", 2))
        return _Line(training.steps, parts, "  ", bar=24)


class StudyTerminal(_Screen):
    """The display of `harness tune`: a line for every trial that has ended, and below them how far the study is."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._training: Training | None = None
        self._standing: Standing | None = None
        self._began, self._first = time.monotonic(), 0

    def notice(self, text: str) -> None:
        if not text.startswith("scoring epoch"):  # a line a trial is enough
            self.line(text, style="dim")

    def started(self, training: Training, name: str) -> None:
        self._training = training

    def epoch(self, report: Report) -> None: ...

    def grid(self, picture: pictures.Picture, epoch: int) -> None: ...

    def ended(self) -> None:
        self._training = None

    def trial(self, tried: Tried, standing: Standing) -> None:
        words = [f"trial {tried.number:<3}", f"{tried.state:8}"]
        if tried.score is not None:
            words.append(f"{standing.metric} {tried.score:.4f}{' when pruned' if tried.on_the_way else ''}")
        words += [shown_values(tried.values), duration(tried.seconds)]
        if standing.best is not None and standing.best.number == tried.number:
            words.append("best so far")
        if tried.remark:
            words.append(tried.remark[:120])
        self.line("  ".join(words), style={"failed": "red", "pruned": "dim"}.get(tried.state))
        if not self.is_live():
            self.line(" · ".join(part.text for part in self._summary(standing)))

    def standing(self, standing: Standing) -> None:
        if self._standing is None:
            self._standing = standing
            self._began, self._first = time.monotonic(), standing.ended
            self.start_live(self._live_line, standing.total, standing.ended)
        self._standing = standing

    def close(self) -> None:
        self.stop_live()

    def _live_line(self) -> _Line:
        standing, training = self._standing, self._training
        assert standing is not None
        parts = [Part("trials"), *self._summary(standing)]
        if training is not None:
            epochs = training.experiment.train.epochs
            parts.append(Part(f"epoch {min(training.epoch + 1, epochs)}/{epochs}", 2))
        return _Line(standing.ended, parts, " · ", bar=20)

    def _summary(self, standing: Standing) -> list[Part]:
        """Trials done, running, pruned, failed, the best so far and its values, time left."""
        parts = [
            Part(f"{standing.ended}/{standing.total} ended"),
            Part(f"{standing.running} running", 4),
            Part(f"{standing.pruned} pruned", 4),
        ]
        if standing.failed:
            parts.append(Part(f"{standing.failed} failed", 2))
        if standing.best is not None and standing.best.score is not None:
            best = f"best {standing.metric} {standing.best.score:.4f} (trial {standing.best.number}"
            parts.append(Part(f"{best}: {shown_values(standing.best.values)})", 1, short=f"{best})"))
        done, left = standing.ended - self._first, standing.total - standing.ended
        if done and left > 0:
            parts.append(Part(f"{duration((time.monotonic() - self._began) / done * left)} left", 3))
        return parts


def shown_values(values: Mapping[str, object]) -> str:
    """`optimizer.lr 0.00123  generator.latent 64`."""
    return "  ".join(
        f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}" for path, value in values.items()
    )


@dataclass(frozen=True)
class Part:
    """A part of a live line. rank: where not all fit, parts of the highest rank are left out first. short: shorter."""

    text: str
    rank: int = 0
    short: str | None = None


@dataclass(frozen=True)
class _Line:
    """A live line. completed: of its total. bar: characters of the bar, where there is room for them."""

    completed: float
    parts: Sequence[Part]
    separator: str
    bar: int


def fit(parts: Sequence[Part], separator: str, width: int) -> list[str]:
    """The texts of the parts that fit into a line, the first among them."""
    for kept in ([*parts], [replace(part, text=part.short or part.text) for part in parts]):
        if len(separator.join(part.text for part in kept)) <= width:
            return [part.text for part in kept]
    while len(kept) > 1 and len(separator.join(part.text for part in kept)) > width:
        kept.remove(max(kept, key=lambda part: part.rank))
    return [part.text for part in kept]


class _LiveLine(Progress):
    """A bar with text around it, read anew and fitted to the terminal whenever it is redrawn."""

    def __init__(self, line: Callable[[], _Line], console: Console, total: int, completed: int) -> None:
        self._line = line
        self.on_terminal = console.file.isatty()
        self._bar = BarColumn()
        self._texts = (
            TextColumn("{task.fields[before]}", markup=False),
            TextColumn("{task.fields[after]}", markup=False),
        )
        super().__init__(*self._texts, console=console, refresh_per_second=4, speed_estimate_period=300)
        self.add_task("", total=total, completed=completed, before="", after="")

    def seconds_left(self) -> float | None:
        return self.tasks[0].time_remaining if self.tasks else None

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.task_ids:
            width = self.console.width - 1
            line = self._line()
            separator = output.readable(line.separator, self.console.encoding)
            before, *after = fit(line.parts, separator, width)
            room = min(line.bar, width - len(separator.join([before, *after])) - 2)
            self._bar.bar_width = room
            self.columns = (self._texts[0], *([self._bar] if room >= 6 else []), self._texts[1])
            self.update(self.task_ids[0], completed=line.completed, before=before, after=separator.join(after))
        yield from super().get_renderables()


def _losses(report: Report) -> str:
    metrics = report.metrics
    return f"loss D {brief_number(metrics['loss/discriminator'])} G {brief_number(metrics['loss/generator'])}"


def _speed(report: Report) -> str:
    return f"{report.metrics['speed/images_per_second']:,.0f} images/s"


def duration(seconds: float) -> str:
    """`3 h 05 min`, `2 min 07 s`, `9 s`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def brief_number(value: float) -> str:
    """Three decimals, or a power of ten where the number is too large for them to matter."""
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.3g}"
