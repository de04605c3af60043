"""MLflow's model registry: register a run's sampler under a name, and set an alias."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness import formatting
from harness.errors import HarnessError, nearest
from harness.experiment.tags import Tag
from harness.tracking import artifacts
from harness.tracking.retries import create_once

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Promoted:
    """A version of a registered model.

    Attributes:
        name: Name of the registered model.
        version: The version.
        alias: Its alias.
        created: Whether the version is new.
    """

    name: str
    version: str
    alias: str
    created: bool

    @property
    def address(self) -> str:
        """The address that MLflow loads: models:/NAME@ALIAS."""
        return f"models:/{self.name}@{self.alias}"


def promote(
    client: "MlflowClient", run_id: str, name: str, alias: str, tags: Mapping[str, str], store: str
) -> Promoted:
    """Register the sampler of a run under `name`, unless it is registered, and let `alias` point to it.

    Args:
        client: The store.
        run_id: The run.
        name: The name of the registered model, which is created when it is missing.
        alias: The alias.
        tags: Tags of the new version.
        store: The store, as messages name it.

    Raises:
        HarnessError: The run is not FINISHED or has no sampler, MLflow does not take the name or alias, or the server
            has no registry. Then nothing is registered.
    """
    from mlflow.exceptions import MlflowException

    model_id = _sampler_of(client, run_id)
    try:
        _check_alias(alias)
        _create_if_missing(client, name)
        versions = _versions_of(client, run_id, name, model_id)
        if versions:
            version = versions[0].version
        else:
            source = client.get_logged_model(model_id).artifact_location
            all_tags = {**tags, Tag.MODEL: model_id, Tag.RUN_ID: run_id}
            version = create_once(
                partial(client.create_model_version, name, source, run_id=run_id, tags=all_tags, model_id=model_id),
                partial(_versions_of, client, run_id, name, model_id),
            ).version
        client.set_registered_model_alias(name, alias, version)
    except MlflowException as error:
        if error.error_code == "ENDPOINT_NOT_FOUND":
            raise HarnessError(f"{store} has no model registry: promote on a server that has one") from error
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        reason = " ".join(str(error.message).split())[:200]
        raise HarnessError(f"MLflow does not take the name {name!r} with the alias {alias!r}: {reason}") from error
    return Promoted(name, str(version), alias, created=not versions)


def _sampler_of(client: "MlflowClient", run_id: str) -> str:
    """The id of a run's sampler. The run must be FINISHED: a resumed run has a sampler of its earlier end."""
    status = client.get_run(run_id).info.status
    if status != "FINISHED":
        raise HarnessError(
            f"run {run_id[:8]} is {status} and has no model `sampler` to promote; a run has one once it is FINISHED"
        )
    model_id = artifacts.newest_model(client, run_id, "sampler")
    if model_id is None:
        raise HarnessError(
            f"run {run_id[:8]} has no model `sampler` to promote: an older version trained it, or it waits for "
            f"`{formatting.harness_command('sync', store=client.tracking_uri)}`; else train it again"
        )
    return model_id


def _versions_of(client: "MlflowClient", run_id: str, name: str, model_id: str) -> "list[ModelVersion]":
    """The versions under which the run's model is registered as `name`."""
    # Filters cannot quote every name, so search by run.
    versions = [version for version in client.search_model_versions(f"run_id = '{run_id}'") if version.name == name]
    return [version for version in versions if version.tags.get(Tag.MODEL) == model_id]


def _check_alias(alias: str) -> None:
    """Raise the error of set_registered_model_alias before a version is created."""
    from mlflow.utils import validation

    validation._validate_model_alias_name(alias)
    validation._validate_model_alias_name_reserved(alias)


def download(client: "MlflowClient", address: str, into: Path) -> Path:
    """Copy the files of a registered model into a folder, which is created; return where they are.

    Args:
        client: The store.
        address: models:/NAME@ALIAS or models:/NAME/VERSION.
        into: The folder.

    Raises:
        HarnessError: There is no such model.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    source, uri = _source_of(client, address), client.tracking_uri
    into.mkdir(parents=True, exist_ok=True)
    return Path(get_artifact_repository(source, tracking_uri=uri, registry_uri=uri).download_artifacts("", str(into)))


def _source_of(client: "MlflowClient", address: str) -> str:
    """The location of the files of models:/NAME@ALIAS or models:/NAME/VERSION."""
    from mlflow.exceptions import MlflowException

    name, alias, version = address.removeprefix("models:/"), "", ""
    if "@" in name:
        name, _, alias = name.rpartition("@")
    elif "/" in name:
        name, _, version = name.rpartition("/")
    if not name or not (alias or version.isdecimal()):
        raise HarnessError(f"{address!r}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    try:
        found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, version)
        return str(client.get_model_version_download_uri(name, found.version))
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise HarnessError(f"there is no model {address!r} in the registry{_alternatives(client, name)}") from error


def _alternatives(client: "MlflowClient", name: str) -> str:
    """A hint for a missing model: the aliases of that name, or similar names."""
    models = list(client.search_registered_models(max_results=1000))
    found = next((model for model in models if model.name == name), None)
    if found is not None:
        aliases = ", ".join(f"@{alias}" for alias in sorted(found.aliases)) or "no alias"
        return f"; {name} has {aliases}"
    start = formatting.harness_command("promote", "RUN", store=client.tracking_uri, **{"as": name})
    return nearest(name, (model.name for model in models)) + f"; `{start}` registers the model of a run"


def _create_if_missing(client: "MlflowClient", name: str) -> None:
    """Create the registered model called `name` where it is missing."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another process, or by a try whose answer was lost
                raise
