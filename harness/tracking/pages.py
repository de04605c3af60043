"""Addresses of pages in MLflow's UI, below that of the server."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from mlflow.entities import Run

# Without it the UI opens in its view for language models, which knows no charts.
_TRAINING = "workflowType=machine_learning"


def of_run(run: "Run") -> str:
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?{_TRAINING}"


def of_experiment(experiment_id: str, view: str) -> str:
    """The runs of an MLflow experiment and their charts, as its shared view `view` has them."""
    return f"#/experiments/{experiment_id}/runs?{_TRAINING}&compareRunsMode=CHART&viewStateShareKey={view}"


def of_comparison(runs: Iterable["Run"]) -> str:
    """The comparison of these runs, in this order: parallel coordinates, scatter, box, and a table of differences."""
    runs = list(runs)
    ids = [run.info.run_id for run in runs]
    experiments = list(dict.fromkeys(run.info.experiment_id for run in runs))
    shown = "&".join(
        f"{name}={quote(json.dumps(values))}" for name, values in (("runs", ids), ("experiments", experiments))
    )
    return f"#/compare-runs?{shown}&{_TRAINING}"
