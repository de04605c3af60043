"""Runs as Python objects: scores, curves, pictures, the generator."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from harness.api import html
from harness.api.arguments import store_at
from harness.api.progress import Progress
from harness.api.samples import Samples
from harness.api.session import session
from harness.console import to_stderr
from harness.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image
    from torch import nn

    from harness.experiment import Experiment
    from harness.runs.seeds import Replicates
    from harness.runs.session import RunResult
    from harness.tracking import Run as MlflowRun
    from harness.tracking import Store

ONCE = ("test/", "validation/")  # logged once, at the end


class Run:
    """A run in an MLflow store. `harness.run` and `harness.load_run` return one; in Jupyter it renders as a summary.

    Of replicates (`seeds=N`), it is their parent: scores are means, and generator and pictures are those of the seed
    that ranks first while training. Of a study, generator and pictures are those of the best trial.

    id: of the run in MLflow. outcome: how training ended, where this process has trained it.
    """

    def __init__(
        self, store: Store, run_id: str, *, outcome: RunResult | Replicates | None = None, trusted: bool = False
    ) -> None:
        self.store, self.id, self.outcome = store, run_id, outcome
        self._trusted = trusted
        self._known: MlflowRun | None = None

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.status}, id {self.id[:8]})"

    @property
    def mlflow_run(self) -> MlflowRun:
        """The run as MLflow's client returns it; asked for again as long as it is RUNNING."""
        if self._known is None or self._known.info.status == "RUNNING":
            self._known = self.store.get_run(self.id)
        if self._known is None:
            raise HarnessError(f"the run {self.id} is not in {self.store.shown_uri} any more")
        return self._known

    @property
    def name(self) -> str:
        return str(self.mlflow_run.info.run_name)

    @property
    def status(self) -> str:
        """MLflow's status: FINISHED, FAILED, KILLED or RUNNING."""
        return str(self.mlflow_run.info.status)

    @property
    def kind(self) -> str:
        """`run`, `replicates`, `study` or `trial`, ...: the tag harness.kind."""
        return str(self.mlflow_run.data.tags.get("harness.kind", "run"))

    @property
    def params(self) -> dict[str, str]:
        """The leaves of the experiment by dotted path, as MLflow keeps them."""
        return dict(self.mlflow_run.data.params)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every metric."""
        return dict(self.mlflow_run.data.metrics)

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.mlflow_run.data.tags)

    @property
    def scores(self) -> dict[str, float]:
        """The scores among the metrics: `test/kid`, taken once from the best epoch; `quality/kid`, the last while
        training; and so on. docs/metrics.md says what each means, and which values are better."""
        from harness.experiment.scores import PLACES

        return {name: value for name, value in self.metrics.items() if name.partition("/")[0] in PLACES}

    @property
    def url(self) -> str | None:
        """The run's page where the store is a server; None for a database (`harness ui` shows it)."""
        return self.store.link(self.mlflow_run)

    @cached_property
    def experiment(self) -> Experiment:
        """The resolved experiment. `harness.run(run.experiment, seed=2)` repeats it under another seed."""
        from harness.results import load as recall

        with session(trusted=self._trusted):
            return recall.experiment(self.store, self._single())

    @cached_property
    def generator(self) -> nn.Module:
        """The generator of the best epoch, on the CPU, in evaluation mode.

        It maps noise [N, latent], with the one-hot class joined to it where the experiment is conditional, to images
        float32 [N, C, H, W] in [-1, 1]. Raises HarnessError where the run has no checkpoint yet.
        """
        from harness.results import load as recall

        with session(trusted=self._trusted):
            return recall.generator(self.store, self._single(), message=to_stderr).generator

    def samples(
        self,
        count: int = 100,
        *,
        seed: int = 0,
        digits: str | int | None = None,
        weights: Literal["best", "last"] = "best",
        raw: bool = False,
    ) -> Samples:
        """Draw images; the same count and seed draw the same images as `harness sample`.

        digits: of a conditional generator, the classes to draw in turn, 7 or "2026"; None for all of them.
        weights: of the best epoch, or of the last. raw: without the average of weights, where the experiment keeps one.
        Raises HarnessError for a count below 1, and for digits that the generator cannot be asked for.
        """
        from harness.results import load as recall

        if count < 1:
            raise HarnessError(f"count is {count}; expected 1 or more")
        with session(trusted=self._trusted):
            images = recall.draw(
                self.store,
                self._single(),
                count=count,
                seed=seed,
                digits=None if digits is None else str(digits),
                weights=weights,
                raw=raw,
                message=to_stderr,
            )
        return Samples(images.squeeze(1).numpy() if images.shape[1] == 1 else images.numpy())

    def history(self) -> pd.DataFrame:
        """The metrics epoch by epoch: a row an epoch, a column a metric, NaN where one was not logged.

        System metrics, and scores that are taken once at the end (see `scores`), are left out.
        """
        import pandas as pd

        names = [name for name in sorted(self.metrics) if not name.startswith(("system/", *ONCE))]
        curves = {name: pd.Series(self.store.history(self.id, name), dtype=float) for name in names}
        return pd.DataFrame(curves, columns=names).sort_index().rename_axis("epoch")

    def grid(self, epoch: int | None = None) -> Image:
        """The sample grid that was logged after that epoch, or the last one.

        Raises HarnessError where there is none, with the epochs that have one.
        """
        from PIL import Image

        from harness.results import summary

        grids = {grid.epoch: grid.picture for grid in summary.grids(self.store, self._single())}
        epoch = max(grids) if epoch is None else epoch
        if epoch not in grids:
            raise HarnessError(f"epoch {epoch} has no sample grid; there are those of {', '.join(map(str, grids))}")
        return Image.fromarray(grids[epoch])

    @property
    def seeds(self) -> list[Run]:
        """The runs of the single seeds, in the order of their start; empty for a plain run."""
        if self.kind != "replicates":
            return []
        children = reversed(self.store.children(self.id))
        return [Run(self.store, child.info.run_id, trusted=self._trusted) for child in children]

    def resume(self, *, epochs: int | None = None, progress: Progress = True) -> Run:
        """Resume the run from its last checkpoint; see `harness.resume`."""
        from harness.api.starting import resume

        return resume(self, epochs=epochs, trust=self._trusted, progress=progress)

    def _single(self) -> Any:
        from harness.results import summary

        return summary.single(self.store, self.mlflow_run)

    def _repr_html_(self) -> str:
        import numpy as np

        from harness.experiment.scores import PLACES, primary_of_params
        from harness.formatting import duration
        from harness.results import summary

        found = summary.summary(self.mlflow_run)
        primary = primary_of_params(self.mlflow_run.data.params)
        rows = [
            ("run", f"{self.name} ({self.id[:8]})"),
            ("status", self.status),
            ("epochs", summary.progress(found)),
            ("time", "" if found["seconds"] is None else duration(found["seconds"])),
        ]
        for name in (f"{place}/{primary.key}" for place in PLACES):
            value = self.metrics.get(name)
            if value is not None:
                rows.append((name, primary.score.format(value)))
        try:
            shown = html.picture(np.asarray(self.grid()), f"samples of {self.name}")
        except HarnessError:  # nothing was drawn yet
            shown = ""
        return f"<div>{html.facts(rows)}{shown}</div>"


def load_run(run: str = "latest", *, tracking_uri: str | None = None, trust: bool = False) -> Run:
    """Load a run from its MLflow store.

    run: an id, a unique prefix of one (four characters or more), a run name, or `latest`.
    tracking_uri: the store; else $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db.
    trust: import the classes (`package.module:Class`) that the run names; importing runs their code.
    Raises HarnessError where no run is meant, or several are, and NoStoreError where there is no store.
    """
    with session(trusted=trust):
        store = store_at(tracking_uri)
        return Run(store, store.find(run).info.run_id, trusted=trust)
