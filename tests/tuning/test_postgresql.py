"""A study in a PostgreSQL database, as several machines would share it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from harness.tuning.storage import open_storage

from ..commands import Harness, spawn
from .common import QUIET, runs, the_study

pytestmark = pytest.mark.slow


def test_commands_share_a_study_in_a_database(harness: Harness, small: Path, empty_postgresql: str) -> None:
    command = ("tune", "small.yaml", *QUIET, "--trials", "4", "--pruner", "none", "--storage", empty_postgresql)
    first, second = spawn(*command), spawn(*command)
    said = [process.communicate(timeout=400)[0] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], said
    study = optuna.load_study(study_name="small", storage=open_storage(empty_postgresql, Path("mlruns"), ""))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert set(runs("trial")) == {f"small-{number}" for number in range(4)}
    assert the_study().info.status == "FINISHED"
    assert not (small / "mlruns" / "optuna.journal").exists()
    said_again = harness(*command)
    assert "no trial is left to train" in said_again.out, said_again.err
    assert "small" in harness("studies", "--storage", empty_postgresql).out
    same = harness("tune", "small.yaml", "--storage", empty_postgresql, "--tracking-uri", empty_postgresql)
    assert same.code == 2
    assert "Optuna needs another database" in same.err
