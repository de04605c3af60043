"""Commands in tests: what they said, what they left in MLflow, and processes of their own for signals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image


class Said(NamedTuple):
    code: int
    out: str
    err: str


Harness = Callable[..., Said]


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').absolute()}")


def only_run() -> Run:
    (run,) = client().search_runs([e.experiment_id for e in client().search_experiments()])
    return run


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def spawn(*arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own, for signals."""
    code = "from harness.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read its output up to a line that holds `text`."""
    assert process.stdout is not None
    read = ""
    while text not in read:
        line = process.stdout.readline()
        assert line, f"the process ended without saying {text!r}; it said: {read}"
        read += line
    return read
