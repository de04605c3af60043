"""What a run has left in MLflow, as plain data: two runs of the same experiment compare equal when both are whole."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mlflow import MlflowClient

from harness.tracking import artifacts

# Tags that say who wrote the run, and when: they differ from process to process.
_OF_THE_PROCESS = (
    "mlflow.",
    "harness.pid",
    "harness.process_start",
    "harness.host",
    "harness.id",
    "harness.resumed",
    "harness.seconds",
    "harness.job",
)


def snapshot(client: MlflowClient, run_id: str) -> dict[str, Any]:
    """Status, params, tags, the steps of every metric, images, files with their contents, models; no times, no ids.

    A metric logged twice at a step, or a model logged twice, shows as such.
    """
    run = client.get_run(run_id)
    histories = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    made = client.search_logged_models([run.info.experiment_id])
    files = _files(client, run_id)
    return {
        "status": run.info.status,
        "params": dict(run.data.params) | {"name": ""},
        "tags": {key: value for key, value in run.data.tags.items() if not key.startswith(_OF_THE_PROCESS)},
        "metrics": {
            name: sorted((point.step, _rounded(name, point.value)) for point in points)
            for name, points in histories.items()
            if not name.startswith("system/")
        },
        "images": Counter(_image(path) for path in files if path.startswith("images/")),
        "files": {path: content for path, content in files.items() if not path.startswith("images/")},
        "models": sorted((model.name, str(model.status)) for model in models),
        "models made": sorted(model.name for model in made if model.source_run_id == run_id),
        "datasets": [item.dataset.name for item in run.inputs.dataset_inputs],
    }


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """A line for each part that differs, short enough to read."""
    lines = []
    for part, wanted in expected.items():
        got = found[part]
        if got == wanted:
            continue
        if isinstance(wanted, dict):
            for key in sorted(wanted.keys() | got.keys(), key=str):
                if got.get(key) != wanted.get(key):
                    lines.append(f"{part} {key}: {got.get(key)} instead of {wanted.get(key)}")
        else:
            lines.append(f"{part}: {got} instead of {wanted}")
    return lines


def _rounded(name: str, value: float) -> float | None:
    return None if name.startswith("speed/") else round(value, 9)


def _image(path: str) -> tuple[str, str]:
    name = path.removeprefix("images/")
    return name.split("+timestamp+")[0], Path(name).suffix


def _files(client: MlflowClient, run_id: str) -> dict[str, str]:
    with TemporaryDirectory() as folder:
        root = Path(artifacts.repository(client, run_id).download_artifacts("", folder))
        return {path.relative_to(root).as_posix(): _content(path) for path in sorted(root.rglob("*")) if path.is_file()}


def _content(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".pt":  # the same weights may be packed in another order
        state = torch.load(io.BytesIO(data), weights_only=True)
        state["images"] = None
        return f"epoch {state['training']['epoch']}, score {state['score']}, {_digest(state['training'])}"
    return hashlib.sha256(data).hexdigest()[:16]


def _digest(value: Any) -> str:
    found = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            found.update(part.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(part, dict):
            for key in part:
                found.update(str(key).encode())
                add(part[key])
        elif isinstance(part, list | tuple):
            for each in part:
                add(each)
        else:
            found.update(repr(part).encode())

    add(value)
    return found.hexdigest()[:16]
