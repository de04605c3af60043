"""The result of `harness.Study.confirm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api import html
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.tuning.confirm import Confirmed


class NothingToConfirmError(HarnessError):
    """The baseline values are the best of a study: there is nothing to compare them with."""


class Confirmation:
    """The comparison of the best values of a study with the baseline. In Jupyter it renders as a table.

    Attributes:
        gain: How much better the best values are, on average; positive is better. NaN if the confirmation was stopped.
        interval: The 95 % confidence interval of the gain (Welch 1947).
        verdict: The same in words.
        scores: The score of each seed on the test split, under `baseline` and `best`.
        stopped: What stopped it before all seeds were trained: SIGINT, SIGTERM or max-time; else None.
    """

    def __init__(self, confirmed: Confirmed) -> None:
        self.gain, self.interval, self.verdict = confirmed.gain, confirmed.interval, confirmed.verdict
        self.scores = {name: list(values) for name, values in confirmed.scores.items()}
        self.stopped = confirmed.stopped
        self._cells = confirmed.as_cells()

    def __repr__(self) -> str:
        return f"Confirmation({self.verdict!r})"

    def as_cells(self) -> list[list[str]]:
        """Return the rows of a table; the first one is its header."""
        return [list(row) for row in self._cells]

    def _repr_html_(self) -> str:
        header, *rows = self._cells
        return f"<div>{html.table(header, rows)}<p>{html.text(self.verdict)}</p></div>"
