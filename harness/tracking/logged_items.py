"""The items that a run has logged. A resumed run repeats the epochs after its checkpoint, and skips these items."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from harness.experiment.tags import Tag
from harness.tracking import artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

Steps = dict[str, set[int]]


@dataclass
class LoggedItems:
    """What a run has logged.

    Attributes:
        metrics: The steps logged of each metric.
        images: The steps logged under each key.
        files: Artifact paths, at most one folder deep.
        models: The keys of its models (tag `harness.event`).
    """

    metrics: Steps = field(default_factory=dict)
    images: Steps = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, client: "MlflowClient", run_id: str) -> "LoggedItems":
        """Read the items of a run from the store, with a request per metric, artifact folder and model."""
        run = client.get_run(run_id)
        metrics = {key: {point.step for point in client.get_metric_history(run_id, key)} for key in run.data.metrics}
        repository = artifacts.repository(client, run_id)
        files: set[str] = set()
        for entry in repository.list_artifacts():
            inside = repository.list_artifacts(entry.path) if entry.is_dir else [entry]
            files |= {info.path for info in inside if not info.is_dir}
        outputs = [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]
        models = {client.get_logged_model(model).tags.get(Tag.EVENT, model) for model in outputs}
        return cls(metrics, _image_steps(files), files, models)


def _image_steps(paths: set[str]) -> Steps:
    """The steps of each image key, read from the file names that MLflow gives logged images."""
    steps: Steps = {}
    for path in map(PurePosixPath, paths):
        key, separator, rest = path.name.partition("+step+")
        if separator and path.parent.name == "images" and path.suffix == ".png":
            steps.setdefault(key.replace("~", "/"), set()).add(int(rest.split("+")[0]))
    return steps
