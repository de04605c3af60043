"""Comparing runs: `harness.compare`. The command `harness compare` calls the same functions below it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import html
from harness.api.arguments import store_at
from harness.api.runs import Run
from harness.api.session import session
from harness.api.studies import Study
from harness.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from harness.media.pictures import Picture
    from harness.results import compare as comparing
    from harness.tracking import Store


class Comparison:
    """Runs side by side, the best first; in Jupyter it renders as a table above their sample grids.

    notices: what is to be known about comparing these. score: the metric that all are sorted by; None where they share
    none. params: dotted paths of those that differ.
    """

    def __init__(self, store: Store, found: comparing.Comparison) -> None:
        self.store, self._found = store, found
        self.notices, self.score, self.params = list(found.notices), found.score, list(found.params)

    def __len__(self) -> int:
        return len(self._found.rows)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(row.name for row in self._found.rows)}; by {self.score})"

    @property
    def runs(self) -> list[Run]:
        return [Run(self.store, row.run.info.run_id) for row in self._found.rows]

    def table(self) -> pd.DataFrame:
        """A row a run, by name: id, status, score with its spread, seconds, and the params that differ."""
        import pandas as pd

        rows = [
            {
                "name": row.name,
                "run_id": row.run.info.run_id,
                "status": row.status,
                "score": row.score(self._found.score_of(row)),
                "spread": row.spread(self._found.score_of(row)),
                "seconds": row.seconds,
                **{path: row.run.data.params.get(path) for path in self.params},
            }
            for row in self._found.rows
        ]
        return pd.DataFrame(rows).set_index("name")

    def picture(self, *, epoch: int | None = None) -> Image:
        """The sample grids side by side, after that epoch, or the newest that all have."""
        from PIL import Image

        return Image.fromarray(self._sheet(epoch))

    def save(self, path: str | Path) -> Path:
        """Write FILE.html, one page with table, grids and curves that opens offline, or FILE.png, the grids.

        Raises HarnessError for another suffix, or where the file cannot be written. Returns the path.
        """
        from harness.media import pictures
        from harness.results import compare as comparing

        path = Path(path)
        if path.suffix not in {".html", ".png"}:
            raise HarnessError(f"{path}: the name must end in .html (a page) or .png (the grids)")
        if path.suffix == ".png":
            with pictures.writing(path, "path"):
                pictures.save_png(path, self._sheet(None))
            return path
        tiles, more = comparing.load_sample_grids(self.store, self._found)
        curves, missing = comparing.curves_of(self.store, self._found)
        notices = [*self.notices, *more, *missing]
        comparing.write_report(
            path, self.store, self._found, tiles, curves, notices=notices, command="harness.compare(...)"
        )
        return path

    def _sheet(self, epoch: int | None) -> Picture:
        from harness.results import compare as comparing

        tiles, _ = comparing.load_sample_grids(self.store, self._found, step=epoch)
        return comparing.sheet(tiles)

    def _repr_html_(self) -> str:
        from harness.results import compare as comparing

        header, *rows = comparing.as_cells(self._found, self.params)
        said = "".join(f"<p>{html.text(line)}</p>" for line in (*self.notices, comparing.footer(self._found)))
        return f"<div>{html.table(header, rows)}{said}{html.picture(self._sheet(None), 'sample grids')}</div>"


def compare(
    runs: Iterable[Run | Study | str] = (),
    *,
    study: str | None = None,
    experiment: str | None = None,
    best: int | None = None,
    tracking_uri: str | None = None,
) -> Comparison:
    """Put runs side by side, the best first: scores with their spread, and the params that differ.

    runs: runs, studies (each stands for its best trial), or ids and names as `load_run` takes them.
    study: all trials of that study. experiment: all runs of that experiment. best: of all these, the so many best.
    Scores are those that all have: of the test split, else of the validation split, else the best while training.
    Raises HarnessError for fewer than two runs, and for runs of different stores.
    """
    if isinstance(runs, str | Run | Study):
        runs = [runs]
    given = list(runs)
    with session():
        from harness.results import compare as comparing

        stores = {each.store.uri: each.store for each in given if not isinstance(each, str)}
        if len(stores) > 1:
            raise HarnessError(
                f"the runs are in {len(stores)} stores ({', '.join(s.shown_uri for s in stores.values())}); "
                "expected one: compare runs of the same store"
            )
        store = next(iter(stores.values()), None) or store_at(tracking_uri)
        texts = [each if isinstance(each, str) else _id_of(each) for each in given]
        found = comparing.compare(store, texts, study=study, experiment=experiment, best=best)
        return Comparison(store, found)


def _id_of(given: Run | Study) -> str:
    return given.run.id if isinstance(given, Study) else given.id
