"""`compare`: runs side by side, in the terminal, as one picture, as one page to be mailed."""

from harness.results.compare.curves import curves_of
from harness.results.compare.report import write as write_report
from harness.results.compare.sample_grids import SampleGrid, load_sample_grids, sheet
from harness.results.compare.selection import Comparison, Row, compare
from harness.results.compare.table import as_cells, as_json, footer

__all__ = [
    "Comparison",
    "Row",
    "SampleGrid",
    "as_cells",
    "as_json",
    "compare",
    "curves_of",
    "footer",
    "load_sample_grids",
    "sheet",
    "write_report",
]
