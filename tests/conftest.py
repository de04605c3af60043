"""What all tests share: one tiny experiment, and a data cache of their own that is unpacked once."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import sqlalchemy

from harness import cli
from harness import experiment as experiments
from harness.experiment import Experiment, trust

from .commands import Harness, Said, Server
from .executors import slurm_cluster
from .faults_lib.runs import save_small_models, undisturbed
from .tuning import postgresql
from .tuning.common import SMALL

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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DATA", str(folder))
        patch.delenv("HARNESS_MIRROR", raising=False)
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _quick_children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Bytecode of their own for the processes that tests start: without it each compiles all of MLflow again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.getbasetemp().parent / "bytecode"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """SQLite does not wait until a transaction is on the disk: no test cuts the power, and disks are slow."""

    def without_sync(connection: Any, record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", without_sync)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", without_sync)


@pytest.fixture(autouse=True)
def _no_store_left_over() -> Iterator[None]:
    """MLflow's set_tracking_uri and set_registry_uri write to the environment, where the next test would find it."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.setenv(variable, "")
            patch.delenv(variable)
        yield
        mlflow.set_tracking_uri(None)  # MLflow's own memory of it, and the variable
        mlflow.set_registry_uri(None)


@pytest.fixture(autouse=True)
def _no_trust_left_over() -> Iterator[None]:
    """What a test has read from a store is not refused in the next one."""
    trust.set_policy(trust.Policy())
    yield
    trust.set_policy(trust.Policy())


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-xdist sets COLUMNS in its workers, and commands obey it."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `auto` stands for must not depend on what else this machine does: fp32, and one training after the other."""
    monkeypatch.setattr("harness.gan.auto.is_faster", lambda other, current: False)


@pytest.fixture(autouse=True)
def _no_times_left_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a trial took is remembered in the cache, which outlives the session."""
    monkeypatch.setattr("harness.tuning.trial_times.path", lambda: tmp_path / "trial-times.json")


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[slurm_cluster.SlurmCluster]:
    if slurm_cluster.MISSING:
        pytest.skip(slurm_cluster.MISSING)
    with slurm_cluster.cluster() as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_session: slurm_cluster.SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> slurm_cluster.SlurmCluster:
    """A real Slurm cluster of one node, which Slurm's commands find. Its jobs import this tree."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_session.config))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return slurm_session


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
    folder = _furnished(tmp_path / "work", database)
    monkeypatch.chdir(folder)
    return folder


def _furnished(folder: Path, database: Path) -> Path:
    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(database, folder / "mlruns" / "mlflow.db")
    (folder / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture
def harness(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harness:
    """Calls the console script's own entry point in this process: importing torch takes seconds."""
    return _caller(monkeypatch, capsys)


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting two real models takes seconds; what a fault leaves of them does not depend on what is in them."""
    monkeypatch.setattr("harness.runs.artifacts.save_models", save_small_models)


@pytest.fixture
def whole_run(harness: Harness, small_models: None) -> dict[str, Any]:
    """What an undisturbed run leaves, as `faults_lib.snapshot` tells it."""
    return undisturbed(harness)


def _caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harness:
    def call(*arguments: str) -> Said:
        code = _call(monkeypatch, *arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


# What there is to look at in a gallery: runs that differ, replicates, and a study of five trials.
_SCORED = ("run", "tiny.yaml", "--set", "data.validation=100", "--set", "track.score_every=1")
_GALLERY = (
    (*_SCORED, "--name", "slow", "--set", "optimizer.lr=1e-4"),
    (*_SCORED, "--name", "quick", "--set", "optimizer.lr=1e-2", "--set", "generator.latent=12"),
    (*_SCORED, "--name", "seeds", "--seeds", "2", "--batch-runs", "1"),
    ("tune", "small.yaml", "--trials", "5", "--batch-runs", "1", "--pruner", "none"),
)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, database: Path, _data_cache: Path) -> Path:
    """A working directory whose store real runs have filled. It is shared: tests only look at it."""
    folder = _furnished(tmp_path_factory.mktemp("gallery") / "work", database)
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for arguments in _GALLERY:
            assert _call(patch, *arguments, "--no-system-metrics") == 0, arguments
    return folder


@pytest.fixture
def gallery(filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harness:
    """Calls commands in the working directory that has been filled."""
    monkeypatch.chdir(filled)
    capsys.readouterr()
    return _caller(monkeypatch, capsys)


@pytest.fixture
def server(tmp_path: Path, database: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server", database)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.PostgreSQL]:
    if postgresql.PG_CTL is None:
        pytest.skip(postgresql.MISSING)
    with postgresql.server() as started:
        yield started


@pytest.fixture
def empty_postgresql(postgresql_server: postgresql.PostgreSQL) -> Iterator[str]:
    """The URL of an empty database."""
    with postgresql_server.database("template0") as url:
        yield url
