"""Comparing runs: `harness.compare`. The command `harness compare` calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import formatting
from harness.api import html
from harness.api.context import api_context
from harness.api.runs import Run
from harness.api.stores import open_store, storage_to_use
from harness.api.studies import Study
from harness.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from harness.media.pictures import Picture
    from harness.results.compare import Comparison as Rows
    from harness.results.compare import SampleGrid, StudyPart
    from harness.tracking import Store


class Comparison:
    """Runs side by side, the best first. In Jupyter it renders as a table above their sample grids.

    Attributes:
        store: The MLflow store of the runs.
        notices: Limits of the comparison, one line each.
        score: The metric that the runs are sorted by; None if they have none in common.
        params: Dotted paths of the params that differ.
    """

    def __init__(self, store: Store, rows: Rows, study: str | None = None) -> None:
        self.store, self._rows, self._study = store, rows, study
        self.notices, self.score, self.params = list(rows.notices), rows.score, list(rows.params)
        self._grids: dict[int | None, list[SampleGrid]] = {}

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

        return Image.fromarray(self._combined_grids(epoch))

    def save(self, path: str | Path, *, epoch: int | None = None, command: str = "harness.compare(...)") -> Path:
        """Write the comparison to a file. Missing pictures and curves are added to `notices`.

        Args:
            path: FILE.html, one page with table, grids and curves that works offline; or FILE.png, the grids.
            epoch: Epoch of the grids. None: the last one that all runs have.
            command: The command in the last line of the page.

        Returns:
            The path.

        Raises:
            HarnessError: The name has another suffix, the file cannot be written, or no run has a grid of that epoch.
        """
        from harness.media import pictures
        from harness.results.compare import load_curves, write_report

        path = Path(path)
        if path.suffix not in {".html", ".png"}:
            raise HarnessError(f"{path}: the name must end in .html (a page) or .png (the grids)")
        if path.suffix == ".png":
            with pictures.report_write_errors(path, "path"):
                pictures.save_png(path, self._combined_grids(epoch))
            return path
        grids = self._load_grids(epoch)
        curves, notices = load_curves(self.store, self._rows)
        self._add_notices(notices)
        study = None if self._study is None else self._study_part(self._study)
        write_report(path, self.store, self._rows, grids, curves, notices=self.notices, command=command, study=study)
        return path

    def _study_part(self, name: str) -> StudyPart:
        """Return what the page shows of the study; without its figures if its storage is not on this machine."""
        from harness.experiment.tags import Tag, TrialAttribute
        from harness.results.compare import StudyPart
        from harness.tuning.plots import sections
        from harness.tuning.trial_values import baseline_trial

        (run,) = self.store.tagged({Tag.KIND: "study", Tag.STUDY: name})[:1]
        verdict = run.data.tags.get(Tag.VERDICT)
        try:
            stored = run.data.tags.get(Tag.STORAGE, "")
            study = Study(self.store, name, storage=storage_to_use(None) or (stored if "://" in stored else None))
            found = study.optuna
        except HarnessError as error:
            self._add_notices([f"no figures of the study: {error}"])
            return StudyPart(name, verdict, [], None)
        baseline = baseline_trial(found)
        run_id = None if baseline is None else baseline.user_attrs.get(TrialAttribute.RUN_ID)
        figures = list(sections(found, study.metrics, script=False, without=("parallel",)))
        return StudyPart(name, study.verdict or verdict, figures, run_id)

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

    def _combined_grids(self, epoch: int | None) -> Picture:
        from harness.results.compare import combine_grids

        return combine_grids(self._load_grids(epoch))

    def _load_grids(self, epoch: int | None) -> list[SampleGrid]:
        from harness.results.compare import load_sample_grids

        if epoch not in self._grids:
            self._grids[epoch], notices = load_sample_grids(self.store, self._rows, step=epoch)
            self._add_notices(notices)
        return self._grids[epoch]

    def _add_notices(self, notices: Iterable[str]) -> None:
        self.notices += [notice for notice in notices if notice not in self.notices]

    def _repr_html_(self) -> str:
        header, *rows = self.as_cells()
        picture = html.picture(self._combined_grids(None), "sample grids")
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

    Examples:
        >>> harness.compare(["first", "second"]).save("report.html")
    """
    inputs = [runs] if isinstance(runs, str | Run | Study) else list(runs)
    with api_context():
        from harness.results.compare import compare as compare_runs

        stores = {each.store.uri: each.store for each in inputs if not isinstance(each, str)}
        if len(stores) > 1:
            raise HarnessError(
                f"the runs are in {len(stores)} stores ({', '.join(s.redacted_uri for s in stores.values())}); "
                "expected one: compare runs of the same store"
            )
        store = next(iter(stores.values()), None) or open_store(tracking_uri)
        names = [each if isinstance(each, str) else _run_id(each) for each in inputs]
        rows = compare_runs(store, names, study=study, experiment=experiment, best=best)
        return Comparison(store, rows, study if not names and experiment is None else None)


def _run_id(source: Run | Study) -> str:
    return source.run.id if isinstance(source, Study) else source.id
