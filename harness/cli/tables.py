"""Print tables and lines of text that fit the terminal."""

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
_MIN_WIDTH = 12  # characters of a column that is folded
_MAX_TABLES = 3  # tables that one table is split into; with more, rows are printed as paragraphs
_UNBROKEN = "\N{NO-BREAK SPACE}"
_ASCII_HEAD = Box(str(SIMPLE_HEAD).translate(str.maketrans("─╶╴", "---")), ascii=True)
_COPYABLE = {
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
    """Return standard output as a rich console."""
    return Console(file=sys.stdout)


def width() -> int | None:
    """Return the characters of a line: those of the terminal, or COLUMNS. None for a file or a pipe: no limit."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, folds: int | None = None) -> None:
    """Print a table. Columns that do not fit into the line follow in further tables below.

    The first column identifies the rows: every table begins with it. If there would be many tables, each row is printed
    as a paragraph instead.

    Args:
        header: Titles of the columns.
        rows: Cells of each row.
        folds: The column with long text. Its cells are folded if they do not fit into a line.
    """
    screen = console()
    cells = [[readable(cell, screen.encoding) for cell in row] for row in (header, *rows)]
    widths = _widths(cells)
    blocks = _blocks(widths, width(), folds)
    if len(blocks) > _MAX_TABLES:
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
    """Print the first cell, and the others with their titles below it."""
    click.echo(row[0])
    pairs = [
        f"{title} {cell}" if column == folds else f"{title} {cell}".replace(" ", _UNBROKEN)
        for column, (title, cell) in enumerate(zip(header[1:], row[1:], strict=True), 1)
        if cell
    ]
    click.echo(wrapped("  ".join(pairs), indent=2, start="  ").replace(_UNBROKEN, " "))


def table_count(header: Sequence[str], rows: Iterable[Sequence[str]], *, folds: int | None = None) -> int:
    """Return the number of tables that `print_table` makes of this one."""
    return len(_blocks(_widths([header, *rows]), width(), folds))


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(cell_len(row[column]) for row in cells) for column in range(len(cells[0]))]


def _blocks(widths: Sequence[int], room: int | None, folds: int | None) -> list[dict[int, int]]:
    """Return the columns of each table, with the width of each."""
    first, *others = widths
    if room is None or not others or sum(widths) + _GAP * len(others) + _EDGES <= room:
        return [dict(enumerate(widths))]
    room -= _EDGES
    needed = max(min(wide, _MIN_WIDTH) if column == folds else wide for column, wide in enumerate(others, 1))
    first = min(first, max(room - _GAP - needed, min(_MIN_WIDTH, room // 2)))
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
    """Print one of the rows below a result. It is wrapped at words, unless it holds a command or a path to copy."""
    start = f"  {label:9}"
    click.echo(start + text if label in _COPYABLE else wrapped(text, indent=len(start), start=start))


def wrapped(text: str, *, indent: int = 0, start: str = "") -> str:
    """Return `start` and `text`, wrapped at words. indent: the width of `start`, and of the indent of further lines."""
    room = width()
    if room is None or indent + len(text) <= room:
        return start + text
    lines = textwrap.wrap(text, max(room - indent, _MIN_WIDTH), break_long_words=False, break_on_hyphens=False)
    return start + f"\n{' ' * indent}".join(lines)
