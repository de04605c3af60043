"""The tiny run that fault tests disturb, and what it leaves when nothing disturbs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.models import Model

from tests.commands import Harness, client, run_named
from tests.faults_lib.snapshot import snapshot

RUN = ("run", "tiny.yaml", "--no-system-metrics", "--set", "data.validation=40", "--set", "track.score_every=1")
_WHOLE: dict[str, Any] = {}


def undisturbed(harness: Harness) -> dict[str, Any]:
    """What an undisturbed run leaves in MLflow. Trained once per process."""
    if not _WHOLE:
        said = harness(*RUN, "--name", "whole")
        assert said.code == 0, said.err
        _WHOLE.update(snapshot(client(), run_named("whole").info.run_id))
    return _WHOLE


def save_small_models(experiment: Any, images: Any, generator: Any, folder: Path) -> None:
    """In place of `artifacts.save_models`: what MLflow takes for models, in no time."""
    for name in ("generator", "sampler"):
        (folder / name).mkdir(parents=True)
        Model().save(str(folder / name / "MLmodel"))
        (folder / name / "weights").write_bytes(b"1234")
