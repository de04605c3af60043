"""MLflow's model registry: a run's sampler under a name, and an alias that says which version is meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness import formatting
from harness.errors import HarnessError, nearest
from harness.experiment.tags import Tag
from harness.tracking import artifacts
from harness.tracking.creating import create_once

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Promoted:
    """A version of a registered model. fresh: it was registered just now, and not earlier."""

    name: str
    version: str
    alias: str
    fresh: bool

    @property
    def address(self) -> str:
        return f"models:/{self.name}@{self.alias}"


def promote(
    client: "MlflowClient", run_id: str, name: str, alias: str, tags: Mapping[str, str], store: str
) -> Promoted:
    """Register the sampler that a run has logged under `name`, unless it is there, and let `alias` point to it.

    `store` names the store in errors. Raises HarnessError for a run that is not FINISHED or has none, for a name or
    alias that MLflow does not take, and for a server without a registry. Nothing is registered then.
    """
    from mlflow.exceptions import MlflowException

    model = _sampler_of(client, run_id)
    try:
        _refuse_alias(alias)
        _make_sure_of(client, name)
        known = _versions_of(client, run_id, name, model)
        if known:
            version = known[0].version
        else:
            source = client.get_logged_model(model).artifact_location
            every = {**tags, Tag.MODEL: model, Tag.RUN_ID: run_id}
            version = create_once(
                partial(client.create_model_version, name, source, run_id=run_id, tags=every, model_id=model),
                partial(_versions_of, client, run_id, name, model),
            ).version
        client.set_registered_model_alias(name, alias, version)
    except MlflowException as error:
        if error.error_code == "ENDPOINT_NOT_FOUND":
            raise HarnessError(f"{store} has no model registry: promote on a server that has one") from error
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        reason = " ".join(str(error.message).split())[:200]
        raise HarnessError(f"MLflow does not take the name {name!r} with the alias {alias!r}: {reason}") from error
    return Promoted(name, str(version), alias, not known)


def _sampler_of(client: "MlflowClient", run_id: str) -> str:
    """The id of the sampler of a run that is FINISHED: what one that was resumed logged before is not its best."""
    status = client.get_run(run_id).info.status
    if status != "FINISHED":
        raise HarnessError(
            f"run {run_id[:8]} is {status} and has no model `sampler` to promote; a run has one once it is FINISHED"
        )
    model = artifacts.model_named(client, run_id, "sampler")
    if model is None:
        raise HarnessError(
            f"run {run_id[:8]} has no model `sampler` to promote: it was made before runs had one, or waits for "
            f"`{formatting.harness_command('sync', store=client.tracking_uri)}`; else train it again"
        )
    return model


def _versions_of(client: "MlflowClient", run_id: str, name: str, model: str) -> "list[ModelVersion]":
    """The versions under which the run's model is registered as `name`."""
    # By its run: filters cannot spell every name.
    versions = [version for version in client.search_model_versions(f"run_id = '{run_id}'") if version.name == name]
    return [version for version in versions if version.tags.get(Tag.MODEL) == model]


def _refuse_alias(alias: str) -> None:
    """What set_registered_model_alias would refuse, before there is a version that it is refused for."""
    from mlflow.utils import validation

    validation._validate_model_alias_name(alias)
    validation._validate_model_alias_name_reserved(alias)


def source_of(client: "MlflowClient", address: str) -> str:
    """Where the files of models:/NAME@ALIAS or models:/NAME/VERSION are. Raises HarnessError for an unknown one."""
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
        raise HarnessError(f"there is no model {address!r} in the registry{_known(client, name)}") from error


def _known(client: "MlflowClient", name: str) -> str:
    """What there is instead of a model that is missing: versions and aliases of that name, or other names."""
    models = list(client.search_registered_models(max_results=1000))
    found = next((model for model in models if model.name == name), None)
    if found is not None:
        aliases = ", ".join(f"@{alias}" for alias in sorted(found.aliases)) or "no alias"
        return f"; {name} has {aliases}"
    start = formatting.harness_command("promote", "RUN", store=client.tracking_uri, **{"as": name})
    return nearest(name, (model.name for model in models)) + f"; `{start}` registers the model of a run"


def _make_sure_of(client: "MlflowClient", name: str) -> None:
    """Make the registered model called `name` where it is missing."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by somebody else, or by a try whose answer was lost
                raise
