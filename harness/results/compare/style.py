"""The style of a run's line, the same everywhere on a page: colour and dash. And which axes are logarithmic."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito (2008), "Color Universal Design", without its yellow and black, which vanish on one of the two grounds.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
# A second sign once the colours repeat: Plotly's name of each dash, and the same lengths in pixels for SVG.
DASHES = {"solid": "", "dash": "9 9", "dot": "3 3", "dashdot": "9 3 3 3"}
SPAN = 10  # values that differ by so large a factor are drawn on a logarithmic axis


def colour(index: int) -> str:
    """Return the colour of a row. index: from 0."""
    return PALETTE[index % len(PALETTE)]


def dash(index: int) -> str:
    """Return Plotly's name of the dash of a row: the first six rows have solid lines, the next six another dash."""
    return list(DASHES)[index // len(PALETTE) % len(DASHES)]


def mark(index: int, width: str) -> str:
    """Return a row's line in its colour and dash, as SVG. width: of the SVG, in pixels or per cent."""
    dashes = f' stroke-dasharray="{DASHES[dash(index)]}"' if DASHES[dash(index)] else ""
    line = f'<line x1="0" y1="3" x2="100%" y2="3" stroke="{colour(index)}" stroke-width="4"{dashes}/>'
    return f'<svg class="mark" width="{width}" height="6" aria-hidden="true">{line}</svg>'


def is_wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis shows more of these values: they are positive and span more than a decade."""
    return bool(values) and min(values) > 0 and max(values) > SPAN * min(values)
