"""Runs as Python objects: scores, curves, pictures, generator."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from harness.api import html
from harness.api.context import api_context
from harness.api.options import check_range
from harness.api.progress import Progress
from harness.api.samples import Samples
from harness.api.stores import open_store
from harness.console import to_stderr
from harness.errors import HarnessError
from harness.experiment.scores import PLACES, primary_of_params
from harness.experiment.tags import Kind, Tag

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image
    from torch import nn

    from harness.experiment import Experiment
    from harness.runs.options import RunResult
    from harness.runs.seeds import Replicates
    from harness.tracking import Run as MlflowRun
    from harness.tracking import Store

FINAL_PREFIXES = ("test/", "validation/")  # of metrics that are logged once, at the end


class Run:
    """A run in an MLflow store. In Jupyter it renders as a summary.

    `harness.run`, `harness.resume` and `harness.load_run` return one. For a run with `seeds`, it is the parent: the
    scores are means, the generator and the pictures are those of the seed with the best score during training. For a
    study, the generator and the pictures are those of the best trial.

    Attributes:
        store: The MLflow store.
        id: The id of the run in MLflow.
        result: How the training ended, if this process trained the run; else None.

    Examples:
        >>> run = harness.load_run("latest")
        >>> run.samples(100).save("digits.png")
        >>> run.history()["quality/kid"].plot()
    """

    def __init__(
        self, store: Store, run_id: str, *, result: RunResult | Replicates | None = None, trust: bool = False
    ) -> None:
        self.store, self.id, self.result = store, run_id, result
        self._trust = trust
        self._cached: MlflowRun | None = None

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.status}, id {self.id[:8]})"

    @property
    def mlflow_run(self) -> MlflowRun:
        """The run as MLflow's client returns it. While it is RUNNING, each access asks the store again."""
        if self._cached is None or self._cached.info.status == "RUNNING":
            self._cached = self.store.get_run(self.id)
        if self._cached is None:
            raise HarnessError(f"the run {self.id} was deleted from {self.store.redacted_uri}")
        return self._cached

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.mlflow_run.info.run_name)

    @property
    def status(self) -> str:
        """MLflow's status: FINISHED, FAILED, KILLED or RUNNING."""
        return str(self.mlflow_run.info.status)

    @property
    def kind(self) -> str:
        """The tag harness.kind.

        One of `run`, `replicates` (the parent of `seeds`), `study`, `trial`, `seed` (of a trial), `check`, `confirm`.
        """
        return str(self.mlflow_run.data.tags.get(Tag.KIND, Kind.RUN))

    @property
    def params(self) -> dict[str, str]:
        """The values of the experiment by dotted path, as MLflow stores them."""
        return dict(self.mlflow_run.data.params)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every metric."""
        return dict(self.mlflow_run.data.metrics)

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the run."""
        return dict(self.mlflow_run.data.tags)

    @property
    def scores(self) -> dict[str, float]:
        """The scores among the metrics.

        `test/...` is the score of the best epoch, `quality/...` the last score during training. docs/metrics.md says
        what each means, and which values are better.
        """
        return {name: value for name, value in self.metrics.items() if name.partition("/")[0] in PLACES}

    @property
    def url(self) -> str | None:
        """The address of the run's page, if the store is a server; else None, and `harness ui` shows the page."""
        return self.store.link(self.mlflow_run)

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment with all its values. `harness.run(run.experiment, seed=2)` repeats it under another seed."""
        from harness.results import load

        with api_context(trust=self._trust):
            return load.experiment(self.store, self._resolved())

    @cached_property
    def generator(self) -> nn.Module:
        """The generator of the best epoch, on the CPU, in evaluation mode.

        It maps noise [N, latent] to images float32 [N, C, H, W] in [-1, 1]. In a conditional experiment its input is
        the noise with the one-hot class, [N, latent + classes].

        Raises:
            HarnessError: The run has no checkpoint yet.
        """
        from harness.results import load

        with api_context(trust=self._trust):
            return load.generator(self.store, self._resolved(), message=to_stderr).generator

    def samples(
        self,
        count: int = 100,
        *,
        seed: int = 0,
        digits: str | int | None = None,
        weights: Literal["best", "last"] = "best",
        raw: bool = False,
    ) -> Samples:
        """Draw images. `harness sample` draws the same images from the same count and seed.

        Args:
            count: Number of images.
            seed: Seed of the noise.
            digits: The classes that a conditional generator draws in turn, 7 or "2026". None: all classes in turn.
            weights: Weights of the best scored epoch or of the last one.
            raw: Use the trained weights instead of their moving average.

        Raises:
            HarnessError: `count` is less than 1, or the generator has no such class.
        """
        from harness.results.sample import sample_images

        check_range("count", count, 1)
        with api_context(trust=self._trust):
            images = sample_images(
                self.store,
                self._resolved(),
                count=count,
                seed=seed,
                digits=None if digits is None else str(digits),
                weights=weights,
                raw=raw,
                message=to_stderr,
            )
        return Samples(images.squeeze(1).numpy() if images.shape[1] == 1 else images.numpy())

    def history(self) -> pd.DataFrame:
        """Return the metrics as a table: a row per epoch, a column per metric, NaN where it was not logged.

        System metrics and the scores of the end of the run (`test/...`, `validation/...`) are left out.
        """
        import pandas as pd

        names = [name for name in sorted(self.metrics) if not name.startswith(("system/", *FINAL_PREFIXES))]
        curves = {name: pd.Series(self.store.history(self.id, name), dtype=float) for name in names}
        return pd.DataFrame(curves, columns=names).sort_index().rename_axis("epoch")

    def grid(self, epoch: int | None = None) -> Image:
        """Return a sample grid that was logged during training.

        Args:
            epoch: Epoch of the grid. None: the last one that has a grid.

        Raises:
            HarnessError: The epoch has no grid. The message names the epochs that have one.
        """
        from PIL import Image

        from harness.results.summary import load_grids

        grids = {grid.epoch: grid.picture for grid in load_grids(self.store, self._resolved())}
        epoch = max(grids) if epoch is None else epoch
        if epoch not in grids:
            raise HarnessError(f"epoch {epoch} has no sample grid; expected {', '.join(map(str, grids))}")
        return Image.fromarray(grids[epoch])

    @property
    def seeds(self) -> list[Run]:
        """The runs of the seeds of a run or a trial, in the order of their start. Empty without `seeds`."""
        if Tag.SEEDS not in self.mlflow_run.data.tags:
            return []
        children = reversed(self.store.children(self.id))
        return [Run(self.store, child.info.run_id, trust=self._trust) for child in children]

    def resume(self, *, epochs: int | None = None, progress: Progress = True) -> Run:
        """Resume the run from its last checkpoint; see `harness.resume`.

        Args:
            epochs: Extend the run to this number of epochs.
            progress: See `harness.run`.
        """
        from harness.api.training import resume

        return resume(self, epochs=epochs, trust=self._trust, progress=progress)

    def _resolved(self) -> Any:
        from harness.results.summary import resolve_run

        return resolve_run(self.store, self.mlflow_run)

    def _repr_html_(self) -> str:
        import numpy as np

        from harness.experiment.scores import PLACES
        from harness.formatting import duration
        from harness.results.summary import format_progress, summarize_run

        overview = summarize_run(self.mlflow_run)
        primary = primary_of_params(self.mlflow_run.data.params)
        rows = [
            ("run", f"{self.name} ({self.id[:8]})"),
            ("status", self.status),
            ("epochs", format_progress(overview)),
            ("time", "" if overview["seconds"] is None else duration(overview["seconds"])),
        ]
        for name in (f"{place}/{primary.key}" for place in PLACES):
            value = self.metrics.get(name)
            if value is not None:
                rows.append((name, primary.score.format(value)))
        try:
            grid = html.picture(np.asarray(self.grid()), f"samples of {self.name}")
        except HarnessError:  # there is no grid yet
            grid = ""
        return f"<div>{html.name_value_table(rows)}{grid}</div>"


def load_run(run: str = "latest", *, tracking_uri: str | None = None, trust: bool = False) -> Run:
    """Load a run from its MLflow store.

    Args:
        run: An id, a unique prefix of one (four characters or more), a run name, or `latest`.
        tracking_uri: Address of the store. None: $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db.
        trust: Import the classes (`package.module:Class`) that the run names, which runs their code.

    Raises:
        HarnessError: No run has this name or id, or several have it.
        NoStoreError: There is no store yet.
    """
    with api_context(trust=trust):
        store = open_store(tracking_uri)
        return Run(store, store.find(run).info.run_id, trust=trust)
