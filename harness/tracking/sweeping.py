"""After processes that ended early: shipping what they left in the spool, and putting their runs' statuses right."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tracking import lookup
from harness.tracking.liveness import gone, this_process
from harness.tracking.shipping import Away, Deleted, Shipper, Trouble
from harness.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TRIES = 6  # one more than the shipper takes to set a batch aside


def sync(client: "MlflowClient", folder: Path, uri: str) -> list[str]:
    """Ship every spool in `folder` that nobody writes and that belongs to the store shown as `uri`; a line each.

    What a store refused before is tried once more.
    """
    lines: list[str] = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        spool = Spool(path)
        if not spool.acquire():
            continue  # a process writes it, and ships it, too
        try:
            meta = spool.read_meta()
            title = f"run {meta.get('name')} ({str(meta.get('run_id'))[:12]})"
            if not meta:
                if not spool.end:
                    spool.remove()  # the process died before its run was made
            elif meta["uri"] != uri:
                if not spool.settled:
                    lines.append(f"{title}: left alone, it belongs to {meta['uri']}")
            elif line := _sweep(client, spool, meta):
                lines.append(f"{title}: {line}")
        except Away as error:
            lines.append(f"{title}: could not be shipped, {error}; it stays in {path}")
            if not isinstance(error, Deleted):
                return lines  # the others would wait for the same store
        finally:
            spool.release()
    return lines


def _sweep(client: "MlflowClient", spool: Spool, meta: dict[str, Any]) -> str | None:
    """Ship one spool and tidy it; says what came of it, None when there was nothing to do."""
    spool.retry_refused()
    count = sum(1 for _ in spool.all_pending())
    last = spool.last_sign()
    shipper = Shipper(client, spool, meta["run_id"], meta["experiment_id"])
    for left in reversed(range(_TRIES)):
        try:
            shipper.ship()
            break
        except Trouble as error:
            if not left:
                return f"could not be shipped, {error}; it stays in {spool.folder}"
            time.sleep(0.5)
    killed = spool.status is None and gone(meta) and client.get_run(meta["run_id"]).info.status == "RUNNING"
    if killed:
        client.set_terminated(meta["run_id"], "KILLED", end_time=last)
    refused = spool.refused()
    spool.settle()
    if refused:
        return f"{count} events, of which the store refused {len(refused)} ({refused[0][1]}); kept in {spool.folder}"
    return f"shipped {count} events" + (", set to KILLED" if killed else "") if count or killed else None


def reconcile(client: "MlflowClient", folder: Path) -> list[str]:
    """Set our RUNNING runs of this host whose process is gone to KILLED; returns their ids."""
    host = this_process()["harness.host"]
    killed = []
    running = lookup.search(client, f"attributes.status = 'RUNNING' and tags.`harness.host` = '{host}'")
    for run in list(running):
        spool = Spool(folder / run.data.tags.get("harness.id", "none"))
        # A held lock is the surest sign of life: the pids of another container mean nothing in this one.
        if gone(run.data.tags) and not spool.busy():
            client.set_terminated(run.info.run_id, "KILLED", end_time=spool.last_sign())
            killed.append(run.info.run_id)
    return killed
