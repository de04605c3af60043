"""What a person sees while a run trains: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.status import Status
from rich.text import Text

from harness import console as streams
from harness.api.remaining import Remaining
from harness.formatting import brief_number, duration, value_texts
from harness.media import pictures

if TYPE_CHECKING:
    from harness.gan import Report, Training
    from harness.runs.session import Stage
    from harness.tuning.progress import StudyProgress, TrialSummary

_STAGES: Mapping[str, str] = {"exporting": "saving models", "final scoring": "scoring"}  # others are shown as they are
_SHORTEST_BAR = 10  # characters
_NARROW = 60  # columns of a terminal in which the bar gives way to the text
_TRIAL = re.compile(r".*-(\d+)( and \d+ more, together)?")  # the name of the run of a trial


class _Screen:
    """Lines of text and, in a terminal, a live line or a spinner below them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: _LiveLine | None = None
        self._spinner: Status | None = None
        self._on_terminal = console.file.isatty()

    def line(self, text: str, style: str | None = None) -> None:
        self._check_terminal()
        self._stop_spinner()
        # A line with a command in it is to be copied whole.
        wraps = self.console.is_terminal and "`" not in text
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=not wraps)
        self.console.file.flush()

    def message(self, text: str) -> None:
        """Show a line. In a terminal, work that begins (`...`) has a spinner until the next line is shown."""
        self._check_terminal()
        if not (text.endswith("...") and self.console.is_terminal and self._live is None):
            self.line(text, style="dim")
        elif self._spinner is None:
            dots = self.console.encoding.startswith("utf")
            self._spinner = Status(Text(text, style="dim"), console=self.console, spinner="dots" if dots else "line")
            self._spinner.start()
        else:
            self._spinner.update(Text(text, style="dim"))

    def start_live(self, line: Callable[[], _Line], total: int, completed: int) -> None:
        """Show `line` in a terminal until stop_live. It is called whenever it is drawn."""
        self._stop_spinner()
        if self.console.is_terminal:
            self._live = _LiveLine(line, self.console, total, completed)
            self._live.start()

    def stop_live(self) -> None:
        self._stop_spinner()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self) -> None:
        """Leave the terminal as it was: no live line, no spinner."""
        self.stop_live()

    def is_live(self) -> bool:
        self._check_terminal()
        return self._live is not None

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _check_terminal(self) -> None:
        """When the terminal has disappeared, continue with plain lines: they go to a log."""
        moving = self._live is not None or self._spinner is not None
        if moving and self._on_terminal and not self.console.file.isatty():
            self.console.quiet = True  # no control codes into the log
            self.stop_live()
            self.console = Console(file=self.console.file, force_terminal=False)


class Terminal(_Screen):
    """The display of `harness run`: epoch, losses, the score that ranks, images a second, time left.

    In a terminal, an epoch that was scored also has a line of its own.
    preview: draw the sample grid in the terminal whenever there is a new one.
    """

    def __init__(self, console: Console, *, preview: bool = False) -> None:
        super().__init__(console)
        self.preview = preview
        self._training: Training | None = None
        self._report: Report | None = None
        self._scored: Report | None = None
        self._stage: Stage | None = None
        self._remaining = Remaining()
        self._over = False

    def started(self, training: Training, name: str) -> None:
        experiment = training.experiment
        self._training, self._stage, self._over = training, None, False
        self._report = self._scored = None
        self._remaining.start(training)
        self.line(
            f"training {name}: {len(training.images):,} images of {experiment.data.name}, "
            f"{experiment.train.epochs - training.epoch} epochs of {training.steps_per_epoch} steps, "
            f"{experiment.train.device} {experiment.train.precision}",
            style="dim",
        )
        self.start_live(self._live_line, experiment.train.epochs * training.steps_per_epoch, training.steps)

    def epoch(self, report: Report) -> None:
        self._report = report
        self._remaining.epoch(report)
        training = self._training
        if training is None:
            return
        score = _score(training, report)
        if score:
            self._scored = report
        if self.is_live() and not score:
            return
        parts = [f"epoch {report.epoch}/{training.experiment.train.epochs}", f"loss {_losses(report)}", score]
        left = "" if self.is_live() else self._left()
        self.line("  ".join(part for part in (*parts, _speed(report), left) if part))

    def stage(self, stage: Stage | None) -> None:
        self._stage = stage
        self._remaining.stage(stage)

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        if not self.preview:
            return
        live = self.is_live()
        size = self.console.size
        lines = size.height - 4 if self.console.is_terminal else None  # its title, the live line, and the prompt
        picture, columns = fitting(picture, size.width, lines)
        blocks = streams.readable(pictures.HALF_BLOCK, self.console.encoding) == pictures.HALF_BLOCK
        sheet = pictures.terminal(picture, columns, ascii_only=not blocks)
        if live:
            self.console.print(f"samples after epoch {epoch}", Text.from_ansi(sheet), sep="\n")  # above the bar
        else:
            self.console.file.write(f"samples after epoch {epoch}\n{sheet}\n")
            self.console.file.flush()

    def ended(self) -> None:
        self._over = True
        self.stop_live()

    def _left(self) -> str:
        return _time_left(self._remaining.seconds_left())

    def _live_line(self) -> _Line:
        training, report = self._training, self._report
        assert training is not None
        epochs = training.experiment.train.epochs
        doing = training.epoch if self._stage else training.epoch + 1
        parts = [Part(f"epoch {min(max(1, doing), epochs)}/{epochs}")]
        if report is not None:
            losses = _losses(report)
            parts.append(Part(f"loss {losses}", 3, short=losses))
            if self._scored is not None:
                of = "" if self._scored.epoch == report.epoch else f" (epoch {self._scored.epoch})"
                parts.append(Part(f"{_score(training, self._scored)}{of}", 1))
        if self._stage is not None:
            parts.append(Part(_doing(self._stage), 2))
        elif report is not None:
            parts.append(Part(_speed(report), 5))
        if not self._over and (left := self._left()):
            parts.append(Part(left, 2))
        return _Line(training.steps, parts, "  ", bar=24)


