"""Real stores for the tests: a sqlite database of their own each, copied from one that is created once."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.tracking import Store


@pytest.fixture(autouse=True)
def _no_other_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No store of MLflow's own making: it makes ./mlflow.db when it is asked vaguely."""
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
