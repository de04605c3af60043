"""The journal file of studies: Optuna's, with a lock that ends with its process, and damaged lines left out.

The journal is a text file of one JSON record a line; the state of all studies is what its records say, one after the
other. A line that is no record is left out by every process alike, so all of them number trials in the same way. When
a journal is opened, such lines are overwritten with spaces of the same length, after a copy of the file has been made:
no record moves, so a process that is reading the file stays where it was, and plain Optuna can read it again.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, NamedTuple

from filelock import BaseFileLock, FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult

PATIENCE = 5.0  # seconds before somebody who waits for the lock is told so
_OPERATIONS = frozenset(int(operation) for operation in JournalOperation)
_STUDY_ID = re.compile(rb'"study_id": ?([0-9]+)')

Record = dict[str, Any]
Message = Callable[[str], None]


class Span(NamedTuple):
    """Bytes of the journal: from `start` up to `end`, which is not included."""

    start: int
    end: int


class JournalFile(BaseJournalBackend):  # type: ignore[misc]
    """Reads and appends records. damaged: what was left out so far."""

    def __init__(self, path: Path, message: Message) -> None:
        """notice: is given one line when another process holds the lock for long."""
        self.path = path
        self.damaged: list[Span] = []
        self._notice = message
        # The system releases this lock when its process ends, however it ends. Optuna's own lock is a file that
        # outlives a killed process, in a place of its own (optuna.journal.lock), and is not looked at.
        self._lock = FileLock(path.with_name(path.name + ".flock"))
        self._next = (0, 0)  # the number of the record that comes next, and where it begins
        self._replaying: tuple[Record, Span] | None = None
        if not path.exists():
            path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[Record]:
        """The records from that number on. A last line without its end is still being written, and is left for later.

        The caller replays each record before it asks for the next.
        """
        number, place = self._next if self._next[0] <= log_number_from else (0, 0)
        with self.path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start, place = place, place + len(line)
                record, skipped = parse(line)
                if skipped:
                    self._leave_out(Span(start, start + skipped))
                number += record is not None
                self._next = (number, place)
                if record is not None and number > log_number_from:
                    self._replaying = record, Span(start, place)
                    yield record
                    self._replaying = None

    def append_logs(self, logs: list[Record]) -> None:
        """Append records: all of them, or none where the disk is full."""
        text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in logs).encode()
        with self.locked(), self.path.open("ab+", buffering=0) as file:
            _finish_last_line(file)
            start = file.seek(0, os.SEEK_END)
            try:
                _write(file, text)
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(start)
                raise

    def refused(self, worker_id: str) -> bool:
        """After an error: whether the record being replayed is to blame, and not a request of that worker."""
        replaying, self._replaying = self._replaying, None
        if replaying is None or replaying[0]["worker_id"] == worker_id:
            return False
        self._leave_out(replaying[1])
        return True

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """While one process writes, the others wait."""
        return waiting_for(self._lock, f"another process is writing {self.path}: waiting for it", self._notice)

    def mend(self) -> Path:
        """Overwrite what was left out; returns a copy of the file as it was. The lock must be held."""
        copy = _copy(self.path)
        with self.path.open("rb+", buffering=0) as file:
            for span, text in _mended(file.read(), self.damaged).items():
                file.seek(span.start)
                _write(file, text.ljust(span.end - span.start))
            os.fsync(file.fileno())
        return copy

    def _leave_out(self, span: Span) -> None:
        if span not in self.damaged:
            self.damaged.append(span)


class Journal(JournalStorage):  # type: ignore[misc]
    """Optuna's journal storage, which leaves out records that cannot be replayed."""

    def _sync_with_backend(self) -> None:
        while True:
            try:
                super()._sync_with_backend()
                return
            except Exception:
                # A request of our own that is refused (a study that exists, a trial that has ended) is our error.
                if not self._backend.refused(self._replay_result.worker_id):
                    raise


def open_journal(path: Path, message: Message) -> Journal:
    """The studies in the journal at `path`, which is created where it is missing; damaged lines are mended."""
    backend = JournalFile(path, message)
    storage = Journal(backend)
    if not backend.damaged:
        return storage
    count = len(backend.damaged)
    what = f"left out {count} damaged line{'s' if count > 1 else ''} of {path}, and kept all others"
    try:
        with backend.locked():
            backend = JournalFile(path, message)
            storage = Journal(backend)
            if backend.damaged:  # no other process was quicker
                copy = backend.mend()
                message(f"{what}; the file as it was: {copy.name}")
                storage = Journal(JournalFile(path, message))
    except OSError as error:  # the same lines are left out again next time
        message(f"{what}; the file cannot be mended: {error.strerror or error}")
    return storage


