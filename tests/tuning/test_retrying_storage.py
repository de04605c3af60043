"""A storage whose server is away for a while."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.exc
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from harness.tuning import retrying_storage
from harness.tuning.retrying_storage import retrying
from harness.tuning.storage import open_storage

from ..commands import Harness, spawn
from .common import QUIET, SMALL, runs, the_study
from .postgresql import PostgreSQL


def away() -> Exception:
    return sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("server closed the connection"))


class Flaky:
    """A storage in memory that fails before a call, or after it: then only the answer is lost."""

    def __init__(self, failures: int, *, after: bool) -> None:
        self.inner = InMemoryStorage()
        self.failures, self.after = failures, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            result = method(*arguments, **named) if self.after or not self.failures else None
            if self.failures:
                self.failures -= 1
                raise away()
            return result

        return call


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying_storage, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(retrying_storage, "_LONGEST_DELAY", 0.002)


@pytest.mark.parametrize("after", [False, True])
def test_a_call_is_tried_again_and_the_waiting_is_announced_once(after: bool) -> None:
    said: list[str] = []
    flaky: Any = Flaky(3, after=after)
    storage = retrying(flaky, said.append)
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "one") if not after else None
    if after:
        flaky.failures = 0
        study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "one")
        flaky.failures = 3
        storage.set_study_user_attr(study, "a", 1)
    assert study is not None
    assert storage.get_study_user_attrs(study) == ({"a": 1} if after else {})
    assert said == [
        "the storage of the study does not answer: waiting up to 90 s for it",
        "the storage of the study answers again",
    ]


def test_a_trial_that_was_told_although_the_answer_was_lost_is_not_told_twice() -> None:
    flaky: Any = Flaky(0, after=True)
    storage = retrying(flaky, lambda _: None)
    trial = storage.create_new_trial(storage.create_new_study([optuna.study.StudyDirection.MINIMIZE]))
    flaky.failures = 1
    assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.5]) is True
    assert storage.get_trial(trial).values == [0.5]
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):  # by another process, with another value
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.7])


def test_after_its_patience_the_error_is_raised_and_later_calls_do_not_wait() -> None:
    flaky: Any = Flaky(10**9, after=False)
    said: list[str] = []
    storage = retrying(flaky, said.append, patience=0.05)
    for _ in range(3):
        with pytest.raises(sqlalchemy.exc.OperationalError):
            storage.get_all_studies()
    assert len(said) == 1
    flaky.failures = 0
    assert storage.get_all_studies() == []
    flaky.failures = 2
    assert storage.get_all_studies() == []
    assert len(said) == 3


def test_other_errors_are_not_tried_again() -> None:
    storage = retrying(InMemoryStorage(), lambda _: None)
    with pytest.raises(KeyError):
        storage.get_study_id_from_name("none")


def test_every_method_of_a_storage_is_there() -> None:
    storage = retrying(InMemoryStorage(), lambda _: None)
    assert isinstance(storage, BaseStorage)
    study = optuna.create_study(storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert len(study.trials) == 3


@pytest.mark.slow
def test_a_study_survives_a_database_that_restarts(
    harness: Harness, empty_postgresql: str, postgresql_server: PostgreSQL
) -> None:
    Path("small.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 12"))
    words = ("tune", "small.yaml", "--trials", "5", *QUIET, "--pruner", "none", "--storage", empty_postgresql)
    process = spawn(*words, "--workers", "2")
    deadline = time.monotonic() + 120
    while len(runs("trial")) < 2:
        assert time.monotonic() < deadline, "no trials"
        time.sleep(0.2)
    postgresql_server.stop()
    try:
        restart = threading.Timer(8, postgresql_server.start)
        restart.start()
    finally:
        restart.join()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    study = optuna.load_study(study_name="small", storage=open_storage(empty_postgresql, Path("mlruns"), ""))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert set(runs("trial")) == {f"small-{number}" for number in range(5)}
    assert {run.info.status for run in runs("trial").values()} == {"FINISHED"}
    assert the_study().info.status == "FINISHED"


def test_a_database_that_is_down_at_the_start_is_one_line(harness: Harness) -> None:
    said = harness("tune", "tiny.yaml", "--trials", "1", "--storage", "postgresql://mia:secret@127.0.0.1:9/studies")
    assert said.code == 2
    assert "cannot be reached" in said.err
    assert "secret" not in said.err
