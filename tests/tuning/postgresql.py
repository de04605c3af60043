"""A PostgreSQL server for tests, whose databases cost a tenth of a second each."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psycopg

_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
PG_CTL = shutil.which("pg_ctl") or (str(_INSTALLED[-1]) if _INSTALLED else None)
WITH_PASSWORD = "team"  # the user who has to give one
MISSING = "no PostgreSQL on this machine (Debian: apt-get install postgresql)"


class PostgreSQL:
    """A server that only these tests know."""

    def __init__(self, port: int, control: Callable[..., None]) -> None:
        self._control = control
        self._server = f"postgresql://mia@127.0.0.1:{port}"
        self._numbers = itertools.count()
        self._execute("CREATE DATABASE studies")
        storage = optuna.storages.RDBStorage(f"{self._server}/studies")  # Optuna's tables take a second to make
        storage.engine.dispose()

    @contextlib.contextmanager
    def database(self, template: str) -> Iterator[str]:
        """The URL of a new database: a copy of `studies`, which has Optuna's tables, or of the empty `template0`."""
        name = f"test{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield f"{self._server}/{name}"
        finally:
            self.drop(f"{self._server}/{name}")

    def set_password(self, password: str) -> None:
        """Create the user who has to give a password."""
        self._execute(f"DROP ROLE IF EXISTS {WITH_PASSWORD}")
        self._execute(f"CREATE ROLE {WITH_PASSWORD} LOGIN SUPERUSER PASSWORD '{password}'")

    def stop(self) -> None:
        """Stop the server: its clients lose their connections, and get no new ones."""
        self._control("-m", "fast", "stop")

    def start(self) -> None:
        """Start the server again."""
        self._control("start")

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(f"{self._server}/postgres", autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def server() -> Iterator[PostgreSQL]:
    """A server in a folder of its own: pytest closes its folders to other users, and root may not run the server."""
    with tempfile.TemporaryDirectory(prefix="harness-postgresql-", ignore_cleanup_errors=True) as folder:
        prefix: list[str] = []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            prefix = ["runuser", "-u", "postgres", "--"]
        with _started(Path(folder), prefix) as (port, control):
            yield PostgreSQL(port, control)


@contextlib.contextmanager
def _started(folder: Path, prefix: list[str]) -> Iterator[tuple[int, Callable[..., None]]]:
    assert PG_CTL
    binaries = Path(PG_CTL).parent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(program: str, *arguments: str) -> None:
        words = [*prefix, str(binaries / program), *arguments]
        subprocess.run(words, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    data = str(folder / "data")
    call("initdb", "-D", data, "-U", "mia", "--auth=trust", "--no-sync")
    rules = Path(data) / "pg_hba.conf"
    rules.write_text(f"host all {WITH_PASSWORD} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300"

    def control(*words: str) -> None:
        call("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, *words)

    control("start")
    try:
        yield port, control
    finally:
        control("-m", "immediate", "stop")
