"""What a run holds already, item by item. A resumed run logs again from its checkpoint on; what is here is left out."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from harness.experiment.tags import Tag
from harness.tracking import artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

Steps = dict[str, set[int]]


@dataclass
class Inventory:
    """metrics, images: the steps logged under each name. files: artifact paths, one folder deep. models: their keys."""

    metrics: Steps = field(default_factory=dict)
    images: Steps = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, client: "MlflowClient", run_id: str) -> "Inventory":
        """What the store holds of a run. Takes a request per metric, so it is read once, when the run is resumed."""
        run = client.get_run(run_id)
        metrics = {key: {point.step for point in client.get_metric_history(run_id, key)} for key in run.data.metrics}
        repository = artifacts.repository(client, run_id)
        files: set[str] = set()
        for entry in repository.list_artifacts():
            inside = repository.list_artifacts(entry.path) if entry.is_dir else [entry]
            files |= {info.path for info in inside if not info.is_dir}
        outputs = [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]
        models = {client.get_logged_model(model).tags.get(Tag.EVENT, model) for model in outputs}
        return cls(metrics, image_steps(files), files, models)


def image_steps(paths: set[str]) -> Steps:
    """The steps of each image key, read from the file names that MLflow gives logged images."""
    steps: Steps = {}
    for path in map(PurePosixPath, paths):
        key, separator, rest = path.name.partition("+step+")
        if separator and path.parent.name == "images" and path.suffix == ".png":
            steps.setdefault(key.replace("~", "/"), set()).add(int(rest.split("+")[0]))
    return steps
