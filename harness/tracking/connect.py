"""Opening a tracking store: which one is meant, whether it is there, and MLflow kept quiet."""

import contextlib
import http.client
import importlib.util
import logging
import os
import shlex
import socket
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from filelock import FileLock

from harness import formatting
from harness.environment import prepare_environment
from harness.errors import HarnessError
from harness.files import atomic_write, database_of, sqlite_uri
from harness.tracking.relocation import artifacts_of, relocate
from harness.tracking.shipping import reason

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what goes wrong is told by us, in one line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A lost answer is asked for again at once, a few times; MLflow's own 120 s and 7 ever slower retries make minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.5",  # seconds at most between two tries
    "GIT_PYTHON_REFRESH": "quiet",
}
_PROBE = 8  # seconds that a server has to answer when it is first asked
_PROBES = 6  # times that it is asked: it may lose an answer, or fail for a moment
_DATABASES = ("postgresql", "mysql", "mssql")
_SQLITE_MAGIC = b"SQLite format 3\0"


def resolve(uri: str | None, root: Path) -> str:
    """The absolute URI of the store that is meant: `uri`, else MLFLOW_TRACKING_URI, else the database in `root`."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root / "mlflow.db")
    formatting.refuse_hidden(uri, "--tracking-uri", formatting.STORE)
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/")
    if uri.startswith("sqlite:///") and uri != "sqlite:///:memory:":
        return sqlite_uri(database_of(uri))
    if uri.split("://")[0].split("+")[0] in _DATABASES:
        return uri
    if "://" not in uri or uri.startswith("file:"):
        raise HarnessError(
            f"the tracking store {uri!r} is a folder or a file, and MLflow no longer keeps runs in plain folders: "
            "give a database as sqlite:////absolute/path/mlflow.db, or a server as http://host:port"
        )
    raise HarnessError(
        f"the tracking store {uri!r} is of no known kind: give sqlite:///..., http(s)://... or a database"
    )


def connect(uri: str, spools: Path, message: Callable[[str], None], *, create: bool) -> "MlflowClient":
    """A client of the store at `uri` (from resolve), which is made sure to be there. Imports MLflow (2.4 s).

    A missing sqlite database is made if `create` says so. One that was moved is put right (see `relocation`).
    spools: the folder of the spools that are used with the store.
    Raises HarnessError when the store cannot be used: within about 10 s for a server that is dead.
    """
    if uri.startswith("sqlite:") and not create and not database_of(uri).is_file():
        start = formatting.harness_command("run", store=uri)
        raise HarnessError(
            f"there is no tracking store {database_of(uri)}: `{start}` makes one, or give another with --tracking-uri "
            "or MLFLOW_TRACKING_URI"
        )
    refuse_silent_server(uri)
    _hush()
    if uri.startswith("sqlite:"):
        if create:
            _prepare_sqlite(uri, message)
        _check_sqlite(uri, database_of(uri))
        relocate(database_of(uri), spools, message)
    elif uri.startswith("http"):
        _probe_server(uri)
    else:
        _probe_database(uri)
    from mlflow import MlflowClient

    _forget_locations()
    try:
        # The registry, too, is this store's: MLFLOW_REGISTRY_URI may name another.
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        raise HarnessError(f"cannot use the tracking store {uri}: {reason(error)}") from error
    return client


def refuse_silent_server(uri: str) -> None:
    """Raise HarnessError when nothing answers at the address of a server. Imports no MLflow, which takes seconds."""
    if not uri.startswith(("http://", "https://")):
        return
    place = urllib.parse.urlsplit(uri.rstrip("/"))
    plain = place._replace(netloc=place.netloc.rpartition("@")[2]).geturl()
    try:
        urllib.request.urlopen(f"{plain}/health", timeout=_PROBE).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Whatever else goes wrong, an answer that was cut or a certificate, is for MLflow's client to meet.
        if isinstance(getattr(error, "reason", error), ConnectionRefusedError | TimeoutError | socket.gaierror):
            raise _silent(uri) from error


def _silent(uri: str) -> HarnessError:
    return HarnessError(
        f"the tracking server {uri} does not answer: start it, or give another one with --tracking-uri or "
        "MLFLOW_TRACKING_URI"
    )


def _hush() -> None:
    prepare_environment()  # MLflow asks for the home folder while it is imported
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"(mlflow|alembic|sqlalchemy)(\.|$)")
    import mlflow  # noqa: F401  (configures its loggers when it is imported)

    _create_decoded_parents()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
    # urllib3 warns of every retry; with no logging set up, Python prints warnings to the terminal.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _forget_locations() -> None:
    """MLflow remembers by the run's id where artifacts are, whichever the store: a copy of a run is elsewhere."""
    from mlflow.tracking._tracking_service import utils

    getattr(utils, "_artifact_repos_cache", {}).clear()


