"""`compare`: runs side by side, in the terminal, as one picture, as one page to be mailed."""

from harness.results.compare.curves import curves_of
from harness.results.compare.report import write as write_report
from harness.results.compare.selection import Comparison, Row, compare
from harness.results.compare.table import as_cells, as_json, footer
from harness.results.compare.tiles import Tile, sheet, tiles_of

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
