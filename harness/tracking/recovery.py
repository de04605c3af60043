"""Recover after a killed process: ship its spools, and set its RUNNING runs to KILLED.

sync --a spool--> _sync_spool --one that belongs to this store--> _ship
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.experiment.tags import Tag
from harness.files import database_of
from harness.tracking import find_runs
from harness.tracking.before_resume import BeforeResume
from harness.tracking.errors import one_line
from harness.tracking.process_tags import process_ended, this_process
from harness.tracking.relocation import is_there
from harness.tracking.shipping import (
    BatchFailedError,
    RunDeletedError,
    Shipper,
    StoreUnavailableError,
    ship_with_retries,
)
from harness.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_NEW_SPOOL = 60  # seconds


def sync(client: "MlflowClient", folder: Path, uri: str, *, repeat: bool = True) -> list[str]:
    """Ship every spool of the store that no process writes. Refused events are tried once more.

    Args:
        client: The store.
        folder: The folder of the spools.
        uri: The address of the store, without user and password.
        repeat: Report refused events even if a command has reported them before.

    Returns:
        A line for each spool that was shipped or has an error. An error does not end the loop over the spools, unless
        the store does not answer.
    """
    lines: list[str] = []
    for path in sorted(path for path in folder.glob("*") if path.is_dir()):
        spool = Spool(path)
        title = _title(spool)
        try:
            if _is_being_created(path) or not spool.acquire():
                continue  # another process writes and ships it
            line = _sync_spool(client, spool, uri, repeat)
        except StoreUnavailableError as error:
            return [*lines, f"{title}: could not be shipped, {error}; it stays in {path}"]  # the others would fail, too
        except Exception as error:
            # If the folder is missing, another process has shipped it.
            line = f"could not be shipped, {one_line(error)}; it stays in {path}" if path.is_dir() else None
        finally:
            spool.release()
        if line:
            lines.append(f"{title}: {line}")
    return lines


def _title(spool: Spool) -> str:
    meta = spool.read_meta()
    return f"run {meta.get('name')} ({str(meta.get('run_id'))[:12]})" if meta else f"spool {spool.folder.name[:12]}"


def _is_being_created(folder: Path) -> bool:
    """Whether a process may have created the folder just now, and not locked it yet."""
    return not (folder / "meta.json").exists() and time.time() - folder.stat().st_mtime < _NEW_SPOOL


def _sync_spool(client: "MlflowClient", spool: Spool, uri: str, repeat: bool) -> str | None:
    """Ship one spool; return a line with the result, or None if there was nothing to do."""
    meta = spool.read_meta()
    if not spool.end and not (spool.folder / "meta.json").exists():
        spool.remove()  # the process died before its run was created
        return None
    if not {"run_id", "experiment_id", "uri"} <= meta.keys():
        line = f"its meta.json does not say which run it is; it is in {spool.folder}, which can be deleted"
        return None if spool.fully_shipped else line
    if _without_user(meta["uri"]) != _without_user(uri) and not _moved_with(client, spool, meta, uri):
        return None if spool.fully_shipped else f"left alone, it belongs to {meta['uri']}"
    spool.retry_refused()
    count = sum(1 for _ in spool.all_pending())
    try:
        return _ship(client, spool, meta, count, repeat)
    except RunDeletedError as error:
        line = f"{count} events cannot be shipped, {error}; they are in {spool.folder}, which can be deleted"
        return line if count else None


def _moved_with(client: "MlflowClient", spool: Spool, meta: dict[str, Any], uri: str) -> bool:
    """Whether a spool with another path belongs to the sqlite store at `uri`: both were moved or copied."""
    if not (uri.startswith("sqlite:") and str(meta["uri"]).startswith("sqlite:")):
        return False
    here, named = database_of(uri), database_of(meta["uri"])
    if here == named or (is_there(named) and named.samefile(here)):
        return True
    if is_there(named) and here.parent != spool.folder.parent.parent:
        return False  # its store exists, and the store at `uri` is not beside the spool
    run = next(find_runs.search(client, f"attributes.run_id = '{meta['run_id']}'"), None)
    return run is not None and run.data.tags.get(Tag.ID) == spool.folder.name


def _without_user(uri: str) -> str:
    """The address of a store without its user: spools of older versions have none."""
    return re.sub(r"://[^/]*@", "://", uri)


def _ship(client: "MlflowClient", spool: Spool, meta: dict[str, Any], count: int, repeat: bool) -> str | None:
    """Ship the `count` events of a spool and clean it up."""
    last = spool.last_logged_ms()
    shipper = Shipper(client, spool, meta["run_id"], meta["experiment_id"])
    _queue_checkpoints(shipper, meta)
    try:
        ship_with_retries(shipper)
    except BatchFailedError as error:
        return f"could not be shipped, {error}; it stays in {spool.folder}"
    status = (
        _set_final_status(client, shipper.get_run(), spool, last)
        if spool.status is None and process_ended(meta)
        else None
    )
    if status:
        spool.mark_shipped(spool.end, status)  # checkpoints of a FINISHED run are deleted
    refused, unreported = spool.refused(), spool.unreported_refusals()
    spool.clean_up()
    if refused and not (repeat or unreported):
        count -= len(refused)
    elif refused:
        return f"{count} events, of which the store refused {len(refused)} ({refused[0][1]}); kept in {spool.folder}"
    return f"shipped {count} events" + (f", set to {status}" if status else "") if count or status else None


def _set_final_status(client: "MlflowClient", run: "Run", spool: Spool, last: int) -> str | None:
    """Set the final status of a run whose process, that of the spool, has ended without it.

    The status is KILLED. A resumed run that has not changed gets its earlier status, end time and tags.

    Args:
        client: The store.
        run: The run.
        spool: Its spool.
        last: When its process last logged something, in milliseconds since 1970.

    Returns:
        The new status; None if the run has a final status already, or another process writes it.
    """
    if before := before_resume(spool, run):
        for key, value in before.tags.items():
            client.set_tag(run.info.run_id, key, value, synchronous=True)
        if run.info.status == "RUNNING":  # else the process was killed before it set RUNNING
            client.set_terminated(run.info.run_id, before.status, end_time=before.end_time or last)
        spool.delete_before()
        return before.status if run.info.status == "RUNNING" else None
    meta, tags = spool.read_meta(), run.data.tags
    wrote_last = all(tags.get(key) == meta.get(key) for key in (Tag.HOST, Tag.PID))
    if run.info.status != "RUNNING" or not (wrote_last or process_ended(tags)):
        return None
    client.set_terminated(run.info.run_id, "KILLED", end_time=last)
    return "KILLED"


def before_resume(spool: Spool, run: "Run") -> BeforeResume | None:
    """Return the state of a run before it was resumed, if the process was killed before it changed the run."""
    meta = spool.read_meta()
    try:
        before = BeforeResume(**meta["before"])
    except (KeyError, TypeError):
        return None
    resumed = run.info.status == "RUNNING" and _wrote_last(run, meta)
    untouched = (run.info.status, run.info.end_time) == (before.status, before.end_time)
    return before if resumed or untouched else None


def _wrote_last(run: "Run", meta: Mapping[str, Any]) -> bool:
    return all(run.data.tags.get(key) == meta.get(key) for key in this_process())


def _queue_checkpoints(shipper: Shipper, meta: dict[str, Any]) -> None:
    """Log the checkpoint files of a killed process again: it may have written a file without logging it.

    Only if the run is RUNNING and that process wrote it last; otherwise the files may be old.
    """
    spool = shipper.spool
    checkpoints = sorted((spool.folder / "checkpoints").glob("*.pt"))
    if not checkpoints or not process_ended(meta):
        return
    run = shipper.get_run()
    if (
        run.info.status != "RUNNING"
        or not _wrote_last(run, meta)
        or any(event["kind"] == "status" for event in spool.all_pending())
    ):
        return
    for path in checkpoints:
        file = str(path.relative_to(spool.folder))
        spool.append({"kind": "artifact", "time": spool.last_logged_ms(), "file": file, "folder": "checkpoints"})


def reconcile(client: "MlflowClient", folder: Path) -> list[str]:
    """Set the final status of RUNNING runs of this host whose process has ended.

    Makes one search, and one or more requests for each such run.

    Args:
        client: The store.
        folder: The folder of the spools.

    Returns:
        The ids of the runs that are KILLED now. A resumed run that has not changed gets its earlier status.
    """
    host = this_process()[Tag.HOST]
    killed = []
    running = find_runs.search(client, f"attributes.status = 'RUNNING' and tags.`{Tag.HOST}` = '{host}'")
    for run in list(running):
        spool = Spool(folder / run.data.tags.get(Tag.ID, "none"))
        # A held lock shows that a process is alive, also in another container, whose pids are not visible here.
        if not process_ended(run.data.tags) or spool.is_locked():
            continue
        if _set_final_status(client, run, spool, spool.last_logged_ms()) == "KILLED":
            killed.append(run.info.run_id)
    return killed
