"""Addresses of pages in MLflow's UI, relative to the server."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from mlflow.entities import Run

# Without it the UI opens its view for language models, which has no charts.
_WORKFLOW = "workflowType=machine_learning"


def run_page(run: "Run") -> str:
    """Return the page of one run."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?{_WORKFLOW}"


def experiment_page(experiment_id: str, view: str) -> str:
    """Return the page of an MLflow experiment with its runs and charts. view: the key of a shared view of it."""
    return f"#/experiments/{experiment_id}/runs?{_WORKFLOW}&compareRunsMode=CHART&viewStateShareKey={view}"


def comparison_page(runs: Iterable["Run"]) -> str:
    """Return the comparison of runs, in this order: parallel coordinates, scatter, box, and a table of differences."""
    runs = list(runs)
    run_ids = [run.info.run_id for run in runs]
    experiment_ids = list(dict.fromkeys(run.info.experiment_id for run in runs))
    lists = {"runs": run_ids, "experiments": experiment_ids}
    query = "&".join(f"{name}={quote(json.dumps(ids))}" for name, ids in lists.items())
    return f"#/compare-runs?{query}&{_WORKFLOW}"
