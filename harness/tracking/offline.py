"""Offline stores: a folder with an MLflow store of its own, which `sync` delivers to another store later.

    DIR/offline.json    says that this is an offline store; who created it, and where
    DIR/mlflow.db       the store. MLflow's UI shows it like any other
    DIR/artifacts/      files and models of its runs
    DIR/spool/          what its running processes have yet to write
    DIR/optuna.journal  its studies
    DIR/delivered/      which files were delivered, and to which store

Everything works offline as it does with a server: runs are resumed, compared, sampled and scored.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.environment import user_name
from harness.errors import HarnessError
from harness.files import atomic_write, database_of, sqlite_uri

_MARKER = "offline.json"


def uri_of(folder: Path) -> str:
    """Return the address of the store in an offline folder."""
    return sqlite_uri(folder.absolute() / "mlflow.db")


def create(folder: Path) -> None:
    """Create the folder of an offline store, if it does not exist. Its database follows when it is opened.

    Raises:
        HarnessError: The folder cannot be written, or has another store in it.
    """
    if is_offline_store(folder):
        return
    if (folder / "mlflow.db").exists():
        raise HarnessError(
            f"--spool {folder}: it has an MLflow store that was not created with --offline; give another"
        )
    try:
        with atomic_write(folder / _MARKER, parents=True) as fresh:
            fresh.write_text(json.dumps({"user": user_name(), "host": socket.gethostname()}) + "\n", encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"--spool {folder} cannot be written: {error.strerror or error}") from error


def is_offline_store(folder: Path) -> bool:
    """Whether a folder is that of an offline store."""
    return (folder / _MARKER).is_file()


def root_of(uri: str) -> Path | None:
    """Return the folder of the offline store at an address; None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    folder = database_of(uri).parent
    return folder if is_offline_store(folder) else None


@contextmanager
def one_delivery(folder: Path) -> Iterator[None]:
    """Keep other processes from delivering the same store at the same time.

    Raises:
        HarnessError: Another process delivers it now.
    """
    lock = FileLock(folder / "sync.lock", thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise HarnessError(f"{folder} is being delivered by another process: wait for it") from error
    except (NotImplementedError, PermissionError):  # a file system without locks, or a folder that is only read
        yield
        return
    try:
        yield
    finally:
        lock.release()
