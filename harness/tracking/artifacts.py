"""Where a run's and a model's files are, asked of one store explicitly.

MlflowClient.download_artifacts resolves a model through the process-wide default store instead of its own, and makes an
empty ./mlflow.db on the way.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


def repository(client: "MlflowClient", owner: str) -> "ArtifactRepository":
    """The files of the run, or of the logged model (m-...), with the id `owner`."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if owner.startswith("m-"):
        location = client.get_logged_model(owner).artifact_location
    else:
        location = client.get_run(owner).info.artifact_uri
    return get_artifact_repository(location, tracking_uri=client.tracking_uri)


def model_named(client: "MlflowClient", run_id: str, name: str) -> str | None:
    """The id of the newest model called `name` that a run has logged, or None."""
    outputs = client.get_run(run_id).outputs
    models = [client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else [])]
    named = [model for model in models if model.name == name]
    return max(named, key=lambda model: model.creation_timestamp).model_id if named else None
