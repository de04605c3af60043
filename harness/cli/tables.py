"""Tables and lines of text that fit the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

import click
from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.console import readable

_COLOURS = {"passed": "green", "FINISHED": "green", "failed": "red", "FAILED": "red", "skipped": "yellow"}
_GAP = 2  # characters between two columns
_EDGES = 2  # characters to the left and right of a table
_NARROWEST = 12  # characters of a column that is folded, where its text is longer
_MOST_TABLES = 3  # in place of one
_UNBROKEN = "\N{NO-BREAK SPACE}"
_ASCII_HEAD = Box(str(SIMPLE_HEAD).translate(str.maketrans("─╶╴", "---")), ascii=True)
_PASTED = {
    "compare",
    "continue",
    "grid",
    "load",
    "look",
    "sample",
    "serve",
    "train it",
    "wider",
}  # labels of rows with a command or a path to copy


def console() -> Console:
    """Standard output as rich sees it."""
    return Console(file=sys.stdout)


def width() -> int | None:
    """How many characters a line may have: those of the terminal, or COLUMNS. None for a file or a pipe: no limit."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, folds: int | None = None) -> None:
    """Print a table. Columns that do not fit into the line follow below, in a table of their own.

    The first column tells the rows apart: it stands in every table, and is the last that is folded. Where that would
    make many tables, each row becomes a paragraph.
    folds: the column with long text, which is folded rather than moved where it is too long for any line.
    """
    screen = console()
    cells = [[readable(cell, screen.encoding) for cell in row] for row in (header, *rows)]
    widths = _widths(cells)
    blocks = _blocks(widths, width(), folds)
    if len(blocks) > _MOST_TABLES:
        for row in cells[1:]:
            _print_paragraph(cells[0], row, folds)
        return
    for block in blocks:
        table = Table(
            box=SIMPLE_HEAD if screen.encoding.startswith("utf") else _ASCII_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        for column, room in block.items():
            table.add_column(cells[0][column], width=room, no_wrap=room >= widths[column], overflow="fold")
        for row in cells[1:]:
            table.add_row(*(Text(row[column], style=_COLOURS.get(row[column], "")) for column in block))
        screen.width = sum(block.values()) + _GAP * (len(block) - 1) + _EDGES
        screen.print(table)


def _print_paragraph(header: Sequence[str], row: Sequence[str], folds: int | None) -> None:
    """The first cell, and below it the others with their titles."""
    click.echo(row[0])
    pairs = [
        f"{title} {cell}" if column == folds else f"{title} {cell}".replace(" ", _UNBROKEN)
        for column, (title, cell) in enumerate(zip(header[1:], row[1:], strict=True), 1)
        if cell
    ]
    click.echo(wrapped("  ".join(pairs), indent=2, start="  ").replace(_UNBROKEN, " "))


def table_count(header: Sequence[str], rows: Iterable[Sequence[str]], *, folds: int | None = None) -> int:
    """In how many tables `print_table` shows this one."""
    return len(_blocks(_widths([header, *rows]), width(), folds))


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(cell_len(row[column]) for row in cells) for column in range(len(cells[0]))]


def _blocks(widths: Sequence[int], room: int | None, folds: int | None) -> list[dict[int, int]]:
    """The columns of each table, with the width of each."""
    first, *others = widths
    if room is None or not others or sum(widths) + _GAP * len(others) + _EDGES <= room:
        return [dict(enumerate(widths))]
    room -= _EDGES
    needed = max(min(wide, _NARROWEST) if column == folds else wide for column, wide in enumerate(others, 1))
    first = min(first, max(room - _GAP - needed, min(_NARROWEST, room // 2)))
    blocks: list[dict[int, int]] = []
    left = 0
    for column, wide in enumerate(others, 1):
        if wide + _GAP > left:
            blocks.append({0: first})
            left = room - first
        blocks[-1][column] = min(wide, max(left - _GAP, 1))
        left -= blocks[-1][column] + _GAP
    return blocks


def print_row(label: str, text: str) -> None:
    """Print one of the rows below a result: wrapped at words, unless somebody is going to copy it."""
    start = f"  {label:9}"
    click.echo(start + text if label in _PASTED else wrapped(text, indent=len(start), start=start))


def wrapped(text: str, *, indent: int = 0, start: str = "") -> str:
    """`start` and `text`, with line breaks at words where the line is too long; `start` is `indent` characters wide."""
    room = width()
    if room is None or indent + len(text) <= room:
        return start + text
    lines = textwrap.wrap(text, max(room - indent, _NARROWEST), break_long_words=False, break_on_hyphens=False)
    return start + f"\n{' ' * indent}".join(lines)
