"""Real stores for the tests: a sqlite database of their own each, copied from one that is created once."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.tracking import Store


@pytest.fixture(autouse=True)
def _no_other_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No store from the environment, and none of MLflow's own making: it makes ./mlflow.db when it is asked vaguely."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert not list(folder.iterdir())


@pytest.fixture
def root(tmp_path: Path, database: Path) -> Path:
    """The folder of a default store with an empty database in it."""
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copy(database, folder / "mlflow.db")
    return folder


@pytest.fixture
def store(root: Path) -> Store:
    return Store.open(root=root)


class Server:
    """A real `mlflow server` on loopback, which can be killed and started again on the same database."""

    def __init__(self, folder: Path, database: Path) -> None:
        folder.mkdir()
        shutil.copy(database, folder / "server.db")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        words += ["--artifacts-destination", str(self.folder / "artifacts"), "--port", str(self.port)]
        words += ["--host", "127.0.0.1", "--workers", "1"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # two processes fewer
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, database: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server", database)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def python() -> Callable[..., subprocess.Popen[str]]:
    """Starts Python on a piece of code, with arguments, in a process of its own."""

    def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