def _create_decoded_parents() -> None:
    """MLflow creates the parent folder of an SQLite file without decoding its URI: a wrong folder beside `a%20b`."""
    from mlflow.store.db import utils

    create = getattr(utils, "_make_parent_dirs_if_sqlite", None)
    if create is not None and create.__module__ == utils.__name__:
        utils._make_parent_dirs_if_sqlite = lambda uri: create(unquote(uri))


def _probe_server(uri: str) -> None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    path = "/api/2.0/mlflow/experiments/search"
    deadline = time.monotonic() + _PROBE
    for left in reversed(range(_PROBES)):
        try:
            answer = http_request(
                get_default_host_creds(uri), path, "POST", json={"max_results": 1}, timeout=_PROBE, max_retries=0
            )
            break
        except Exception as error:
            if not left or time.monotonic() > deadline:
                raise _silent(uri) from error
    if answer.status_code in (401, 403):
        raise HarnessError(
            f"the tracking server {uri} wants a login (HTTP {answer.status_code}): set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    try:
        verify_rest_response(answer, path)
    except Exception as error:
        raise HarnessError(
            f"{uri} answers, but not as an MLflow tracking server (HTTP {answer.status_code}): check the address"
        ) from error


def _probe_database(uri: str) -> None:
    """See that a database server answers: MLflow would try for 100 s."""
    import sqlalchemy

    timeout = {} if uri.startswith("mssql") else {"connect_timeout": _PROBE}
    try:
        engine = sqlalchemy.create_engine(uri, connect_args=timeout)
        with contextlib.closing(engine.connect()):
            pass
        engine.dispose()
    except ImportError as error:
        raise HarnessError(f"the driver for the tracking store {uri} is not installed: {error}") from error
    except Exception as error:
        raise HarnessError(f"the tracking database {uri} does not answer: {reason(error)}") from error


def _prepare_sqlite(uri: str, message: Callable[[str], None]) -> None:
    path = database_of(uri)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise HarnessError(f"the tracking store {path} is a folder, expected a database file")
        # Processes that start at once on an empty store must not all create it.
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists() or path.stat().st_size == 0:
                message(f"creating the tracking store {path} (a few seconds, once)")
                _create_sqlite(path)
    except (OSError, NotImplementedError) as error:
        raise HarnessError(
            f"cannot keep the tracking store in {path.parent}: {getattr(error, 'strerror', None) or error}; "
            "give a folder that can be written to, with --tracking-uri sqlite:////path/mlflow.db"
        ) from error


def _create_sqlite(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # Synced once, before the rename, and not after each of MLflow's thousand statements.
    with atomic_write(path, durable=True) as fresh, _without_sync():
        store = SqlAlchemyStore(sqlite_uri(fresh), artifacts_of(path).as_uri())
        store.engine.dispose()


@contextlib.contextmanager
def _without_sync() -> Iterator[None]:
    """Let SQLite leave it to the operating system when statements reach the disk."""
    from sqlalchemy import Engine, event

    def without_sync(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", without_sync)
    try:
        yield
    finally:
        event.remove(Engine, "connect", without_sync)


def _check_sqlite(uri: str, path: Path) -> None:
    """See that the file is an MLflow database of this schema: MLflow itself would change an older one unasked."""
    from mlflow.store.db.utils import _get_latest_schema_revision
    from sqlalchemy import make_url

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
    # Each revision is a file there that starts with its name.
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
