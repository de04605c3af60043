"""The journal of studies: what damages it, who locks it, and what every process reads in it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from harness.tuning import journal as module
from harness.tuning.journal import Journal, open_journal
from harness.tuning.storage import silence_optuna

State = dict[str, list[tuple[object, ...]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two studies and five trials, of which the last is RUNNING."""
    silence_optuna()
    path = tmp_path / "optuna.journal"
    storage = open_journal(path, print)
    for name, count in (("first", 2), ("second", 3)):
        study = storage.create_new_study([StudyDirection.MINIMIZE], name)
        for number in range(count):
            trial = storage.create_new_trial(study)
            distribution = optuna.distributions.FloatDistribution(0, 9)
            storage.set_trial_param(trial, "x", float(number), distribution)
            storage.set_trial_user_attr(trial, "who", f"{name}-{number}")
            if (name, number) != ("second", 2):
                storage.set_trial_state_values(trial, TrialState.COMPLETE, [number / 2])
    return path


def state(storage: Journal) -> State:
    """All that a storage knows, but for times."""
    return {
        study.study_name: [
            (trial.number, trial.state.name, trial.value, trial.params, trial.user_attrs)
            for trial in storage.get_all_trials(storage.get_study_id_from_name(study.study_name))
        ]
        for study in storage.get_all_studies()
    }


def opened(path: Path) -> tuple[State, list[str]]:
    """What a process that opens the journal knows, and what it is told."""
    said: list[str] = []
    return state(open_journal(path, said.append)), said


DAMAGE = {
    "torn write": b'{"op_code": 5, "wor\n',
    "empty line": b"\n",
    "spaces": b"   \n",
    "merge conflict": b"<<<<<<< HEAD\n=======\n>>>>>>> theirs\n",
    "NUL block": b"\0" * 300 + b"\n",
    "invalid UTF-8": b"\xff\xfe\x80\n",
    "nested too deeply": b"[" * 100_000 + b"\n",
    "a number": b"5\n",
    "no op_code": b"{}\n",
    "unknown op_code": b'{"op_code":99,"worker_id":"x"}\n',
    "op_code true": b'{"op_code":true,"worker_id":"x"}\n',
    "fields missing": b'{"op_code":5,"worker_id":"x"}\n',
    "refused by Optuna": b'{"op_code":0,"worker_id":"x","study_name":"y","directions":[9]}\n',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("where", [0, 8, None], ids=["first", "middle", "last"])
def test_a_damaged_line_is_left_out_and_all_others_stand(path: Path, damage: bytes, where: int | None) -> None:
    known, lines = opened(path)[0], path.read_bytes().splitlines(keepends=True)
    where = len(lines) if where is None else where
    damaged = b"".join([*lines[:where], damage, *lines[where:]])
    path.write_bytes(damaged)
    found, said = opened(path)
    assert found == known
    assert len(said) == 1
    assert "optuna.journal.damaged-1" in said[0]
    assert path.with_name("optuna.journal.damaged-1").read_bytes() == damaged
    assert opened(path) == (known, []), "it is mended, and said once"
    plain = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    assert state(plain) == known, "Optuna can read it, too"


def test_a_second_damage_has_a_copy_of_its_own(path: Path) -> None:
    for number in (1, 2):
        with path.open("ab") as file:
            file.write(b"?\n")
        assert f"optuna.journal.damaged-{number}" in opened(path)[1][0]


@pytest.mark.parametrize("line", range(15))
def test_a_line_that_is_overwritten_takes_no_other_with_it(path: Path, line: int) -> None:
    """A lost creation has to be stood in for: else all later records would be taken for those of other trials."""
    known, lines = opened(path)[0], path.read_bytes().splitlines(keepends=True)
    created = json.loads(lines[line])["op_code"] == 0
    lines[line] = b"\0" * (len(lines[line]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    found, said = opened(path)
    assert len(said) == 1
    before, after = ([trial for trials in all_.values() for trial in trials] for all_ in (known, found))
    assert len(after) == len(before)
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= (0 if created else 1)
    assert len(found.keys() - known.keys()) == created  # what it was called is lost


def test_a_number_that_was_never_given_makes_up_no_trials(path: Path) -> None:
    known = opened(path)[0]
    with path.open("ab") as file:
        file.write(b"?\n" + b'{"op_code":8,"worker_id":"x","trial_id":9999,"user_attr":{"a":1}}\n')
    assert opened(path)[0] == known


def test_a_record_behind_the_remains_of_another_is_kept(path: Path) -> None:
    known, lines = opened(path)[0], path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], b'\0\0{"op_code":4,"wor', *lines[5:]]))
    found, said = opened(path)
    assert (found, len(said)) == (known, 1)