class StudyTerminal(_Screen):
    """The display of `harness tune`: a line for every trial that has ended; below them, in a terminal, three more:
    how far the study is, the trial that is being trained, and the best values.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._training: Training | None = None
        self._name = ""
        self._report: Report | None = None
        self._stage: Stage | None = None
        self._remaining = Remaining()
        self._standing: StudyProgress | None = None
        self._began, self._first = time.monotonic(), 0
        self._over = False

    def message(self, text: str) -> None:
        if not text.startswith("scoring epoch"):  # a line a trial is enough
            super().message(text)

    def started(self, training: Training, name: str) -> None:
        self._stop_spinner()
        found = _TRIAL.fullmatch(name)
        self._name = f"trial {found[1]}{found[2] or ''}" if found else name
        self._training, self._report, self._stage = training, None, None
        self._remaining.start(training)

    def epoch(self, report: Report) -> None:
        self._report = report
        self._remaining.epoch(report)

    def stage(self, stage: Stage | None) -> None:
        self._stage = stage
        self._remaining.stage(stage)

    def grid(self, picture: pictures.Picture, epoch: int) -> None: ...

    def ended(self) -> None:
        self._training = None

    def trial(self, summary: TrialSummary, progress: StudyProgress) -> None:
        words = [f"trial {summary.number:<3}", f"{summary.state:8}"]
        if summary.score is not None:
            words.append(f"{progress.metric} {summary.score:.4f}{' when pruned' if summary.on_the_way else ''}")
        words += [*value_texts(summary.values), duration(summary.seconds)]
        if progress.best is not None and progress.best.number == summary.number:
            words.append("best so far")
        if summary.remark:
            words.append(summary.remark[:120])
        width = self.console.width if self.console.is_terminal else None
        style = {"failed": "red", "pruned": "dim"}.get(summary.state)
        for line in fold(words, "  ", width, indent=11):
            self.line(line, style=style)
        if not self.is_live():
            self.line(" · ".join(part.text for part in self._summary(progress, best=True)))

    def study_progress(self, progress: StudyProgress) -> None:
        if self._standing is None:
            self._standing, self._over = progress, False
            self._began, self._first = time.monotonic(), progress.ended
            self.start_live(self._live_line, progress.total, progress.ended)
        self._standing = progress

    def close(self) -> None:
        self._over = True
        super().close()

    def _live_line(self) -> _Line:
        progress = self._standing
        assert progress is not None
        below = [self._running(progress)]
        if progress.best is not None and progress.best.score is not None:
            best = f"best {progress.metric} {progress.best.score:.4f} (trial {progress.best.number})"
            below.append([best, *value_texts(progress.best.values)])
        parts = [Part("trials"), *self._summary(progress)]
        return _Line(progress.ended, parts, " · ", bar=20, below=[each for each in below if each])

    def _running(self, progress: StudyProgress) -> list[str]:
        """What is being trained: its epoch, its last score, how fast."""
        training, report = self._training, self._report
        if training is None:
            return [
                f"trial {one.number} epoch {min(one.epoch + 1, one.epochs)}/{one.epochs}"
                + ("" if one.score is None else f" {progress.metric} {one.score:.4f}")
                for one in progress.working
            ]
        epochs = training.experiment.train.epochs
        doing = training.epoch if self._stage else training.epoch + 1
        said = [f"{self._name}  epoch {min(max(1, doing), epochs)}/{epochs}"]
        if report is not None and (score := _score(training, report, best=False)):
            said.append(score)
        if self._stage is not None:
            said.append(_doing(self._stage))
        elif report is not None:
            said.append(_speed(report))
        return said

    def _summary(self, progress: StudyProgress, *, best: bool = False) -> list[Part]:
        """Trials that have ended, are running, were pruned, have failed; with the best so far; time left."""
        running = max(progress.running, int(self._training is not None))
        parts = [Part(f"{progress.ended}/{progress.total} ended")]
        if running:
            parts.append(Part(f"{running} running", 4))
        parts.append(Part(f"{progress.pruned} pruned", 5))
        if progress.failed:
            parts.append(Part(f"{progress.failed} failed", 2))
        if best and progress.best is not None and progress.best.score is not None:
            parts.append(Part(f"best {progress.metric} {progress.best.score:.4f} (trial {progress.best.number})", 1))
        if not self._over and (left := _time_left(self._seconds_left(progress))):
            parts.append(Part(left, 3))
        return parts

    def _seconds_left(self, progress: StudyProgress) -> float | None:
        """Of the study: what is left of the trials that are being trained, and the others at the pace so far."""
        done, left = progress.ended - self._first, progress.total - progress.ended
        if left <= 0:
            return None
        elapsed = time.monotonic() - self._began
        current = None if self._training is None else self._remaining.seconds_left()
        if self._training is not None and current is not None:
            members = max(1, min(progress.running, left))
            each = (self._remaining.elapsed() + current) / members
            if done:
                each = (elapsed - self._remaining.elapsed()) / done
            return current + each * (left - members)
        parts = sum(one.epoch / one.epochs for one in progress.working)
        if self._training is not None or not done + parts:
            return None
        return elapsed / (done + parts) * max(0.0, left - parts)


def fold(pieces: Sequence[str], separator: str, width: int | None, *, indent: int = 2) -> list[str]:
    """The pieces as lines of at most `width` characters, broken between pieces alone. None: one line.

    Lines after the first begin with `indent` spaces. A piece that is wider than a line is cut.
    """
    lines: list[str] = []
    for piece in pieces:
        whole = f"{lines[-1]}{separator}{piece}" if lines else piece
        if not lines or (width is not None and len(whole) > width):
            whole = " " * indent * bool(lines) + piece
            lines.append("")
        lines[-1] = whole if width is None else whole[:width]
    return lines


def fitting(picture: pictures.Picture, columns: int, lines: int | None) -> tuple[pictures.Picture, int]:
    """The part of a sample grid that fits a terminal, and the columns that it takes there.

    Ten digits stand in each row. The grid is as wide as the terminal, at most one column a pixel, and loses whole rows
    at its end where it is too high. lines: None for no limit.
    """
    height, width = picture.shape[:2]
    columns = min(columns, width)
    if lines is None:
        return picture, columns
    cell = (width - 2) // 10
    most = int(2 * max(1, lines) * width / columns)  # pixels of the picture; a line has two
    rows = max(1, min((height - 2) // cell, (most - 2) // cell))
    return picture[: rows * cell + 2], columns


@dataclass(frozen=True)
class Part:
    """A part of a live line. rank: where not all fit, parts of the highest rank are left out first. short: shorter."""

    text: str
    rank: int = 0
    short: str | None = None


@dataclass(frozen=True)
class _Line:
    """A live line. completed: of its total. bar: characters of the bar, where there is room for them.

    below: lines below it, each in pieces that are not broken.
    """

    completed: float
    parts: Sequence[Part]
    separator: str
    bar: int
    below: Sequence[Sequence[str]] = ()


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
        self._bar = BarColumn()
        self._texts = (
            TextColumn("{task.fields[before]}", markup=False),
            TextColumn("{task.fields[after]}", markup=False),
        )
        super().__init__(*self._texts, console=console, refresh_per_second=4, speed_estimate_period=300)
        self.add_task("", total=total, completed=completed, before="", after="")

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.task_ids:
            width = self.console.width - 1
            line = self._line()
            separator = streams.readable(line.separator, self.console.encoding)
            reserved = _SHORTEST_BAR + 2 if self.console.width >= _NARROW else 0
            before, *after = fit(line.parts, separator, width - reserved)
            room = min(line.bar, width - len(separator.join([before, *after])) - 2)
            self._bar.bar_width = room
            self.columns = (self._texts[0], *([self._bar] if room >= 6 else []), self._texts[1])
            self.update(self.task_ids[0], completed=line.completed, before=before, after=separator.join(after))
        yield from super().get_renderables()
        if self.task_ids:
            for pieces in line.below:
                text = "\n".join(fold(pieces, "  ", width))
                yield Text(text, no_wrap=True, overflow="ellipsis")


def _losses(report: Report) -> str:
    metrics = report.metrics
    return f"D {brief_number(metrics['loss/discriminator'])} G {brief_number(metrics['loss/generator'])}"


def _speed(report: Report) -> str:
    return f"{report.metrics['speed/images_per_second']:,.0f} images/s"


def _score(training: Training, report: Report, *, best: bool = True) -> str:
    """`KID 0.0123 best`; empty where the epoch was not scored. best: whether to say that it is the best so far."""
    primary = training.experiment.primary
    value = report.metrics.get(f"quality/{primary.key}")
    if value is None:
        return ""
    return f"{primary.label} {primary.score.format(value)}{' best' if best and getattr(report, 'best', False) else ''}"


def _doing(stage: Stage) -> str:
    return _STAGES.get(stage, stage)


def _time_left(seconds: float | None) -> str:
    """`8 s left`; empty where nothing is known, and where less is left than can be told."""
    return "" if seconds is None or seconds < 0.5 else f"{duration(seconds)} left"
