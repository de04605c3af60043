"""Comparing runs: `harness.compare`. The command `harness compare` calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import formatting
from harness.api import html
from harness.api.context import api_context
from harness.api.runs import Run
from harness.api.stores import open_store
from harness.api.studies import Study
from harness.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from harness.media.pictures import Picture
    from harness.results.compare import Comparison as Rows
    from harness.results.compare import SampleGrid
    from harness.tracking import Store


class Comparison:
    """Runs side by side, the best first. In Jupyter it renders as a table above their sample grids.

    Attributes:
        store: The MLflow store of the runs.
        notices: What to know about this comparison, in sentences.
        score: The metric that the runs are sorted by; None if they have none in common.
        params: Dotted paths of the params that differ.
    """

    def __init__(self, store: Store, rows: Rows) -> None:
        self.store, self._rows = store, rows
        self.notices, self.score, self.params = list(rows.notices), rows.score, list(rows.params)
        self._tiles: dict[int | None, list[SampleGrid]] = {}

    def __len__(self) -> int:
        return len(self._rows.rows)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(row.name for row in self._rows.rows)}; by {self.score})"

    @property
    def runs(self) -> list[Run]:
        """The runs, the best first."""
        return [Run(self.store, row.run.info.run_id) for row in self._rows.rows]

    @property
    def link(self) -> str:
        """The address of the comparison in MLflow's UI if the store is a server, else the command that shows it."""
        return self.store.comparison_link([row.run for row in self._rows.rows]) or formatting.harness_command(
            "ui", *(row.short_id for row in self._rows.rows), store=self.store.uri
        )

    def table(self) -> pd.DataFrame:
        """Return a table with a row per run: id, status, score with its spread, seconds, and the params that differ."""
        import pandas as pd

        rows = [
            {
                "name": row.name,
                "run_id": row.run.info.run_id,
                "status": row.status,
                "score": row.score(self._rows.score_of(row)),
                "spread": row.spread(self._rows.score_of(row)),
                "seconds": row.seconds,
                **{path: row.run.data.params.get(path) for path in self.params},
            }
            for row in self._rows.rows
        ]
        return pd.DataFrame(rows).set_index("name")

    def picture(self, *, epoch: int | None = None) -> Image:
        """Return the sample grids side by side.

        Args:
            epoch: Epoch of the grids. None: the last one that all runs have.
        """
        from PIL import Image

        return Image.fromarray(self._sheet(epoch))

    def save(self, path: str | Path, *, epoch: int | None = None, command: str = "harness.compare(...)") -> Path:
        """Write the comparison to a file. What the pictures and curves lack is added to `notices`.

        Args:
            path: FILE.html, one page with table, grids and curves that works offline; or FILE.png, the grids.
            epoch: Epoch of the grids. None: the last one that all runs have.
            command: What the last line of the page names as its origin.

        Returns:
            The path.

        Raises:
            HarnessError: The name has another suffix, the file cannot be written, or no run has a grid of that epoch.
        """
        from harness.media import pictures
        from harness.results.compare import curves_of, write_report

        path = Path(path)
        if path.suffix not in {".html", ".png"}:
            raise HarnessError(f"{path}: the name must end in .html (a page) or .png (the grids)")
        if path.suffix == ".png":
            with pictures.report_write_errors(path, "path"):
                pictures.save_png(path, self._sheet(epoch))
            return path
        tiles = self._load_tiles(epoch)
        curves, notices = curves_of(self.store, self._rows)
        self._add_notices(notices)
        write_report(path, self.store, self._rows, tiles, curves, notices=self.notices, command=command)
        return path

    def as_cells(self, params: Sequence[str] | None = None) -> list[list[str]]:
        """Return the rows of a text table; the first one is its header.

        Args:
            params: Params that have a column. None: all that differ.
        """
        from harness.results.compare import as_cells

        return list(as_cells(self._rows, self.params if params is None else list(params)))

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain data: `runs`, the best first, with all metrics and the params that differ."""
        from harness.results.compare import as_json

        return as_json(self.store, self._rows) | {"notices": self.notices, "look": self.link}

    @property
    def footer(self) -> str:
        """The line below a table: which scores it shows."""
        from harness.results.compare import footer

        return footer(self._rows)

    def _sheet(self, epoch: int | None) -> Picture:
        from harness.results.compare import sheet

        return sheet(self._load_tiles(epoch))

    def _load_tiles(self, epoch: int | None) -> list[SampleGrid]:
        from harness.results.compare import load_sample_grids

        if epoch not in self._tiles:
            self._tiles[epoch], notices = load_sample_grids(self.store, self._rows, step=epoch)
            self._add_notices(notices)
        return self._tiles[epoch]

    def _add_notices(self, notices: Iterable[str]) -> None:
        self.notices += [notice for notice in notices if notice not in self.notices]

    def _repr_html_(self) -> str:
        header, *rows = self.as_cells()
        picture = html.picture(self._sheet(None), "sample grids")
        texts = "".join(f"<p>{html.text(line)}</p>" for line in (*self.notices, self.footer))
        return f"<div>{html.table(header, rows)}{texts}{picture}</div>"


def compare(
    runs: Iterable[Run | Study | str] | Run | Study = (),
    *,
    study: str | None = None,
    experiment: str | None = None,
    best: int | None = None,
    tracking_uri: str | None = None,
) -> Comparison:
    """Compare runs, the best first: scores with their spread, and the params that differ.

    The scores are those that all runs have: on the test split, else on the validation split, else the best during
    training.

    Args:
        runs: Runs, studies (each stands for its best trial), or ids and names as `harness.load_run` takes them.
        study: Add all trials of this study.
        experiment: Add all runs of this experiment.
        best: Keep this number of runs, the best ones.
        tracking_uri: See `harness.run`. The store of `Run` and `Study` objects is known.

    Raises:
        HarnessError: There are fewer than two runs, or they are in different stores.

    Example:
        >>> harness.compare(["first", "second"]).save("report.html")
    """
    given = [runs] if isinstance(runs, str | Run | Study) else list(runs)
    with api_context():
        from harness.results.compare import compare as compare_runs

        stores = {each.store.uri: each.store for each in given if not isinstance(each, str)}
        if len(stores) > 1:
            raise HarnessError(
                f"the runs are in {len(stores)} stores ({', '.join(s.redacted_uri for s in stores.values())}); "
                "expected one: compare runs of the same store"
            )
        store = next(iter(stores.values()), None) or open_store(tracking_uri)
        names = [each if isinstance(each, str) else _id(each) for each in given]
        return Comparison(store, compare_runs(store, names, study=study, experiment=experiment, best=best))


def _id(given: Run | Study) -> str:
    return given.run.id if isinstance(given, Study) else given.id
