"""Where studies are kept: a journal file for one machine, a database for many."""

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

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna.journal"
_PROBE = 8  # seconds that a database server has to answer


def open_storage(
    url: str | None, root: Path, tracking_uri: str, message: Callable[[str], None] = to_stderr
) -> BaseStorage:
    """The storage at `url`, a database; else the journal file in the folder `root`, which is made when missing.

    notice: is given one line when the journal is damaged, or when another process keeps it locked.
    Raises HarnessError when it cannot be reached, or is MLflow's own database: both keep a table `alembic_version`.
    """
    quiet()
    if url is None:
        return _journal(root / JOURNAL, message)
    check(url, tracking_uri)
    return _database(url)


def open_existing(url: str | None, root: Path) -> BaseStorage | None:
    """The storage at `url`, or the journal in `root` where there is one: looking creates no file."""
    if url is None and not (root / JOURNAL).is_file():
        return None
    return open_storage(url, root, "")


def no_studies(url: str | None, root: Path) -> str:
    """What is said where a storage holds no study."""
    start = formatting.harness_command("tune", storage=url)
    return f"there are no studies in {shown(url, root)} yet: `{start}` starts one"


def check(url: str, tracking_uri: str) -> None:
    """Raise HarnessError for what is no database, or the one that MLflow keeps its runs in."""
    if "://" not in url:
        raise HarnessError(f"--storage {url}: expected a database such as postgresql://user@host/optuna")
    formatting.check_not_redacted(url, "--storage", formatting.STORAGE)
    if _same(url, tracking_uri):
        raise HarnessError(f"--storage {url} is where MLflow keeps its runs: Optuna needs a database of its own")


@contextlib.contextmanager
def storage_errors(*, files: bool = True) -> Iterator[None]:
    """What goes wrong in a storage becomes a HarnessError; with `files` what goes wrong with the journal, too."""
    import optuna
    import sqlalchemy

    try:
        yield
    except HarnessError:
        raise
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise HarnessError(f"a trial was taken over by another process: {error}") from error
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        if isinstance(error, OSError) and not files:
            raise
        cause = error.__cause__ or error
        first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise HarnessError(f"the storage of the study failed: {first}; the same command goes on") from error


def lock_dir(url: str | None, root: Path) -> Path:
    """The folder in which the processes of this host that share a storage find each other."""
    if url is None:
        return root
    place = hashlib.sha256(repr(list(_place(url))).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"harness-studies-{user_name()}" / place
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shown(url: str | None, root: Path) -> str:
    """Return a storage as it is printed, without its password."""
    return redact(url) if url else str(root / JOURNAL)


def quiet() -> None:
    """Optuna says nothing by itself: what goes wrong is told by us."""
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
        raise HarnessError(f"cannot keep studies in {path}: {error.strerror or error}") from error
    except Exception as error:
        raise HarnessError(
            f"the journal {path} cannot be read ({type(error).__name__}): move it away to begin anew, "
            "or give another with --storage"
        ) from error


def _database(url: str) -> BaseStorage:
    import sqlalchemy
    from optuna.storages import RDBStorage

    timeout = {"connect_timeout": _PROBE} if url.startswith(("postgresql", "mysql")) else {}
    try:
        engine = sqlalchemy.create_engine(url, connect_args=timeout)
        tables = set(sqlalchemy.inspect(engine).get_table_names())
        engine.dispose()
        if "alembic_version" in tables and "experiments" in tables and "trials" not in tables:
            raise HarnessError(f"--storage {url} holds MLflow's runs: Optuna needs a database of its own")
        engine_kwargs = {"connect_args": timeout, "pool_pre_ping": True}
        for pause in (0.5, 1.0, 2.0):
            try:
                return RDBStorage(url, engine_kwargs=engine_kwargs)
            except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                time.sleep(pause)  # another process is creating the same tables
        return RDBStorage(url, engine_kwargs=engine_kwargs)
    except HarnessError:
        raise
    except ImportError as error:
        raise HarnessError(f"the driver for --storage {url} is not installed: {error}") from error
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HarnessError(f"--storage {url} cannot be reached: {first}") from error


def _same(url: str, tracking_uri: str) -> bool:
    """Whether two URLs mean the same database, drivers and passwords aside."""
    return list(_place(url)) == list(_place(tracking_uri))


def _place(url: str) -> Iterator[object]:
    kind, _, rest = url.partition("://")
    yield kind.split("+")[0].replace("postgres", "postgresql").replace("postgresqlql", "postgresql")
    if kind.startswith("sqlite"):
        yield Path(unquote(rest.removeprefix("/"))).absolute()
        return
    host, _, name = rest.split("?")[0].rpartition("@")[2].partition("/")
    yield host if ":" in host else f"{host}:"
    yield name
