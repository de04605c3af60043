"""Finding runs again: by id, prefix, name, or as the latest."""

import difflib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from harness.errors import DeletedRunError, HarnessError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 200
_OURS = "tags.`harness.id` != ''"  # true only of runs that have the tag


def search(
    client: "MlflowClient", filter_string: str = "", *, experiments: list[str] | None = None, deleted: bool = False
) -> Iterator["Run"]:
    """The runs that match, newest first, in all experiments or in those with these ids; fetched as they are read.

    deleted: those that are deleted, instead of the others.
    """
    from mlflow.entities import ViewType

    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    if experiments is None:
        experiments = [experiment.experiment_id for experiment in _experiments(client)]
    token = None
    while experiments:
        page = client.search_runs(
            experiments,
            filter_string,
            view,
            max_results=_PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def top_level(client: "MlflowClient", *, experiments: list[str] | None = None) -> Iterator["Run"]:
    """Our runs that are nobody's children, newest first."""
    runs = search(client, _OURS, experiments=experiments)
    return (run for run in runs if "mlflow.parentRunId" not in run.data.tags)


def ours(client: "MlflowClient", *, experiments: list[str] | None = None) -> Iterator["Run"]:
    """All our runs, newest first."""
    return search(client, _OURS, experiments=experiments)


def find(client: "MlflowClient", text: str, store: str) -> "Run":
    """The run that `text` means: `latest`, an id, a unique prefix of one of at least 4 characters, or a name.

    `store` names the store in errors. Raises HarnessError when no run is meant, or several.
    """
    if text == "latest":
        runs = (run for run in top_level(client) if run.data.tags.get("harness.kind") != "check")
        if latest := next(runs, None):
            return latest
        raise HarnessError(f"there is no run in {store} yet: `harness run` makes one")
    if re.fullmatch(r"[0-9a-f]{32}", text) and (run := _by_id(client, text)):
        return run
    candidates = {run.info.run_id: run for run in _candidates(client, text)}
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if candidates:
        shown = "; ".join(_describe(run) for run in list(candidates.values())[:8])
        more = f"; and {len(candidates) - 8} more" if len(candidates) > 8 else ""
        raise HarnessError(f"{text!r} means {len(candidates)} runs: {shown}{more}. Give one of these ids")
    deleted = list(_candidates(client, text, deleted=True))
    if len(deleted) == 1:
        raise _deleted(deleted[0].info.run_id)
    raise HarnessError(f"there is no run {text!r} in {store}{_nearest(client, text)}; `harness runs` lists them")


def by_id(client: "MlflowClient", run_id: str) -> "Run | None":
    """The run with this id, deleted or not; None where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _by_id(client: "MlflowClient", run_id: str) -> "Run | None":
    run = by_id(client, run_id)
    if run is not None and run.info.lifecycle_stage == "deleted":
        raise _deleted(run_id)
    return run


def _deleted(run_id: str) -> DeletedRunError:
    return DeletedRunError(f"the run {run_id} is deleted; `mlflow runs restore --run-id {run_id}` brings it back")


def _candidates(client: "MlflowClient", text: str, *, deleted: bool = False) -> Iterator["Run"]:
    if re.fullmatch(r"[0-9a-f]{4,31}", text):
        yield from search(client, f"attributes.run_id LIKE '{text}%'", deleted=deleted)
    quote = '"' if "'" in text else "'"
    if quote not in text:
        yield from search(client, f"attributes.run_name = {quote}{text}{quote}", deleted=deleted)


def _nearest(client: "MlflowClient", text: str) -> str:
    names: list[str] = []
    for _, run in zip(range(1000), ours(client), strict=False):
        names.append(run.info.run_name or "")
    near = difflib.get_close_matches(text, dict.fromkeys(names), n=3)
    return f"; the nearest names are {', '.join(near)}" if near else ""


def _describe(run: "Run") -> str:
    started = datetime.fromtimestamp(run.info.start_time / 1000).strftime("%Y-%m-%d %H:%M:%S")
    return f"{run.info.run_id[:12]} {run.info.run_name} started {started}"


def _experiments(client: "MlflowClient") -> Iterator:  # type: ignore[type-arg]
    token = None
    while True:
        page = client.search_experiments(max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
