"""Connect to a tracking store: resolve its URI, check that it answers, and configure MLflow in this process."""

import contextlib
import http.client
import logging
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from harness import formatting
from harness.environment import prepare_environment
from harness.errors import HarnessError
from harness.files import database_of, sqlite_uri
from harness.tracking import sqlite_store
from harness.tracking.errors import one_line
from harness.tracking.relocation import relocate

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # errors are reported by harness, in one line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A request is repeated at once, a few times. MLflow's defaults (120 s, 7 retries with backoff) take minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.5",  # seconds at most between two tries
    "GIT_PYTHON_REFRESH": "quiet",
}
_PROBE_TIMEOUT = 8  # seconds that a server has to answer the first request
_PROBES = 6  # tries: an answer may be lost, or a server fail for a moment
_DATABASES = ("postgresql", "mysql", "mssql")


def resolve(uri: str | None, root: Path) -> str:
    """Return the absolute URI of the store: `uri`, else MLFLOW_TRACKING_URI, else mlflow.db in `root`.

    Raises:
        HarnessError: The URI is a plain folder, or of an unknown kind.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root / "mlflow.db")
    formatting.check_not_redacted(uri, "--tracking-uri", formatting.STORE)
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
    """Return a client of a store, after checking that it can be used. Imports MLflow (2.4 s).

    The locations of a sqlite store that was moved are rewritten (see `relocation`).

    Args:
        uri: The store, as `resolve` returns it.
        spools: The folder of the spools that are used with the store.
        message: Called with one line before something slow.
        create: Create a sqlite database that is missing.

    Raises:
        HarnessError: The store cannot be used: within about 10 s for a server that is dead.
    """
    if uri.startswith("sqlite:") and not create and not database_of(uri).is_file():
        start = formatting.harness_command("run", store=uri)
        raise HarnessError(
            f"there is no tracking store {database_of(uri)}: `{start}` creates one, or give another with "
            "--tracking-uri or MLFLOW_TRACKING_URI"
        )
    refuse_silent_server(uri)
    _configure_mlflow()
    if uri.startswith("sqlite:"):
        if create:
            sqlite_store.create_if_missing(uri, message)
        sqlite_store.check(uri)
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
        raise HarnessError(f"cannot use the tracking store {uri}: {one_line(error)}") from error
    return client


def refuse_silent_server(uri: str) -> None:
    """Raise HarnessError when nothing answers at the address of a server. One request, without importing MLflow."""
    if isinstance(_health_error(uri, _PROBE_TIMEOUT), ConnectionRefusedError | TimeoutError | socket.gaierror):
        raise _no_answer(uri)


def refuse_hanging_server(uri: str, timeout: float) -> None:
    """Raise HarnessError when a server accepts connections and answers none of them for `timeout` seconds.

    MLflow's client would repeat the next request for minutes. It handles all other errors.
    """
    deadline = time.monotonic() + timeout
    while isinstance(_health_error(uri, max(0.1, min(_PROBE_TIMEOUT, timeout / 4))), TimeoutError):
        if time.monotonic() >= deadline:
            raise _no_answer(uri)


def _health_error(uri: str, timeout: float) -> BaseException | None:
    """The error of a request to the server's /health; None for a server that answers, or a database."""
    if not uri.startswith(("http://", "https://")):
        return None
    parts = urllib.parse.urlsplit(uri.rstrip("/"))
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        urllib.request.urlopen(f"{plain}/health", timeout=timeout).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Other errors, such as an incomplete answer or a bad certificate, are reported by MLflow's client.
        reason = error.reason if isinstance(error, urllib.error.URLError) else None
        return reason if isinstance(reason, BaseException) else error
    return None


def _no_answer(uri: str) -> HarnessError:
    return HarnessError(
        f"the tracking server {uri} does not answer: start it, or give another one with --tracking-uri or "
        "MLFLOW_TRACKING_URI"
    )


def _configure_mlflow() -> None:
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
    """Clear MLflow's cache of artifact locations, which ignores the store: a copied run has another location."""
    from mlflow.tracking._tracking_service import utils

    getattr(utils, "_artifact_repos_cache", {}).clear()


def _create_decoded_parents() -> None:
    """Make MLflow decode the URI of an SQLite file before it creates the parent folder (`a%20b`)."""
    from mlflow.store.db import utils

    create = getattr(utils, "_make_parent_dirs_if_sqlite", None)
    if create is not None and create.__module__ == utils.__name__:
        utils._make_parent_dirs_if_sqlite = lambda uri: create(unquote(uri))


def _probe_server(uri: str) -> None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    path = "/api/2.0/mlflow/experiments/search"
    deadline = time.monotonic() + _PROBE_TIMEOUT
    for left in reversed(range(_PROBES)):
        try:
            answer = http_request(
                get_default_host_creds(uri),
                path,
                "POST",
                json={"max_results": 1},
                timeout=_PROBE_TIMEOUT,
                max_retries=0,
            )
            break
        except Exception as error:
            if not left or time.monotonic() > deadline:
                raise _no_answer(uri) from error
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
    """Check that a database server answers: MLflow would try for 100 s."""
    import sqlalchemy

    timeout = {} if uri.startswith("mssql") else {"connect_timeout": _PROBE_TIMEOUT}
    try:
        engine = sqlalchemy.create_engine(uri, connect_args=timeout)
        with contextlib.closing(engine.connect()):
            pass
        engine.dispose()
    except ImportError as error:
        raise HarnessError(f"the driver for the tracking store {uri} is not installed: {error}") from error
    except Exception as error:
        raise HarnessError(f"the tracking database {uri} does not answer: {one_line(error)}") from error
