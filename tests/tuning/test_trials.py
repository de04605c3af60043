"""Who trains what: trials are taken once, told once, and outlive those who train them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.tuning import held_trials, shared_study
from harness.tuning import trials as module
from harness.tuning.held_trials import Claim
from harness.tuning.list_studies import studies
from harness.tuning.progress import study_progress
from harness.tuning.request import check_name
from harness.tuning.storage import open_storage
from harness.tuning.trial_values import best_trial, is_counted
from harness.tuning.trials import Trials

from .common import settings
from .postgresql import PostgreSQL

Other = Callable[[], Trials]
Mark = Callable[..., None]


@pytest.fixture
def storage(storage_url: str | None, tmp_path: Path) -> BaseStorage:
    return open_storage(storage_url, tmp_path, "")


@pytest.fixture
def trials(tiny: Experiment, storage: BaseStorage, tmp_path: Path) -> Trials:
    made = Trials.create(storage, "s", settings(tiny), tmp_path)
    assert made
    return made


@pytest.fixture
def other(trials: Trials, storage_url: str | None, tmp_path: Path) -> Other:
    """Opens the same study as another process sees it."""
    return lambda: Trials(open_storage(storage_url, tmp_path, ""), "s", trials.settings, tmp_path)


@pytest.fixture
def mark(trials: Trials, storage: BaseStorage) -> Mark:
    """Changes what a trial says of the process that trains it."""

    def change(number: int, **changes: object) -> None:
        process = {f"harness.{key}" if key != "beat" else key: value for key, value in changes.items()}
        process = {**trials.all()[number].user_attrs["harness.process"], **process}
        trial = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("s"), number)
        storage.set_trial_user_attr(trial, "harness.process", process)

    return change


def gone_pid() -> str:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


def test_as_many_trials_as_were_asked_for_and_no_more(trials: Trials) -> None:
    claims = trials.claim(3, 2)
    assert [claim.number for claim in claims] == [0, 1]
    claims += trials.claim(3, 2)
    assert [claim.number for claim in claims] == [0, 1, 2]
    assert trials.claim(3) == []
    assert trials.is_incomplete(3)
    for claim in claims:
        trials.complete(claim, "run", 1.0)
    assert not trials.is_incomplete(3)
    assert trials.is_incomplete(4)


def test_only_one_process_makes_the_study(
    trials: Trials, storage: BaseStorage, tiny: Experiment, tmp_path: Path
) -> None:
    assert Trials.create(storage, "s", settings(tiny), tmp_path) is None
    found = Trials.find(storage, "s", tmp_path)
    assert found
    assert found.settings == trials.settings
    assert Trials.find(storage, "unknown", tmp_path) is None


def test_a_study_of_somebody_else_is_refused(
    storage: BaseStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_study, "CREATION_TIMEOUT", 0.2)
    optuna.create_study(study_name="theirs", storage=storage).set_user_attr("by", "them")
    with pytest.raises(HarnessError, match="was not created by harness"):
        Trials.find(storage, "theirs", tmp_path)


def test_what_a_living_process_trains_is_left_to_it(trials: Trials, other: Other, mark: Mark) -> None:
    (claim,) = trials.claim(2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        start = repr(psutil.Process(living.pid).create_time())
        mark(claim.number, pid=str(living.pid), process_start=start)
        assert [claim.number for claim in other().claim(2)] == [1]
        living.kill()


def test_a_trial_whose_process_is_gone_is_gone_on_with(trials: Trials, other: Other, mark: Mark) -> None:
    (claim,) = trials.claim(2)
    trials.report(claim, "run", 1, 0.5)
    mark(claim.number, pid=gone_pid())
    (again,) = other().claim(2)
    assert (again.number, again.attempt, again.requeued) == (claim.number, 2, True)
    assert again.values == claim.values
    assert again.trial.user_attrs["harness.process"]["harness.pid"] == str(os.getpid())


def test_a_trial_that_takes_its_process_with_it_is_given_up(trials: Trials, other: Other, mark: Mark) -> None:
    for attempt in (1, 2, 3):
        (claim,) = other().claim(2)
        assert (claim.number, claim.attempt) == (0, attempt)
        mark(0, pid=gone_pid())
    (claim,) = other().claim(2)
    assert claim.number == 1
    given_up = trials.all()[0]
    assert given_up.state == TrialState.FAIL
    assert "died in each of 3 attempts" in given_up.user_attrs["harness.error"]
    assert is_counted(given_up)


def test_another_hosts_trial_is_taken_over_when_its_signs_of_life_stop(
    trials: Trials, monkeypatch: pytest.MonkeyPatch, other: Other, mark: Mark
) -> None:
    (claim,) = trials.claim(2)
    mark(claim.number, host="elsewhere", pid="1")
    assert [claim.number for claim in other().claim(1)] == []
    mark(claim.number, beat=time.time() - shared_study.HEARTBEAT_TIMEOUT - 1)
    assert [claim.number for claim in other().claim(1)] == [0]


def test_signs_of_life_are_given(trials: Trials, monkeypatch: pytest.MonkeyPatch, mark: Mark) -> None:
    monkeypatch.setattr(held_trials, "HEARTBEAT_INTERVAL", 0.05)
    (claim,) = trials.claim(1)
    mark(0, beat=0)
    with trials.heartbeat():
        deadline = time.monotonic() + 120
        while trials.all()[0].user_attrs["harness.process"]["beat"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert claim.number == 0


def test_a_released_trial_waits_and_keeps_its_scores(trials: Trials, other: Other) -> None:
    (claim,) = trials.claim(1)
    trials.report(claim, "run", 1, 0.5)
    trials.release(claim)
    trials.release(claim)  # twice is once
    assert trials.all()[0].state == TrialState.WAITING
    (again,) = other().claim(1)
    assert (again.number, again.attempt, again.requeued) == (0, 1, True)
    assert again.values == claim.values
    assert again.trial.study.trials[0].intermediate_values == {1: 0.5}


def test_a_failed_trial_is_tried_twice_more(trials: Trials) -> None:
    numbers = []
    while claims := trials.claim(1):
        numbers.append(claims[0].number)
        trials.fail(claims[0], "RuntimeError: out of luck", retry=True)
    assert numbers == [0, 1, 2]
    assert [is_counted(trial) for trial in trials.all()] == [False, False, True]
    assert [trial.params for trial in trials.all()] == [trials.all()[0].params] * 3
    assert not trials.is_incomplete(1)


def test_a_failure_that_would_repeat_itself_is_not_repeated(trials: Trials) -> None:
    (claim,) = trials.claim(1)
    trials.fail(claim, "no such layer", retry=False)
    assert trials.claim(1) == []
    assert is_counted(trials.all()[0])


def test_halving_starts_at_its_rung_and_keeps_a_third(trials: Trials) -> None:
    """No trial is pruned at epoch 1; at epoch 2 the best third so far continues."""
    claims = trials.claim(6, 6)
    ended = []
    for claim, value in zip(claims, [0.6, 0.5, 0.4, 0.7, 0.8, 0.3], strict=True):
        assert not trials.report(claim, "run", 1, 100 - value)
        ended.append(trials.report(claim, "run", 2, value))
    assert ended == [False, False, False, True, True, False]
    assert trials.report(claims[0], "run", 2, 0.6) is False  # trained again after a crash: judged already
    assert not trials.report(claims[5], "run", 4, 99.0, last=True)  # what has reached its end is not pruned


def test_a_decision_to_prune_outlives_a_crash(trials: Trials, other: Other, mark: Mark) -> None:
    first, second = trials.claim(2, 2)
    assert not trials.report(first, "run", 2, 0.1)
    assert trials.report(second, "run", 2, 0.2)
    mark(second.number, pid=gone_pid())
    again = next(claim for claim in other().claim(2, 2) if claim.number == second.number)
    assert again.pruned == 2


def test_a_place_taken_twice_at_once_is_given_back(
    trials: Trials, mark: Mark, storage_url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts see one place free, and both take it: no lock of files holds between hosts."""
    (first,) = trials.claim(2)
    mark(first.number, host="a third one")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Trials(open_storage(storage_url, tmp_path, ""), "s", trials.settings, tmp_path / "elsewhere")
    ask = trials.study.ask

    def ask_too_late(*arguments: object) -> Trial:
        assert len(elsewhere.claim(2)) == 1
        return ask(*arguments)

    monkeypatch.setattr(trials.study, "ask", ask_too_late)
    assert trials.claim(2) == []
    assert [trial.state for trial in trials.all()] == [TrialState.RUNNING, TrialState.RUNNING, TrialState.FAIL]
    assert [is_counted(trial) for trial in trials.all()] == [True, True, False]
    trials.complete(first, "run", 1.0)


