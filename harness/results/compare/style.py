"""The style of the page: the colour and dash of each run's line, and which axes are logarithmic."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito (2008), "Color Universal Design", without yellow and black, which one of the backgrounds would hide.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
# Dashes, for when the colours repeat: Plotly's name of each, and the same lengths in pixels for SVG.
DASHES = {"solid": "", "dash": "9 9", "dot": "3 3", "dashdot": "9 3 3 3"}
LOG_RATIO = 10  # the largest ratio of two values on a linear axis


def colour(index: int) -> str:
    """Return the colour of a row. index: from 0."""
    return PALETTE[index % len(PALETTE)]


def dash(index: int) -> str:
    """Return Plotly's name of the dash of a row: the first six rows have solid lines, the next six another dash."""
    return list(DASHES)[index // len(PALETTE) % len(DASHES)]


def line_svg(index: int, width: str) -> str:
    """Return the line of a row in its colour and dash, as SVG. width: in pixels or per cent."""
    dashes = f' stroke-dasharray="{DASHES[dash(index)]}"' if DASHES[dash(index)] else ""
    line = f'<line x1="0" y1="3" x2="100%" y2="3" stroke="{colour(index)}" stroke-width="4"{dashes}/>'
    return f'<svg class="mark" width="{width}" height="6" aria-hidden="true">{line}</svg>'


def needs_log_axis(values: Sequence[float]) -> bool:
    """Return whether the values are positive and span more than a decade."""
    return bool(values) and min(values) > 0 and max(values) > LOG_RATIO * min(values)
