"""Optuna storages: a journal file for one machine, or a database for several."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from harness import formatting
from harness.console import to_stderr
from harness.environment import user_name
from harness.errors import HarnessError, redact
from harness.files import network_file_system
from harness.tuning.grpc_storage import is_grpc, open_proxy, parse_address
from harness.tuning.retrying_storage import retrying

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna.journal"
_CONNECT_TIMEOUT = 8  # seconds that a database server has to answer


def open_storage(
    url: str | None, root: Path, tracking_uri: str, message: Callable[[str], None] = to_stderr
) -> BaseStorage:
    """Return the database at `url`, or the journal file in the folder `root`, which is created if it is missing.

    Args:
        url: URL of a database or a gRPC proxy; None for the journal file.
        root: Folder of the journal file.
        tracking_uri: URI of the MLflow store.
        message: Called with one line if the journal is damaged, or if another process holds its lock for long.

    Raises:
        HarnessError: The storage cannot be reached, or is MLflow's database (both use a table `alembic_version`).
    """
    silence_optuna()
    if url is None:
        return _journal(root / JOURNAL, message)
    check_url(url, tracking_uri)
    from optuna.storages import get_storage

    # `get_storage` adds the cache that Optuna gives a database.
    return retrying(open_proxy(url) if is_grpc(url) else get_storage(_database(url)), message)


def warn_of_network_files(url: str | None, root: Path, message: Callable[[str], None]) -> None:
    """Give a warning if studies are in a file (SQLite or the journal) on a network file system."""
    if url is not None and not url.startswith("sqlite"):
        return
    path = root / JOURNAL if url is None else _sqlite_file(url)
    if kind := network_file_system(path):
        message(
            f"warning: {path} is on a network file system ({kind}). Workers on several hosts damage the file if its "
            "locks do not work between hosts: use a database server (--storage postgresql://...) there"
        )


def open_existing(url: str | None, root: Path) -> BaseStorage | None:
    """Return the storage at `url`, or the journal in `root` if there is one. Creates no file."""
    if url is None and not (root / JOURNAL).is_file():
        return None
    return open_storage(url, root, "")


def no_studies(url: str | None, root: Path) -> str:
    """Return the message for a storage without studies."""
    start = formatting.harness_command("tune", storage=url)
    return f"there are no studies in {storage_name(url, root)} yet: `{start}` starts one"


def check_url(url: str, tracking_uri: str) -> None:
    """Raise HarnessError if `url` is not a database, or is the database of the MLflow store."""
    if "://" not in url:
        raise HarnessError(f"--storage {url}: expected a database such as postgresql://user@host/optuna")
    if is_grpc(url):
        parse_address(url)
    formatting.check_not_redacted(url, "--storage", formatting.STORAGE)
    if _database_of(url) == _database_of(tracking_uri):
        raise HarnessError(f"--storage {url} is the database of the MLflow store: Optuna needs another database")


@contextlib.contextmanager
def storage_errors(*, files: bool = True) -> Iterator[None]:
    """Turn errors of a storage into a HarnessError. files: also OSError, for the journal file."""
    import optuna
    import sqlalchemy

    try:
        yield
    except HarnessError:
        raise
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise HarnessError(f"another process has taken over the trial: {error}") from error
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        if isinstance(error, OSError) and not files:
            raise
        cause = error.__cause__ or error
        first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise HarnessError(f"the storage of the study failed: {first}; the same command resumes it") from error
    except Exception as error:
        if not type(error).__module__.startswith("grpc"):
            raise
        reason = getattr(error, "details", lambda: None)() or type(error).__name__
        raise HarnessError(f"the storage proxy failed: {reason}; the same command resumes the study") from error


def lock_dir(url: str | None, root: Path) -> Path:
    """Return the folder of the lock files that processes of this host use for a storage."""
    if url is None:
        return root
    digest = hashlib.sha256(repr(_database_of(url)).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"harness-studies-{user_name()}" / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def storage_name(url: str | None, root: Path) -> str:
    """Return the URL without its password, or the path of the journal file."""
    return redact(url) if url else str(root / JOURNAL)


def silence_optuna() -> None:
    """Silence the logging of Optuna and Alembic: errors are reported as HarnessError."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _journal(path: Path, message: Callable[[str], None]) -> BaseStorage:
    from harness.tuning.journal import open_journal

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_journal(path, message)
    except OSError as error:
        raise HarnessError(f"cannot store studies in {path}: {error.strerror or error}") from error
    except Exception as error:
        raise HarnessError(
            f"the journal {path} cannot be read ({type(error).__name__}): move it away to start a new one, "
            "or give a database with --storage"
        ) from error


def _database(url: str) -> BaseStorage:
    import sqlalchemy
    from optuna.storages import RDBStorage

    timeout = {"connect_timeout": _CONNECT_TIMEOUT} if url.startswith(("postgresql", "mysql")) else {}
    try:
        engine = sqlalchemy.create_engine(url, connect_args=timeout)
        tables = set(sqlalchemy.inspect(engine).get_table_names())
        engine.dispose()
        if "alembic_version" in tables and "experiments" in tables and "trials" not in tables:
            raise HarnessError(f"--storage {url} is the database of an MLflow store: Optuna needs another database")
        engine_kwargs = {"connect_args": timeout, "pool_pre_ping": True}
        for delay in (0.5, 1.0, 2.0):
            try:
                return RDBStorage(url, engine_kwargs=engine_kwargs)
            except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                time.sleep(delay)  # another process is creating the same tables
        return RDBStorage(url, engine_kwargs=engine_kwargs)
    except HarnessError:
        raise
    except ImportError as error:
        raise HarnessError(f"the driver for --storage {url} is not installed: {error}") from error
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HarnessError(f"--storage {url} cannot be reached: {first}") from error


def _sqlite_file(url: str) -> Path:
    return Path(unquote(url.partition("://")[2].removeprefix("/"))).absolute()


def _database_of(url: str) -> list[object]:
    """What two URLs of the same database have in common: dialect, host and name, without driver and password."""
    scheme, _, rest = url.partition("://")
    dialect = scheme.split("+")[0].replace("postgres", "postgresql").replace("postgresqlql", "postgresql")
    if scheme.startswith("sqlite"):
        return [dialect, _sqlite_file(url)]
    host, _, name = rest.split("?")[0].rpartition("@")[2].partition("/")
    return [dialect, host if ":" in host else f"{host}:", name]
