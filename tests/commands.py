"""Commands in tests: what they said, what they left in MLflow, and processes of their own for signals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image, ImageSequence

from harness.files import sqlite_uri


class Said(NamedTuple):
    code: int
    out: str
    err: str


Harness = Callable[..., Said]


def client() -> MlflowClient:
    return MlflowClient(sqlite_uri(Path("mlruns/mlflow.db").absolute()))


def only_run() -> Run:
    (run,) = client().search_runs([e.experiment_id for e in client().search_experiments()])
    return run


def run_named(name: str) -> Run:
    """The one run of that name, of any project."""
    projects = [experiment.experiment_id for experiment in client().search_experiments()]
    (run,) = client().search_runs(projects, f"attributes.run_name = '{name}'")
    return run


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == "src" or (name == "href" and tag == "link")]


def loaded_by(page: str) -> list[str]:
    """What a page of HTML asks for when it is opened: scripts, styles and images, without what it holds itself."""
    reader = _Loads()
    reader.feed(page)
    return [source for source in reader.found if not source.startswith("data:")]


def frames_of(animation: Path) -> tuple[list[npt.NDArray[np.uint8]], list[int], int | None]:
    """An animation's frames [H, W, 3], how long each is shown, in milliseconds, and its loop flag (0: for ever)."""
    frames, milliseconds = [], []
    with Image.open(animation) as image:
        for frame in ImageSequence.Iterator(image):
            frames.append(np.asarray(frame.convert("RGB")))
            milliseconds.append(int(image.info["duration"]))
        return frames, milliseconds, image.info.get("loop")


def spawn(*arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own, for signals."""
    code = "from harness.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def give_time_for_one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command from now on stops as by --max-time, after the first epoch that it trains."""
    late = lambda session, runs=1: session.result.epoch > session.result.first  # noqa: E731
    monkeypatch.setattr("harness.runs.session.RunSession.out_of_time", late)


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read its output up to a line that holds `text`."""
    assert process.stdout is not None
    read = ""
    while text not in read:
        line = process.stdout.readline()
        assert line, f"the process ended without saying {text!r}; it said: {read}"
        read += line
    return read


class Server:
    """A real `mlflow server` on loopback, which can be killed and started again on the same database."""

    def __init__(self, folder: Path, database: Path | None = None) -> None:
        folder.mkdir()
        if database:
            shutil.copy(database, folder / "server.db")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def options(self) -> list[str]:
        """What `mlflow server` is started with, beside artifacts, host and port."""
        return ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]

    def environment(self) -> dict[str, str]:
        return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # two processes fewer

    def start(self) -> None:
        words = ["-m", "mlflow", "server", *self.options()]
        words += ["--artifacts-destination", str(self.folder / "artifacts"), "--port", str(self.port)]
        words += ["--host", "127.0.0.1", "--workers", "1"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.folder,
                env={**os.environ, **self.environment()},
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


class Terminal:
    """A command in a pseudo terminal of its own, which can be closed."""

    def __init__(self, *command: str, columns: int = 100, environment: dict[str, str] | None = None) -> None:
        self.process_id, self._master = pty.fork()
        if self.process_id == 0:
            os.execvpe(command[0], command, {**os.environ, **(environment or {})})
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read what is shown until `text` is in it."""
        while text not in self.shown:
            try:
                data = os.read(self._master, 4096)
            except OSError:
                data = b""
            assert data, f"the command ended without showing {text!r}; it showed: {self.shown}"
            self.shown += data.decode(errors="replace")

    def read_to_end(self) -> str:
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 4096):
                self.shown += data.decode(errors="replace")
        return self.shown

    def close(self) -> None:
        os.close(self._master)

    def exit_code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])
