"""Jobs for executors: they leave files behind, so that a test sees what has run, how often, and where."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.interrupts import handle_signals


@dataclass(frozen=True)
class FileJob:
    """Appends a line to FOLDER/INDEX.txt: pid, and what is of interest in the environment."""

    folder: Path
    secrets: Mapping[str, str] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "secrets": {}}

    def environment(self) -> Mapping[str, str]:
        return self.secrets

    def __call__(self, index: int) -> int:
        self.write(index, f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')} {os.environ.get('SECRET')}")
        return self.work(index)

    def write(self, index: int, text: str) -> None:
        with (self.folder / f"{index}.txt").open("a") as file:
            file.write(f"{text}\n")

    def lines(self, index: int) -> list[str]:
        path = self.folder / f"{index}.txt"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_lines(self, index: int, count: int, seconds: float = 120) -> list[str]:
        deadline = time.monotonic() + seconds
        while len(lines := self.lines(index)) < count:
            assert time.monotonic() < deadline, f"{count} lines of {index} expected, found {lines}"
            time.sleep(0.1)
        return lines

    def work(self, index: int) -> int:
        return 0


class UntilSignal(FileJob):
    """Works until a signal, or until FOLDER/done exists; then it notes that it has saved."""

    def work(self, index: int) -> int:
        with handle_signals() as stop:
            while not stop.signal and not (self.folder / "done").exists():
                time.sleep(0.05)
        self.write(index, f"saved at {stop.signal}")
        return 0


class Dies(FileJob):
    """Dies without a word, the first `index + 1` times."""

    def work(self, index: int) -> int:
        if len(self.lines(index)) <= index + 1:
            os._exit(7)
        return 0


class Fails(FileJob):
    """Fails each time, with an error that the user can correct."""

    def work(self, index: int) -> int:
        raise HarnessError("the storage is gone: postgresql://mia:secret@host/db")