def test_a_smaller_total_leaves_a_begun_trial_alone(trials: Trials) -> None:
    claims = trials.claim(3, 3)
    trials.complete(claims[0], "run", 1.0)
    trials.complete(claims[1], "run", 1.0)
    trials.release(claims[2])
    assert trials.claim(2) == []
    assert not trials.is_incomplete(2)
    assert [claim.number for claim in trials.claim(3)] == [2]


def test_begun_trials_are_gone_on_with_before_new_ones_are_drawn(trials: Trials) -> None:
    for claim in trials.claim(6, 2):
        trials.release(claim)
    assert [claim.number for claim in trials.claim(6, 4)] == [0, 1]
    assert [claim.number for claim in trials.claim(6, 4)] == [2, 3, 4, 5]


def test_a_retry_that_was_only_half_made_is_not_doubled(trials: Trials, other: Other, mark: Mark) -> None:
    (claim,) = trials.claim(1)
    trials.study.enqueue_trial(dict(claim.values), user_attrs={"harness.retry_of": 0, "harness.attempt": 2})
    mark(0, pid=gone_pid())  # before it could be told
    assert [claim.number for claim in other().claim(1)] == [1]
    assert [is_counted(trial) for trial in trials.all()] == [False, True]


def test_a_trial_that_names_no_process_is_given_time(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    trials.study.enqueue_trial({})
    trials.study.ask()  # somebody who died before naming itself
    assert trials.claim(1) == []
    monkeypatch.setattr(held_trials, "CLAIM_TIMEOUT", 0.0)
    assert [claim.number for claim in trials.claim(1)] == [0]


def test_a_study_that_was_only_half_made_is_made_anew(
    storage: BaseStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_study, "CREATION_TIMEOUT", 0.2)
    optuna.create_study(study_name="half", storage=storage)
    assert Trials.find(storage, "half", tmp_path) is None


def assert_trouble_is_one_line(trials: Trials, claim: Claim, said: str) -> None:
    for act in (
        lambda: trials.report(claim, "run", 1, 0.5),
        lambda: trials.complete(claim, "run", 0.5),
        lambda: trials.fail(claim, "why", retry=True),
        lambda: trials.claim(2),
    ):
        with pytest.raises(HarnessError, match=f"the storage of the study failed: {said}") as caught:
            act()
        assert "\n" not in str(caught.value)
    trials.release(claim)  # which nobody waits for


@pytest.mark.parametrize("storage_url", ["journal"], indirect=True)
def test_trouble_with_the_journal_is_one_line(
    trials: Trials, storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (claim,) = trials.claim(2)
    monkeypatch.setattr(module, "RETRY_DELAYS", (0.0,))

    def away(*_: object, **__: object) -> None:
        raise OSError("no such host")

    for name in ("set_trial_user_attr", "get_trial", "get_all_trials", "set_trial_state_values"):
        monkeypatch.setattr(storage, name, away)
    assert_trouble_is_one_line(trials, claim, "no such host")


@pytest.mark.parametrize("storage_url", ["postgresql"], indirect=True)
def test_trouble_with_a_database_is_one_line(
    trials: Trials, postgresql_server: PostgreSQL, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (claim,) = trials.claim(2)
    monkeypatch.setattr(module, "RETRY_DELAYS", (0.0,))
    postgresql_server.drop(storage_url)
    monkeypatch.setattr("harness.tuning.retrying_storage.PATIENCE", 0.5)
    assert_trouble_is_one_line(trials, claim, "")


def test_the_best_is_by_the_studys_direction(storage: BaseStorage, tiny: Experiment, tmp_path: Path) -> None:
    for direction, wanted in (("minimize", 0), ("maximize", 1)):
        trials = Trials.create(storage, direction, settings(tiny, direction=direction), tmp_path)
        assert trials
        assert best_trial(trials.study) is None
        for value in (1.0, 2.0):
            (claim,) = trials.claim(3)
            trials.complete(claim, "run", value)
        (claim,) = trials.claim(3)
        trials.report(claim, "run", 1, -9.0 if direction == "minimize" else 9.0)
        trials.prune(claim, "run")  # an intermediate score is no score
        found = best_trial(trials.study)
        assert found
        assert found.number == wanted


@pytest.mark.parametrize("storage_url", ["journal"], indirect=True)
def test_a_line_cut_short_by_a_power_cut_is_mended(trials: Trials, tmp_path: Path, other: Other) -> None:
    (claim,) = trials.claim(2)
    trials.complete(claim, "run", 1.0)
    journal = tmp_path / "optuna.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_id": "half of')
    mended = other()
    (claim,) = mended.claim(2)
    mended.complete(claim, "run", 2.0)
    assert [trial.value for trial in other().all()] == [1.0, 2.0]


def test_what_is_said_of_a_study_counts_each_trial_once(
    trials: Trials, storage_url: str | None, tmp_path: Path
) -> None:
    """Those that diverged are complete, and one that is tried again is not counted."""
    ended = iter(trials.claim(9, 9))
    trials.complete(next(ended), "run", 1.0)
    trials.complete(next(ended), "run", 99.0, diverged="in epoch 1")
    pruned = next(ended)
    trials.report(pruned, "run", 2, 3.0)
    trials.prune(pruned, "run")
    trials.fail(next(ended), "no such layer", retry=False)
    trials.fail(next(ended), "out of luck", retry=True)
    for claim in ended:
        trials.release(claim)
    now = study_progress(trials, 2)
    assert (now.complete, now.pruned, now.failed, now.running) == (2, 1, 1, 0)
    assert (now.ended, now.requested, now.total) == (4, 2, 4)
    assert study_progress(trials, 9).total == 9
    (row,) = studies(storage_url, tmp_path)
    assert (row["complete"], row["pruned"], row["failed"], row["running"]) == (2, 1, 1, 0)
    assert row["waiting"] == 5  # four that were released, and the one that is tried again


def test_a_study_tells_optuna_what_its_values_are(trials: Trials) -> None:
    assert trials.study.metric_names == ["validation/kid"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "expected a name of 1 to 200 characters"),
        ("  ", "expected a name of 1 to 200 characters"),
        ("x" * 201, "expected a name of 1 to 200 characters"),
        ("two\nlines", "in one line"),
        ("\0", "in one line"),
        ("\udcff", "in one line"),
        ("""both ' and " """, "without both kinds of quotation marks"),
    ],
)
def test_a_name_that_no_store_takes_is_refused(name: str, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        check_name(name)
    check_name("any other, as ../a/b or it's \N{FIRE}")
