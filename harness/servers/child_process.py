"""A server in a process of its own: started, waited for, and ended with everything that it started."""

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
from harness.interrupts import handle_signals, hangups

PATIENCE = 60.0  # seconds that a server has to answer: its imports alone take some on a busy machine
GRACE = 5.0  # seconds that it has to end by itself


class Child:
    """A running server. Made by `running`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, what: str) -> None:
        self._process, self._log, self._what = process, log, what

    def wait_until_answers(self, address: str, patience: float = PATIENCE) -> None:
        """Wait until `address` answers with 200. Raises HarnessError where the server dies first, or stays silent.

        A signal in the meantime raises KeyboardInterrupt.
        """
        deadline = time.monotonic() + patience
        with handle_signals() as stop:
            while not _answers(address):
                if stop.signal:
                    raise KeyboardInterrupt
                if self._process.poll() is not None:
                    raise HarnessError(f"{self._what} ended at once: {self._last_words()}")
                if time.monotonic() > deadline:
                    raise HarnessError(f"{self._what} did not answer within {patience:.0f} s: {self._last_words()}")
                time.sleep(0.1)

    def serve(self) -> str:
        """Wait for Ctrl-C or SIGTERM, whose name is returned. Raises HarnessError where the server ends by itself."""
        with handle_signals() as stop:
            while not stop.signal:
                if self._process.poll() is not None:
                    raise HarnessError(f"{self._what} ended: {self._last_words()}")
                time.sleep(0.1)
            return stop.signal

    def end(self) -> None:
        """End the whole group of processes: asked first, then killed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            deadline = time.monotonic() + GRACE
            while time.monotonic() < deadline:
                self._process.poll()  # so that a process that has ended is gone
                if not _alive(self._process.pid):
                    return
                time.sleep(0.05)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        # MLflow runs its servers by a command, and puts a traceback of its own below the one that tells why.
        while len(lines) > 1 and "Command '" in lines[-1]:
            start = max((index for index, line in enumerate(lines) if line.startswith("Traceback ")), default=0)
            if not start:
                break
            lines = lines[:start]
        return redact(lines[-1])[:300] if lines else "it said nothing"


@contextmanager
def running(command: Sequence[str], what: str, *, cwd: Path, environment: Mapping[str, str]) -> Iterator[Child]:
    """Run a server in a session of its own while the block lasts; no signal of our terminal reaches it but through us.

    A terminal that is closed counts as SIGTERM: the server would outlive it.
    what: names it in errors. What it says goes to a temporary file, whose last line such an error quotes.
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
        child = Child(process, log, what)
        try:
            with hangups(), handle_signals():  # whenever a signal comes, it is seen, and the server ended
                yield child
        finally:
            child.end()


def _path() -> str:
    """Where programs are looked for, our own environment's first: MLflow starts uvicorn by name, and a Python that was
    called by its path has no environment activated."""
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
