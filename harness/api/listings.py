"""List runs, studies and experiments: the commands `runs`, `studies` and `experiments`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.api.context import api_context
from harness.api.options import check_range
from harness.api.stores import open_store
from harness.errors import HarnessError, nearest


def list_runs(
    *, limit: int = 20, project: str | None = None, nested: bool = False, tracking_uri: str | None = None
) -> list[dict[str, Any]]:
    """Return a summary of recent runs, the newest first, as plain data.

    Args:
        limit: Number of runs.
        project: Only the runs of this MLflow experiment.
        nested: Include trials and other nested runs.
        tracking_uri: See `harness.run`.

    Raises:
        NoStoreError: There is no store yet.
        HarnessError: There is no such MLflow experiment.
    """
    check_range("limit", limit, 1)
    with api_context():
        store = open_store(tracking_uri)
        from harness.results.summary import summarize_run

        if project is not None and store.client.get_experiment_by_name(project) is None:
            names = [experiment.name for experiment in store.client.search_experiments()]
            near = nearest(project, names) or f"; there are {', '.join(names)}"
            raise HarnessError(f"--project {project!r}: there is no such MLflow experiment{near}")
        return [summarize_run(run) for run in store.runs(limit=limit, project=project, children=nested)]


def list_studies(storage: str | None = None) -> list[dict[str, Any]]:
    """Return a summary of the studies in an Optuna storage, the newest first, as plain data.

    Args:
        storage: Address of the storage. None: mlruns/optuna.journal.
    """
    with api_context():
        from harness.tuning.list_studies import studies

        return studies(storage, Path("mlruns").absolute())


def open_dashboard(
    experiment: str | None = None,
    *,
    study: str | None = None,
    storage: str | None = None,
    message: Callable[[str], None] = print,
) -> None:
    """Open optuna-dashboard in the browser, and serve it until Ctrl-C.

    Args:
        experiment: Open the study with the name of this experiment.
        study: Open this study. None, without an experiment: the only one, or the list.
        storage: Address of the storage. None: mlruns/optuna.journal.
        message: Receives the address of the page.

    Raises:
        HarnessError: There is no such study, or no study.
    """
    with api_context():
        from harness.tuning.dashboard import serve

        if study is None and experiment is not None:
            from harness.experiment import load

            study = load(experiment).name
        serve(storage, Path("mlruns").absolute(), message, study)


def list_experiments() -> list[dict[str, str]]:
    """Return name, description and file of the experiments that `harness.run` finds by name."""
    from harness.experiment import available, load

    return [
        {"name": name, "description": load(path).description, "file": str(path)} for name, path in available().items()
    ]
