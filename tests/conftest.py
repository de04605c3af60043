"""What all tests share: one tiny experiment, and a data cache of their own that is unpacked once."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import cli
from harness import experiment as experiments
from harness.experiment import Experiment

from .commands import Harness, Said, Server

TINY = """
name: tiny
data: {name: mnist, subset: 60, validation: 0}
generator: {kind: mlp, latent: 8, widths: [16, 16]}
discriminator: {kind: mlp, widths: [16, 16], dropout: 0.3}
optimizer: {lr: 1e-3}
train: {epochs: 3, batch_size: 20, precision: fp32, device: cpu}
track: {samples_every: 1, checkpoint_every: 1}
quality: {samples: 50, samples_while_training: 30}
"""


@pytest.fixture(scope="session", autouse=True)
def _data_cache() -> Iterator[Path]:
    """The user's own cache is left alone; MNIST is unpacked once a session (shared by pytest-xdist's workers)."""
    import getpass
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"harness-tests-{getpass.getuser()}"
    previous = os.environ.get("HARNESS_DATA")
    os.environ["HARNESS_DATA"] = str(folder)
    yield folder
    if previous is None:
        del os.environ["HARNESS_DATA"]
    else:
        os.environ["HARNESS_DATA"] = previous


@pytest.fixture(scope="session", autouse=True)
def _quick_children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Bytecode of their own for the processes that tests start: without it each compiles all of MLflow again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.getbasetemp().parent / "bytecode"))
        yield


@pytest.fixture
def tiny() -> Experiment:
    """The smallest experiment that exercises everything: three epochs of three steps, in well under a second."""
    return experiments.from_yaml(TINY)


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds, so tests copy this one."""
    from harness.tracking import Store

    root = tmp_path_factory.mktemp("database")
    Store.open(f"sqlite:///{root / 'mlflow.db'}", root=root)
    return root / "mlflow.db"


@pytest.fixture
def workplace(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with an empty default store in it and the experiment file tiny.yaml."""
    folder = tmp_path / "work"
    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(database, folder / "mlruns" / "mlflow.db")
    (folder / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture
def harness(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harness:
    """Calls the console script's own entry point in this process: importing torch takes seconds."""

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def server(tmp_path: Path, database: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server", database)
    server.start()
    yield server
    server.kill()
