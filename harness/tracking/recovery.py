"""After processes that ended early: shipping what they left in the spool, and putting their runs' statuses right."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.experiment.tags import Tag
from harness.files import database_of
from harness.tracking import find_runs
from harness.tracking.process_tags import gone, this_process
from harness.tracking.relocation import is_there
from harness.tracking.shipping import Away, Deleted, Shipper, Trouble, reason, ship_patiently
from harness.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient

_YOUNG = 60  # seconds


def sync(client: "MlflowClient", folder: Path, uri: str, *, repeat: bool = True) -> list[str]:
    """Ship every spool in `folder` that nobody writes and that belongs to the store shown as `uri`; a line each.

    What a store refused before is tried once more; repeat: report it once more, too. What is wrong with one spool is
    its line, and the next one's turn.
    """
    lines: list[str] = []
    for path in sorted(path for path in folder.glob("*") if path.is_dir()):
        spool = Spool(path)
        title = _title(spool)
        try:
            if _being_made(path) or not spool.acquire():
                continue  # a process writes it, and ships it, too
            line = _visit(client, spool, uri, repeat)
        except Away as error:
            return [*lines, f"{title}: could not be shipped, {error}; it stays in {path}"]  # so would the others
        except Exception as error:
            # Where the folder is gone, another sync was quicker.
            line = f"could not be shipped, {reason(error)}; it stays in {path}" if path.is_dir() else None
        finally:
            spool.release()
        if line:
            lines.append(f"{title}: {line}")
    return lines


def _title(spool: Spool) -> str:
    meta = spool.read_meta()
    return f"run {meta.get('name')} ({str(meta.get('run_id'))[:12]})" if meta else f"spool {spool.folder.name[:12]}"


def _being_made(folder: Path) -> bool:
    """Whether a process may have made the folder just now, and be about to lock it."""
    return not (folder / "meta.json").exists() and time.time() - folder.stat().st_mtime < _YOUNG


def _visit(client: "MlflowClient", spool: Spool, uri: str, repeat: bool) -> str | None:
    """Do for one spool what can be done; says what came of it, None when there was nothing to do."""
    meta = spool.read_meta()
    if not spool.end and not (spool.folder / "meta.json").exists():
        spool.remove()  # the process died before its run was made
        return None
    if not {"run_id", "experiment_id", "uri"} <= meta.keys():
        lost = f"its meta.json does not say which run it is; it lies in {spool.folder}, which can be deleted"
        return None if spool.settled else lost
    if _place(meta["uri"]) != _place(uri) and not _moved_with(client, spool, meta, uri):
        return None if spool.settled else f"left alone, it belongs to {meta['uri']}"
    spool.retry_refused()
    count = sum(1 for _ in spool.all_pending())
    try:
        return _sweep(client, spool, meta, count, repeat)
    except Deleted as error:
        lost = f"{count} events cannot be shipped, {error}; they lie in {spool.folder}, which can be deleted"
        return lost if count else None


def _moved_with(client: "MlflowClient", spool: Spool, meta: dict[str, Any], uri: str) -> bool:
    """Whether a spool belongs to the sqlite store at `uri` though it names another path: both were moved or copied."""
    if not (uri.startswith("sqlite:") and str(meta["uri"]).startswith("sqlite:")):
        return False
    here, named = database_of(uri), database_of(meta["uri"])
    if here == named or (is_there(named) and named.samefile(here)):
        return True
    if is_there(named) and here.parent != spool.folder.parent.parent:
        return False  # the store that it names is there, and this one is not the one beside the spool
    run = next(find_runs.search(client, f"attributes.run_id = '{meta['run_id']}'"), None)
    return run is not None and run.data.tags.get(Tag.ID) == spool.folder.name


def _place(uri: str) -> str:
    """The address of a store without its user, which older versions hid in the spool."""
    return re.sub(r"://[^/]*@", "://", uri)


def _sweep(client: "MlflowClient", spool: Spool, meta: dict[str, Any], count: int, repeat: bool) -> str | None:
    """Ship the `count` events of a spool and tidy it."""
    last = spool.last_sign()
    shipper = Shipper(client, spool, meta["run_id"], meta["experiment_id"])
    _queue_checkpoints(shipper, meta)
    try:
        ship_patiently(shipper)
    except Trouble as error:
        return f"could not be shipped, {error}; it stays in {spool.folder}"
    killed = spool.status is None and gone(meta) and shipper.run().info.status == "RUNNING"
    if killed:
        client.set_terminated(meta["run_id"], "KILLED", end_time=last)
    refused, unreported = spool.refused(), spool.unreported_refusals()
    spool.settle()
    if refused and not (repeat or unreported):
        count -= len(refused)
    elif refused:
        return f"{count} events, of which the store refused {len(refused)} ({refused[0][1]}); kept in {spool.folder}"
    return f"shipped {count} events" + (", set to KILLED" if killed else "") if count or killed else None


def _queue_checkpoints(shipper: Shipper, meta: dict[str, Any]) -> None:
    """A process may be killed between writing a checkpoint and logging it: then the file is newer than the store's.

    Only where that process was the last to write the run, which is still RUNNING: else the file may be an old one.
    """
    spool = shipper.spool
    checkpoints = sorted((spool.folder / "checkpoints").glob("*.pt"))
    if not checkpoints or not gone(meta):
        return
    run = shipper.run()
    wrote_last = all(run.data.tags.get(key) == meta.get(key) for key in this_process())
    if (
        run.info.status != "RUNNING"
        or not wrote_last
        or any(event["kind"] == "status" for event in spool.all_pending())
    ):
        return
    for path in checkpoints:
        file = str(path.relative_to(spool.folder))
        spool.append({"kind": "artifact", "time": spool.last_sign(), "file": file, "folder": "checkpoints"})


def reconcile(client: "MlflowClient", folder: Path) -> list[str]:
    """Set our RUNNING runs of this host whose process is gone to KILLED; returns their ids."""
    host = this_process()[Tag.HOST]
    killed = []
    running = find_runs.search(client, f"attributes.status = 'RUNNING' and tags.`{Tag.HOST}` = '{host}'")
    for run in list(running):
        spool = Spool(folder / run.data.tags.get(Tag.ID, "none"))
        # A held lock is the surest sign of life: the pids of another container mean nothing in this one.
        if gone(run.data.tags) and not spool.busy():
            client.set_terminated(run.info.run_id, "KILLED", end_time=spool.last_sign())
            killed.append(run.info.run_id)
    return killed
