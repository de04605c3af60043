"""Open the MLflow store of a call, and clean it up before a training starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness import formatting
from harness.api.context import api_context
from harness.console import to_stderr
from harness.errors import NoStoreError

if TYPE_CHECKING:
    from harness.tracking import Store


def open_store(uri: str | None, *, create: bool = False, message: Callable[[str], None] = to_stderr) -> Store:
    """Open the store at `uri`, else at $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db.

    Args:
        uri: Address of the store.
        create: Create ./mlruns/mlflow.db if it does not exist.
        message: Receives what the user should know, one line a call.

    Raises:
        NoStoreError: ./mlruns/mlflow.db is meant and does not exist.
    """
    from harness.tracking import Store

    uri = uri or os.environ.get(formatting.STORE)
    if uri is None and not create and not Path("mlruns/mlflow.db").is_file():
        start = formatting.harness_command("run")
        raise NoStoreError(f"there are no runs here: ./mlruns/mlflow.db does not exist; start one with `{start}`")
    return Store.open(uri, create=create, message=message)


def check_store_answers(uri: str | None) -> None:
    """Raise HarnessError if the store is a server that does not answer. It needs no slow imports."""
    from harness.tracking.connect import refuse_silent_server

    refuse_silent_server(uri or os.environ.get(formatting.STORE) or "")


def sync(*, tracking_uri: str | None = None) -> list[str]:
    """Send what was stored locally while the tracking server was not available: the command `sync`.

    Args:
        tracking_uri: See `harness.run`.

    Returns:
        What was done, in sentences. Empty if nothing was left to send.
    """
    with api_context():
        done: list[str] = []
        recover_runs(open_store(tracking_uri, create=True), done.append, repeat=True)
        return done


def recover_runs(store: Store, message: Callable[[str], None], *, repeat: bool = False) -> None:
    """Clean up after processes that died: ship their spools, and set their runs from RUNNING to KILLED.

    Args:
        store: The store.
        message: Receives what was done, one line a call.
        repeat: See `Store.sync`.
    """
    for line in store.sync(repeat=repeat):
        message(line)
    for run_id in store.reconcile():
        message(f"run {run_id[:8]} was RUNNING, but its process has ended; it is KILLED now (see --resume)")