@contextlib.contextmanager
def waiting_for(lock: BaseFileLock, text: str, message: Message) -> Iterator[None]:
    """Hold a lock. Whoever waits long for it is told so with `text`."""
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        message(text)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def parse(line: bytes) -> tuple[Record | None, int]:
    """The record in a line, or None; and how many of its bytes, from its beginning, belong to no record.

    A record that was appended to the remains of another is found behind them.
    """
    start = 0
    while start >= 0:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line[start:])
            if _is_record(record):
                return record, start
        start = line.find(b'{"op_code"', start + 1)
    return None, len(line)


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("op_code")) is int
        and value["op_code"] in _OPERATIONS
        and isinstance(value.get("worker_id"), str)
    )


def _finish_last_line(file: FileIO) -> None:
    """A last record that lacks nothing but the end of its line gets it; the first part of a record is cut off."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    text = file.read()
    start = text.rfind(b"\n") + 1
    last = text[start:]
    if parse(last)[0] is not None:
        _write(file, b"\n")
    else:  # spaces are what a damaged line was overwritten with: others may have read beyond it
        file.truncate(start + len(last) - len(last.lstrip(b" ")))


def _write(file: FileIO, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[file.write(rest) :]


def _copy(path: Path) -> Path:
    """A copy of the file beside it, under the first name that is free."""
    number = 1
    while (copy := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    shutil.copyfile(path, copy)
    return copy


def _mended(text: bytes, damaged: list[Span]) -> dict[Span, bytes]:
    """What each damaged span is overwritten with: nothing, or stand-ins for the studies and trials created there.

    Later records name these by numbers that count what was created before. Without stand-ins, each of them would be
    taken for another trial's.
    """
    mended = dict.fromkeys(sorted(damaged), b"")
    while missing := _first_missing(text, mended):
        span, stand_ins = missing
        mended[span] += stand_ins
    return mended


def _first_missing(text: bytes, mended: dict[Span, bytes]) -> tuple[Span, bytes] | None:
    """The first stand-ins that are still needed, and the span before them that has room."""
    patched = bytearray(text)
    for span, stand_ins in mended.items():
        patched[span.start : span.end] = stand_ins.ljust(span.end - span.start)
    replayed, spans, place = JournalStorageReplayResult(""), list(mended), 0
    for line in BytesIO(patched):
        place += len(line)
        record, _ = parse(line)
        if record is None:
            continue
        before = spans[: bisect.bisect(spans, (place,))]
        # The last place is the likeliest, and more so where a creation can still be read.
        for span in sorted(
            before, key=lambda span: (b'"op_code":4' in text[span.start : span.end], span), reverse=True
        ):
            stand_ins = _stand_ins(record, replayed, text[span.start : span.end])
            if not stand_ins:
                break
            if len(mended[span]) + len(stand_ins) <= span.end - span.start:
                return span, stand_ins
        with contextlib.suppress(Exception):  # it is refused by everyone
            replayed.apply_logs([record])
    return None


def _stand_ins(record: Record, replayed: JournalStorageReplayResult, lost: bytes) -> bytes:
    """Records that create what a record names and nobody has created. lost: the damaged bytes."""
    study, trial = (_number(record.get(key)) for key in ("study_id", "trial_id"))
    studies, trials = int(replayed._next_study_id), len(replayed._trials)
    created: list[Record] = []
    if study >= studies and (study - studies) * 64 < len(lost):  # else no such number was ever given
        names = [f"recovered-{number}" for number in range(studies, study + 1)]
        created = [{"op_code": 0, "worker_id": "", "study_name": name, "directions": [1]} for name in names]
    elif trial >= trials and (trial - trials) * 64 < len(lost):
        named = _STUDY_ID.search(lost)
        # Else a new study has lost its first trial, or one that was at work another.
        begun = replayed._study_id_to_trial_ids.get(studies - 1)
        of = int(named[1]) if named else replayed._trial_id_to_study_id[trials - 1] if begun else studies - 1
        created = [{"op_code": 4, "worker_id": "", "study_id": of, "datetime_start": None}] * (trial - trials + 1)
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in created)


def _number(value: Any) -> int:
    return value if type(value) is int else -1