def test_processes_that_have_the_file_open_stay_where_they_are(path: Path) -> None:
    """One has read beyond the damage, one has not; a third mends it; then all write."""
    before = open_journal(path, print)
    with path.open("ab") as file:
        file.write(b"\0" * 500 + b"\n" + b'{"op_code":5,"worker_id":"x"}\n')
    beyond = Journal(module.JournalFile(path, print))
    mended = open_journal(path, lambda _: None)
    storages = [before, beyond, mended]
    for number, storage in enumerate(storages * 2):
        trial = storage.create_new_trial(1)
        storage.set_trial_user_attr(trial, "who", f"new-{number}")
    last, said = opened(path)
    assert said == []
    assert all(state(storage) == last for storage in storages)
    assert [trial[4]["who"] for trial in last["second"][3:]] == [f"new-{number}" for number in range(6)]  # type: ignore[index]


def test_half_a_record_is_cut_off_and_a_whole_one_is_ended(path: Path) -> None:
    known, text = opened(path)[0], path.read_bytes()
    path.write_bytes(text + b'{"op_code":4,"worker_id":"half')
    storage = open_journal(path, print)
    assert state(storage) == known
    path.write_bytes(text.removesuffix(b"\n"))
    storage.set_study_user_attr(0, "a", 1)
    assert path.read_bytes().startswith(text + b"{")
    path.write_bytes(text + b'{"op_code":4,"worker_id":"half')
    open_journal(path, print).set_study_user_attr(0, "a", 2)
    assert path.read_bytes().startswith(text + b"{")
    assert b"half" not in path.read_bytes()
    assert opened(path) == (known, [])


def test_a_full_disk_leaves_no_half_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, text = open_journal(path, print), path.read_bytes()

    def full(file: object, data: bytes) -> None:
        file.write(data[:9])  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", full)
        with pytest.raises(OSError, match="No space"):
            storage.set_study_user_attr(0, "a", 1)
    assert path.read_bytes() == text
    storage.set_study_user_attr(0, "a", 2)
    assert storage.get_study_user_attrs(0) == {"a": 2}


def test_a_journal_that_cannot_be_mended_is_read_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = opened(path)[0]
    with path.open("ab") as file:
        file.write(b"?\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.tuning.journal.shutil.copyfile", full)
    for _ in range(2):
        found, said = opened(path)
        assert found == known
        assert len(said) == 1
        assert said[0].endswith("the file cannot be repaired: No space left on device")


def test_a_request_that_is_refused_is_an_error_still(path: Path) -> None:
    storage = open_journal(path, print)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        storage.create_new_study([StudyDirection.MINIMIZE], "first")
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_user_attr(0, "a", 1)
    assert opened(path) == (state(storage), [])


def test_a_lock_that_a_dead_process_left_is_no_lock(path: Path) -> None:
    path.with_name("optuna.journal.lock").symlink_to("/gone/optuna.journal")  # Optuna's own
    path.with_name("optuna.journal.flock").touch()
    storage = open_journal(path, print)
    storage.set_study_user_attr(0, "a", 1)
    assert storage.get_study_user_attrs(0) == {"a": 1}


def test_whoever_waits_for_a_lock_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_MESSAGE_DELAY", 0.01)
    said, told = [], threading.Event()

    def message(text: str) -> None:
        said.append(text)
        told.set()

    storage = open_journal(path, message)
    with FileLock(path.with_name("optuna.journal.flock")):
        writer = threading.Thread(target=storage.set_study_user_attr, args=(0, "a", 1))
        writer.start()
        assert told.wait(60)
        assert b'"a"' not in path.read_bytes()
    writer.join(60)
    assert said == [f"another process is writing {path}: waiting for it"]
    assert storage.get_study_user_attrs(0) == {"a": 1}
