"""A sqlite database as tracking store: created atomically, and checked before MLflow opens it."""

import contextlib
import importlib.util
import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from harness import formatting
from harness.errors import HarnessError
from harness.files import database_of, network_file_system, sqlite_uri
from harness.tracking.relocation import artifacts_of

_SQLITE_MAGIC = b"SQLite format 3\0"


def create_if_missing(uri: str, message: Callable[[str], None]) -> None:
    """Create the database of a sqlite store, and its folder, where they are missing. Takes a few seconds.

    Args:
        uri: The store.
        message: Called with one line before the database is created.

    Raises:
        HarnessError: The folder cannot be written.
    """
    path = database_of(uri)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise HarnessError(f"the tracking store {path} is a folder, expected a database file")
        # Only one of several processes that start at the same time creates the store.
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists() or path.stat().st_size == 0:
                message(f"creating the tracking store {path} (a few seconds, once)")
                if kind := network_file_system(path):
                    message(
                        f"warning: {path.parent} is on a network file system ({kind}). Commands on several hosts "
                        "damage an SQLite file if its locks do not work between hosts: use an MLflow server "
                        "(MLFLOW_TRACKING_URI=http://host:5000) there"
                    )
                _create(path)
    except (OSError, NotImplementedError) as error:
        raise HarnessError(
            f"cannot keep the tracking store in {path.parent}: {getattr(error, 'strerror', None) or error}; "
            "give a folder that can be written to, with --tracking-uri sqlite:////path/mlflow.db"
        ) from error


def _create(path: Path) -> None:
    # Create it under another name and rename it, so that an interrupted creation leaves no incomplete database.
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with _synced_once(new):
        store = SqlAlchemyStore(sqlite_uri(new), artifacts_of(path).as_uri())
        store.engine.dispose()
    new.replace(path)


@contextlib.contextmanager
def _synced_once(path: Path) -> Iterator[None]:
    """Write a new SQLite file to the disk once, at the end, instead of after each of MLflow's 1,000 statements."""
    from sqlalchemy import Engine, event

    def without_sync(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", without_sync)
    try:
        yield
    finally:
        event.remove(Engine, "connect", without_sync)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def check(uri: str) -> None:
    """Check that the file of a sqlite store is an MLflow database of the installed version's schema.

    MLflow would migrate an older schema without asking.

    Raises:
        HarnessError: It is not, or cannot be read and written.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision
    from sqlalchemy import make_url

    path = database_of(uri)
    if make_url(uri).database != str(path):
        raise HarnessError(
            f"the installed SQLAlchemy cannot open the path {path}: upgrade to sqlalchemy 2.1, or rename the folder"
        )
    with path.open("rb") as file:
        magic = file.read(len(_SQLITE_MAGIC))
    if magic != _SQLITE_MAGIC:
        raise HarnessError(f"the tracking store {path} is not an SQLite database: give another file")
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise HarnessError(f"the tracking store {path} cannot be written to: check the permissions of file and folder")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"experiments", "alembic_version"} <= tables:
                raise HarnessError(
                    f"the tracking store {path} is a database, but not one of MLflow's: give another file"
                )
            (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
    except sqlite3.Error as error:
        raise HarnessError(f"the tracking store {path} cannot be read: {error}") from error
    if revision != _get_latest_schema_revision():
        _refuse_schema(uri, path, revision)


def _refuse_schema(uri: str, path: Path, revision: str | None) -> None:
    package = importlib.util.find_spec("mlflow")
    assert package is not None
    assert package.origin is not None
    # The folder has a file for each revision, whose name starts with it.
    versions = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    if any(file.name.startswith(f"{revision}_") for file in versions.glob("*.py")):
        raise HarnessError(
            f"the tracking store {path} was written by an older MLflow: take a copy, then run "
            f"`{shlex.join([*formatting.program('mlflow'), 'db', 'upgrade', uri])}`"
        )
    raise HarnessError(
        f"the tracking store {path} was written by a newer MLflow (schema {revision}): install that MLflow, "
        "or give another store"
    )
