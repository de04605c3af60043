"""Generators in MLflow's model registry: the command `promote`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api.runs import Run, load_run

if TYPE_CHECKING:
    from harness.tracking.registry import Promoted


def promote(run: Run | str, name: str, *, alias: str = "champion", tracking_uri: str | None = None) -> Promoted:
    """Register the best generator of a run in MLflow's model registry, as a new version with an alias.

    For a study, it is the generator of the best trial; for a run with `seeds`, that of the best seed. A generator that
    is registered already gets the alias only.

    Args:
        run: A `Run`, or what `harness.load_run` takes.
        name: Name of the registered model. It is created if it does not exist.
        alias: Alias of the version.
        tracking_uri: See `harness.run`.

    Returns:
        The version, its address, and whether it is new.

    Raises:
        HarnessError: The run is unknown or has no model.
    """
    if isinstance(run, str):
        run = load_run(run, tracking_uri=tracking_uri)
    from harness.results import summary

    return run.store.promote(summary.resolve_run(run.store, run.mlflow_run), name, alias)
