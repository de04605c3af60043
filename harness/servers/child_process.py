"""Run a server as a child process: start it, wait for it, and stop it with its child processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError, redact
from harness.interrupts import handle_signals, hangup_as_sigterm

START_TIMEOUT = 60.0  # seconds that a server has to answer: its imports are slow on a busy machine
STOP_TIMEOUT = 5.0  # seconds that it has to end after SIGTERM


class ServerProcess:
    """A running server. Created by `run_server`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, title: str) -> None:
        self._process, self._log, self._title = process, log, title

    def wait_until_ready(self, address: str) -> None:
        """Wait until `address` answers with HTTP status 200, at most START_TIMEOUT.

        Raises:
            HarnessError: The server ends, or does not answer in time.
            KeyboardInterrupt: A signal was received.
        """
        deadline = time.monotonic() + START_TIMEOUT
        with handle_signals() as stop:
            while not _answers(address):
                if stop.signal:
                    raise KeyboardInterrupt
                if self._process.poll() is not None:
                    raise HarnessError(f"{self._title} ended at once: {self._last_line()}")
                if time.monotonic() > deadline:
                    raise HarnessError(
                        f"{self._title} did not answer within {START_TIMEOUT:.0f} s: {self._last_line()}"
                    )
                time.sleep(0.1)

    def wait_for_signal(self) -> str:
        """Wait for Ctrl-C or SIGTERM; return its name: SIGINT or SIGTERM.

        Raises:
            HarnessError: The server ends by itself.
        """
        with handle_signals() as stop:
            while not stop.signal:
                if self._process.poll() is not None:
                    raise HarnessError(f"{self._title} ended: {self._last_line()}")
                time.sleep(0.1)
            return stop.signal

    def stop(self) -> None:
        """Stop the process group: SIGTERM, and SIGKILL after STOP_TIMEOUT."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            deadline = time.monotonic() + STOP_TIMEOUT
            while time.monotonic() < deadline:
                self._process.poll()  # reap a process that has ended
                if not _alive(self._process.pid):
                    return
                time.sleep(0.05)

    def _last_line(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        # MLflow runs its servers as a command, and prints its own traceback below the one with the cause.
        while len(lines) > 1 and "Command '" in lines[-1]:
            start = max((index for index, line in enumerate(lines) if line.startswith("Traceback ")), default=0)
            if not start:
                break
            lines = lines[:start]
        return redact(lines[-1])[:300] if lines else "it printed nothing"


@contextmanager
def run_server(
    command: Sequence[str], title: str, *, cwd: Path, environment: Mapping[str, str]
) -> Iterator[ServerProcess]:
    """Run a server while the block lasts.

    It has its own session, so signals of the terminal reach this process only. A closed terminal counts as SIGTERM, so
    that the server ends, too. Its output goes to a temporary file, whose last line is part of error messages.

    Args:
        command: The program and its arguments.
        title: Name of the server in messages.
        cwd: Its working directory.
        environment: Added to the environment of this process.
    """
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, "PATH": _path(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        server = ServerProcess(process, log, title)
        try:
            with hangup_as_sigterm(), handle_signals():  # stop the server after any signal
                yield server
        finally:
            server.stop()


def _path() -> str:
    """The PATH of the server, which begins with the folder of this Python.

    MLflow starts uvicorn by name, and the environment of this Python may not be activated.
    """
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
