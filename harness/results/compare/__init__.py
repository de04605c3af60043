"""Compare runs: a table for the terminal, a picture of the sample grids, a self-contained HTML page."""

from harness.results.compare.curves import load_curves
from harness.results.compare.report import StudyPart
from harness.results.compare.report import write as write_report
from harness.results.compare.sample_grids import SampleGrid, combine_grids, load_sample_grids
from harness.results.compare.selection import Comparison, Row, compare
from harness.results.compare.table import as_cells, as_json, footer

__all__ = [
    "Comparison",
    "Row",
    "SampleGrid",
    "StudyPart",
    "as_cells",
    "as_json",
    "combine_grids",
    "compare",
    "footer",
    "load_curves",
    "load_sample_grids",
    "write_report",
]
