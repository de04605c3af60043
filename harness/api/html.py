"""HTML elements that render results in Jupyter."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.media.pictures import Picture


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table. Cells are text, and are escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def name_value_table(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and values without a header. Empty values are left out."""
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows if value)
    return f"<table><tbody>{lines}</tbody></table>"


def picture(picture: Picture, title: str) -> str:
    """Return a picture as an element that contains its data."""
    from harness.media.pictures import data_uri

    return f'<img alt="{escape(title)}" src="{data_uri(picture)}">'


def text(plain: str) -> str:
    """Return plain text as HTML."""
    return escape(plain)
