"""Find runs by id, prefix, name, tags, or as the latest."""

import itertools
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from harness import formatting
from harness.errors import DeletedRunError, HarnessError, nearest
from harness.experiment.tags import Kind, Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 200
_RECENT = 100  # runs whose names are suggested
_HARNESS_RUN = f"tags.`{Tag.ID}` != ''"  # true only of runs that have the tag


def search(
    client: "MlflowClient",
    filter_string: str = "",
    *,
    experiments: list[str] | None = None,
    deleted: bool = False,
    page: int = _PAGE,
) -> Iterator["Run"]:
    """Yield the runs that match, newest first; fetched page by page as they are read.

    Args:
        client: The store.
        filter_string: In MLflow's search syntax; empty for all runs.
        experiments: The ids of MLflow experiments; None for all.
        deleted: Yield deleted runs, including those of deleted experiments, instead of the others.
        page: Runs per request, at most 200.
    """
    from mlflow.entities import ViewType

    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    if experiments is None:
        experiments = [experiment.experiment_id for experiment in _experiments(client, deleted=deleted)]
    token = None
    while experiments:
        found = client.search_runs(
            experiments,
            filter_string,
            view,
            max_results=min(page, _PAGE),
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from found
        token = found.token
        if not token:
            return


def top_level(client: "MlflowClient", *, experiments: list[str] | None = None) -> Iterator["Run"]:
    """Yield the runs of harness without a parent run, newest first."""
    runs = search(client, _HARNESS_RUN, experiments=experiments)
    return (run for run in runs if "mlflow.parentRunId" not in run.data.tags)


def harness_runs(client: "MlflowClient", *, experiments: list[str] | None = None) -> Iterator["Run"]:
    """Yield all runs of harness, newest first."""
    return search(client, _HARNESS_RUN, experiments=experiments)


def recent(client: "MlflowClient") -> list["Run"]:
    """Return the newest runs except trials and their seeds, at most 100, with one request, to suggest names."""
    # True only of runs that have the tag.
    condition = f"tags.`{Tag.KIND}` != '{Kind.TRIAL}' and tags.`{Tag.KIND}` != '{Kind.SEED}'"
    return list(itertools.islice(search(client, condition, page=_RECENT), _RECENT))


def with_tags(client: "MlflowClient", tags: Mapping[str, str], *, deleted: bool = False) -> list["Run"]:
    """Return the runs with all of these tags, newest first. deleted: deleted runs, instead of the others."""
    conditions = []
    for key, value in tags.items():
        if "'" in value and '"' in value:
            return []  # harness creates no such name, and MLflow's filters cannot quote it
        quote = '"' if "'" in value else "'"
        conditions.append(f"tags.`{key}` = {quote}{value}{quote}")
    return list(search(client, " and ".join(conditions), deleted=deleted))


def named(client: "MlflowClient", name: str, experiment_id: str) -> list["Run"]:
    """Return the runs with this name in one MLflow experiment, newest first."""
    quote = '"' if "'" in name else "'"
    if quote in name:  # MLflow's filters cannot quote it
        return [run for run in search(client, experiments=[experiment_id]) if run.info.run_name == name]
    return list(search(client, f"attributes.run_name = {quote}{name}{quote}", experiments=[experiment_id]))


def find(client: "MlflowClient", text: str) -> "Run":
    """Return the run for `text`: `latest`, an id, a unique prefix of an id of at least 4 characters, or a name.

    Raises:
        HarnessError: No run matches, or several do.
        DeletedRunError: The run is deleted.
    """
    store = client.tracking_uri
    if text == "latest":
        runs = (run for run in top_level(client) if run.data.tags.get(Tag.KIND) != "check")
        if latest := next(runs, None):
            return latest
        raise HarnessError(
            f"there is no run in {store} yet: `{formatting.harness_command('run', store=store)}` creates one"
        )
    if re.fullmatch(r"[0-9a-f]{32}", text) and (run := _active_run(client, text)):
        return run
    candidates = {run.info.run_id: run for run in _candidates(client, text)}
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if candidates:
        listed = "; ".join(_describe(run) for run in list(candidates.values())[:8])
        more = f"; and {len(candidates) - 8} more" if len(candidates) > 8 else ""
        raise HarnessError(f"{text!r} means {len(candidates)} runs: {listed}{more}. Give one of these ids")
    deleted = list(itertools.islice(_candidates(client, text, deleted=True), 2))
    if deleted:
        raise _deleted(client, deleted[0], "" if len(deleted) == 1 else f", the newest of several called {text!r},")
    near = nearest(text, ["latest", *(str(run.info.run_name) for run in recent(client))])
    raise HarnessError(
        f"there is no run {text!r} in {store}{near}; `{formatting.harness_command('runs', store=store)}` lists the runs"
    )


def how_to_restore(client: "MlflowClient", run: "Run") -> str:
    """Return which command restores a deleted run, or its MLflow experiment if that is deleted."""
    experiment = client.get_experiment(run.info.experiment_id)
    if experiment.lifecycle_stage == "deleted":
        restore = how_to_restore_experiment(client, run.info.experiment_id)
        return f"its project {experiment.name!r} is deleted, too: {restore}"
    line = formatting.mlflow_command("runs", "restore", "--run-id", run.info.run_id, store=client.tracking_uri)
    return f"`{line}` brings it back"


def how_to_restore_experiment(client: "MlflowClient", experiment_id: str) -> str:
    """Return which command restores a deleted MLflow experiment."""
    line = formatting.mlflow_command("experiments", "restore", "-x", experiment_id, store=client.tracking_uri)
    return f"`{line}` brings it back"


def by_id(client: "MlflowClient", run_id: str) -> "Run | None":
    """Return the run with this id, deleted or not; None where there is none. Makes one request."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _active_run(client: "MlflowClient", run_id: str) -> "Run | None":
    run = by_id(client, run_id)
    if run is not None and run.info.lifecycle_stage == "deleted":
        raise _deleted(client, run)
    return run


def _deleted(client: "MlflowClient", run: "Run", remark: str = "") -> DeletedRunError:
    return DeletedRunError(f"the run {run.info.run_id}{remark} is deleted; {how_to_restore(client, run)}")


def _candidates(client: "MlflowClient", text: str, *, deleted: bool = False) -> Iterator["Run"]:
    if re.fullmatch(r"[0-9a-f]{4,31}", text):
        yield from search(client, f"attributes.run_id LIKE '{text}%'", deleted=deleted)
    quote = '"' if "'" in text else "'"
    if quote not in text:
        yield from search(client, f"attributes.run_name = {quote}{text}{quote}", deleted=deleted)


def _describe(run: "Run") -> str:
    started = datetime.fromtimestamp(run.info.start_time / 1000).strftime("%Y-%m-%d %H:%M:%S")
    return f"{run.info.run_id[:12]} {run.info.run_name} started {started}"


def _experiments(client: "MlflowClient", *, deleted: bool = False) -> Iterator:  # type: ignore[type-arg]
    from mlflow.entities import ViewType

    token = None
    while True:
        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        page = client.search_experiments(view, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
