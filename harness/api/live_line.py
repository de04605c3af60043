"""The live line of a terminal, and the lines of text above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.status import Status
from rich.text import Text

from harness import console as streams

_SHORTEST_BAR = 10  # characters
_NARROW = 60  # columns; in a narrower terminal, text has priority over the bar


class Screen:
    """Lines of text and, in a terminal, a live line or a spinner below them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: _LiveLine | None = None
        self._spinner: Status | None = None
        self._on_terminal = console.file.isatty()

    def line(self, text: str, style: str | None = None) -> None:
        """Show a line that stays."""
        self._check_terminal()
        self._stop_spinner()
        # A line that contains a command is not wrapped, so that it can be copied.
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

    def start_live(self, line: Callable[[], Line], total: int, completed: int) -> None:
        """Show `line` in a terminal until stop_live. It is called at every refresh."""
        self._stop_spinner()
        if self.console.is_terminal:
            self._live = _LiveLine(line, self.console, total, completed)
            self._live.start()

    def stop_live(self) -> None:
        """Remove the live line and the spinner."""
        self._stop_spinner()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self) -> None:
        """Restore the terminal: no live line, no spinner."""
        self.stop_live()

    def is_live(self) -> bool:
        """Return whether a live line is shown."""
        self._check_terminal()
        return self._live is not None

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _check_terminal(self) -> None:
        """If the terminal was closed, continue with plain lines, which go to a log."""
        is_active = self._live is not None or self._spinner is not None
        if is_active and self._on_terminal and not self.console.file.isatty():
            self.console.quiet = True  # no control codes into the log
            self.stop_live()
            self.console = Console(file=self.console.file, force_terminal=False)


def fold(pieces: Sequence[str], separator: str, width: int | None, *, indent: int = 2) -> list[str]:
    """Join pieces to lines of at most `width` characters. Lines are broken between pieces only.

    Args:
        pieces: Texts.
        separator: The text between two pieces of a line.
        width: Characters of a line. None: everything in one line. A piece that is longer is cut.
        indent: Spaces at the start of each line after the first.
    """
    lines: list[str] = []
    for piece in pieces:
        line = f"{lines[-1]}{separator}{piece}" if lines else piece
        if not lines or (width is not None and len(line) > width):
            line = " " * indent * bool(lines) + piece
            lines.append("")
        lines[-1] = line if width is None else line[:width]
    return lines


@dataclass(frozen=True)
class Part:
    """A part of a live line.

    Attributes:
        text: The text.
        rank: If not all parts fit, those with the highest rank are left out first.
        short: A shorter text, if there is one.
    """

    text: str
    rank: int = 0
    short: str | None = None


@dataclass(frozen=True)
class Line:
    """A live line.

    Attributes:
        completed: How much of the total is done.
        parts: The texts around the bar; the first one is before it.
        separator: The text between two parts.
        bar: Characters of the bar, if there is room for them.
        below: Lines below, each in pieces that are not broken.
    """

    completed: float
    parts: Sequence[Part]
    separator: str
    bar: int
    below: Sequence[Sequence[str]] = ()


def fit(parts: Sequence[Part], separator: str, width: int) -> list[str]:
    """Return the texts of the parts that fit into a line. The first part is always among them."""
    for fitting in ([*parts], [replace(part, text=part.short or part.text) for part in parts]):
        if len(separator.join(part.text for part in fitting)) <= width:
            return [part.text for part in fitting]
    while len(fitting) > 1 and len(separator.join(part.text for part in fitting)) > width:
        fitting.remove(max(fitting, key=lambda part: part.rank))
    return [part.text for part in fitting]


class _LiveLine(Progress):
    """A bar with text around it. Every refresh updates the text and fits it to the terminal."""

    def __init__(self, line: Callable[[], Line], console: Console, total: int, completed: int) -> None:
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
