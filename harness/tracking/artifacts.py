"""The files of runs and models, in an explicit store.

MlflowClient.download_artifacts resolves a model through the default store of the process instead of the client's store,
and creates an empty ./mlflow.db.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UnreachableError
from harness.tracking.errors import one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


def repository(client: "MlflowClient", owner_id: str) -> "ArtifactRepository":
    """Return the files of a run, or of a logged model (m-...). Makes one request."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if owner_id.startswith("m-"):
        location = client.get_logged_model(owner_id).artifact_location
    else:
        location = client.get_run(owner_id).info.artifact_uri
    return get_artifact_repository(location, tracking_uri=client.tracking_uri)


def newest_model(client: "MlflowClient", run_id: str, name: str) -> str | None:
    """Return the id of the newest model called `name` that a run has logged, or None. A request per model."""
    outputs = client.get_run(run_id).outputs
    models = [client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else [])]
    named = [model for model in models if model.name == name]
    return max(named, key=lambda model: model.creation_timestamp).model_id if named else None


def download(client: "MlflowClient", run_id: str, path: str, into: Path, store: str) -> Path:
    """Copy an artifact of a run, or a file of one of its models, into a folder.

    Args:
        client: The store.
        run_id: The run.
        path: A file or a folder; a path that begins with the name of a model is looked up in that model.
        into: The folder, which is created.
        store: The store, as messages name it.

    Returns:
        Where the copy is.

    Raises:
        HarnessError: The run has no such artifact.
        UnreachableError: The store does not answer, or the artifact cannot be read.
    """
    wanted = path
    name, _, rest = path.partition("/")
    try:
        if model_id := newest_model(client, run_id, name):
            into, path = into / name, rest
        into.mkdir(parents=True, exist_ok=True)
        return Path(repository(client, model_id or run_id).download_artifacts(path, str(into)))
    except Exception as error:
        try:
            folder = str(PurePosixPath(wanted).parent)
            listed = [file.path for file in client.list_artifacts(run_id, None if folder == "." else folder)]
        except Exception as failure:
            raise UnreachableError(f"the tracking store {store} failed: {one_line(failure)}") from failure
        if wanted in listed:
            raise UnreachableError(f"{wanted} of run {run_id} cannot be read: {one_line(error)}") from error
        raise HarnessError(f"the run {run_id} has no {path!r} in {store}: {one_line(error)}") from error
