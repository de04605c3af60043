"""Find or create MLflow experiments (`project`), and choose their artifact location."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, redact
from harness.files import database_of, safe_file_name
from harness.tracking import find_runs
from harness.tracking.errors import store_errors
from harness.tracking.relocation import artifacts_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


def get_or_create(client: "MlflowClient", project: str, uri: str, root: Path) -> str:
    """Return the id of the MLflow experiment called `project`, which is created when it is missing: 1 or 2 requests.

    Args:
        client: The store.
        project: The name of the experiment.
        uri: The address of the store. Artifacts of a sqlite store are stored beside the database.
        root: The folder of the spool, where the artifacts of other databases are stored.

    Raises:
        HarnessError: The experiment is deleted, or the store fails.
    """
    from mlflow.exceptions import MlflowException

    store = redact(uri)
    with store_errors(store):
        experiment = client.get_experiment_by_name(project)
        if experiment is None:
            folder = _artifact_folder(uri, root)
            location = (folder / safe_file_name(project)).as_uri() if folder else None
            # Without the tag, the UI shows its language-model view, which has no charts.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                return str(client.create_experiment(project, artifact_location=location, tags=tags))
            except MlflowException as error:
                # Another process may have created it.
                experiment = client.get_experiment_by_name(project)
                if experiment is None:
                    raise error
    if experiment.lifecycle_stage == "deleted":
        raise HarnessError(
            f"the project {project!r} is deleted in {store}: "
            f"{find_runs.how_to_restore_experiment(client, experiment.experiment_id)}, or choose another name"
        )
    return str(experiment.experiment_id)


def _artifact_folder(uri: str, root: Path) -> Path | None:
    """The artifact folder of a store; None for a server, which chooses one. MLflow's default is the working folder."""
    if uri.startswith("sqlite:"):
        return artifacts_of(database_of(uri))
    return None if uri.startswith("http") else root / "artifacts"
