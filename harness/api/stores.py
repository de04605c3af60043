"""Open the MLflow store of a call, and clean it up before a training starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness import formatting
from harness.console import to_stderr
from harness.environment import OFFLINE, OFFLINE_FOLDER, is_offline
from harness.errors import HarnessError, NoStoreError
from harness.files import database_of

if TYPE_CHECKING:
    from harness.tracking import Store


def store_to_write(
    tracking_uri: str | None, offline: bool | None = None, spool: str | Path | None = None
) -> str | None:
    """Return the address of the store that a new run is written to, after creating the folder of an offline store.

    Args:
        tracking_uri: Address that the caller has given.
        offline: Write to an offline store, so that no server is asked. None: if HARNESS_OFFLINE is set.
        spool: Folder of the offline store. None: mlruns/offline.

    Returns:
        The address; None for the default of `open_store`.

    Raises:
        HarnessError: The options do not go together, or the folder cannot be written.
    """
    by_option = offline is not None
    offline = is_offline() if offline is None else offline
    if not offline:
        if spool is not None:
            raise HarnessError(f"--spool {spool}: use it with --offline")
        return tracking_uri
    if tracking_uri is not None and (by_option or not tracking_uri.startswith("sqlite:")):
        cause = "--offline" if by_option else f"{OFFLINE} is set, which"
        raise HarnessError(f"{cause} stores runs in a local folder: leave out --tracking-uri {tracking_uri}")
    if tracking_uri is not None:
        return tracking_uri
    from harness.tracking import offline as offline_stores

    folder = Path(spool or OFFLINE_FOLDER)
    offline_stores.create(folder)
    return offline_stores.uri_of(folder)


def storage_to_use(storage: str | None, offline: bool | None = None) -> str | None:
    """Return the address of the Optuna storage: as given, else $HARNESS_STORAGE; None for the journal file.

    Args:
        storage: Address that the caller has given.
        offline: As in `store_to_write`. Offline, HARNESS_STORAGE is not used.

    Raises:
        HarnessError: Offline, and the storage is a server.
    """
    if not (is_offline() if offline is None else offline):
        return storage or os.environ.get(formatting.STORAGE) or None
    if storage and storage == os.environ.get(formatting.STORAGE):
        storage = None  # the command line reads the variable, too
    if storage and not storage.startswith("sqlite:"):
        raise HarnessError(f"--offline asks no server: leave out --storage {storage}")
    return storage


def open_store(uri: str | None, *, create: bool = False, message: Callable[[str], None] = to_stderr) -> Store:
    """Open the store at `uri`, or the default one.

    Args:
        uri: Address of the store. None: the offline store if HARNESS_OFFLINE is set, else $MLFLOW_TRACKING_URI, else
            ./mlruns/mlflow.db.
        create: Create ./mlruns/mlflow.db if it does not exist.
        message: Receives what the user should know, one line a call.

    Raises:
        NoStoreError: The default database is meant and does not exist.
    """
    from harness.tracking import Store

    if uri is None and not create and (is_offline() or not os.environ.get(formatting.STORE)):
        database = database_of(formatting.default_store())
        if not database.is_file():
            start = formatting.harness_command("run")
            where = formatting.short_path(database)
            raise NoStoreError(f"there are no runs here: {where} does not exist; start one with `{start}`")
    return Store.open(uri, create=create, message=message)


def check_store_answers(uri: str | None) -> None:
    """Raise HarnessError if the store is a server that does not answer. It needs no slow imports."""
    from harness.tracking.connect import refuse_silent_server

    refuse_silent_server(uri or formatting.default_store(), offer_offline=True)


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
