"""`compare`: runs side by side, in the terminal, as one picture, as one page to be mailed."""

from harness.comparing.curves import curves_of
from harness.comparing.report import write as write_report
from harness.comparing.selection import Comparison, Row, compare
from harness.comparing.table import as_cells, as_json, footer
from harness.comparing.tiles import Tile, sheet, tiles_of

__all__ = [
    "Comparison",
    "Row",
    "Tile",
    "as_cells",
    "as_json",
    "compare",
    "curves_of",
    "footer",
    "sheet",
    "tiles_of",
    "write_report",
]
