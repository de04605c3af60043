"""A study in a PostgreSQL database, as several machines would share it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.tuning.storage import open_storage

from ..commands import Harness, spawn
from ..tuning.common import QUIET, runs, the_study

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if shutil.which("pg_ctl") is None else []
FOUND = shutil.which("pg_ctl") or (str(BINARIES[-1] / "pg_ctl") if BINARIES else None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOUND is None, reason="no PostgreSQL on this machine (Debian: apt-get install postgresql)"),
]


@pytest.fixture
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty database of a server that only this test knows."""
    assert FOUND
    folder = tmp_path_factory.mktemp("postgresql")
    binaries = Path(FOUND).parent
    prefix: list[str] = []
    if os.getuid() == 0:  # the server refuses to be run by root
        for above in (folder, *folder.parents[:3]):
            above.chmod(0o755)
        shutil.chown(folder, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(program: str, *arguments: str) -> None:
        words = [*prefix, str(binaries / program), *arguments]
        subprocess.run(words, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    data = str(folder / "data")
    call("initdb", "-D", data, "-U", "mia", "--auth=trust", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://mia@127.0.0.1:{port}/postgres"  # which is there from the beginning, and empty
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")


def test_commands_share_a_study_in_a_database(harness: Harness, small: Path, postgresql: str) -> None:
    import optuna

    command = ("tune", "small.yaml", *QUIET, "--trials", "4", "--pruner", "none", "--storage", postgresql)
    first, second = spawn(*command), spawn(*command)
    said = [process.communicate(timeout=400)[0] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], said
    study = optuna.load_study(study_name="small", storage=open_storage(postgresql, Path("mlruns"), ""))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert set(runs("trial")) == {f"small-{number}" for number in range(4)}
    assert the_study().info.status == "FINISHED"
    assert not (small / "mlruns" / "optuna.journal").exists()
    said_again = harness(*command)
    assert "nothing is left to train" in said_again.out, said_again.err
    assert "small" in harness("studies", "--storage", postgresql).out
    same = harness("tune", "small.yaml", "--storage", postgresql, "--tracking-uri", postgresql)
    assert same.code == 2
    assert "Optuna needs a database of its own" in same.err
