"""Optuna's journal file, with a lock that a killed process releases, and with damaged lines skipped.

The journal is a text file with one JSON record per line; replaying the records gives the state of all studies. Every
process skips the same damaged lines, so all of them number trials in the same way. When a journal is opened, damaged
lines are overwritten with spaces, after a copy of the file was made. No record moves, so processes that read the file
can continue, and plain Optuna can read it, too.
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

LOCK_MESSAGE_DELAY = 5.0  # seconds of waiting for the lock before a message
_OPERATIONS = frozenset(int(operation) for operation in JournalOperation)
_STUDY_ID = re.compile(rb'"study_id": ?([0-9]+)')

Record = dict[str, Any]
Message = Callable[[str], None]


class Span(NamedTuple):
    """A range of bytes in the journal, without the byte at `end`."""

    start: int
    end: int


class JournalFile(BaseJournalBackend):  # type: ignore[misc]
    """Reads and appends records.

    Attributes:
        damaged: The damaged parts that were skipped so far.
    """

    def __init__(self, path: Path, message: Message) -> None:
        """message: called with one line if another process holds the lock for long."""
        self.path = path
        self.damaged: list[Span] = []
        self._message = message
        # The operating system releases this lock when its process ends or is killed. Optuna's lock file
        # (optuna.journal.lock) would stay after a kill, and is not used.
        self._lock = FileLock(path.with_name(path.name + ".flock"))
        self._next = (0, 0)  # number and offset of the next record
        self._replaying: tuple[Record, Span] | None = None
        if not path.exists():
            path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[Record]:
        """Yield the records from that number on. The caller replays each record before it requests the next one.

        A last line without a line break is still being written, and is not read yet.
        """
        number, position = self._next if self._next[0] <= log_number_from else (0, 0)
        with self.path.open("rb") as file:
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start, position = position, position + len(line)
                record, skipped = parse_line(line)
                if skipped:
                    self._skip(Span(start, start + skipped))
                number += record is not None
                self._next = (number, position)
                if record is not None and number > log_number_from:
                    self._replaying = record, Span(start, position)
                    yield record
                    self._replaying = None

    def append_logs(self, logs: list[Record]) -> None:
        """Append all records, or none if the disk is full."""
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

    def skip_failed(self, worker_id: str) -> bool:
        """After an error, skip the record that was being replayed. Returns False if that worker has written it."""
        replaying, self._replaying = self._replaying, None
        if replaying is None or replaying[0]["worker_id"] == worker_id:
            return False
        self._skip(replaying[1])
        return True

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of the journal while the block lasts."""
        return hold_lock(self._lock, f"another process is writing {self.path}: waiting for it", self._message)

    def repair(self) -> Path:
        """Overwrite the damaged parts; return the copy of the damaged file. The caller holds the lock."""
        copy = _copy(self.path)
        with self.path.open("rb+", buffering=0) as file:
            for span, text in _replacements(file.read(), self.damaged).items():
                file.seek(span.start)
                _write(file, text.ljust(span.end - span.start))
            os.fsync(file.fileno())
        return copy

    def _skip(self, span: Span) -> None:
        if span not in self.damaged:
            self.damaged.append(span)


class Journal(JournalStorage):  # type: ignore[misc]
    """Optuna's journal storage, which skips records that cannot be replayed."""

    def _sync_with_backend(self) -> None:
        while True:
            try:
                super()._sync_with_backend()
                return
            except Exception:
                # Raise errors of this process's own records, such as a study that exists or a trial that has ended.
                if not self._backend.skip_failed(self._replay_result.worker_id):
                    raise


def open_journal(path: Path, message: Message) -> Journal:
    """Open the journal at `path`, which is created if it is missing. Damaged lines are overwritten."""
    backend = JournalFile(path, message)
    storage = Journal(backend)
    if not backend.damaged:
        return storage
    count = len(backend.damaged)
    what = f"skipped {count} damaged line{'s' if count > 1 else ''} of {path}, and kept all others"
    try:
        with backend.locked():
            backend = JournalFile(path, message)
            storage = Journal(backend)
            if backend.damaged:  # no other process has repaired it in the meantime
                copy = backend.repair()
                message(f"{what}; copy of the damaged file: {copy.name}")
                storage = Journal(JournalFile(path, message))
    except OSError as error:  # the same lines are skipped next time
        message(f"{what}; the file cannot be repaired: {error.strerror or error}")
    return storage


@contextlib.contextmanager
def hold_lock(lock: BaseFileLock, text: str, message: Message) -> Iterator[None]:
    """Hold a lock while the block lasts. After LOCK_MESSAGE_DELAY of waiting, call `message` with `text`."""
    try:
        lock.acquire(timeout=LOCK_MESSAGE_DELAY)
    except Timeout:
        message(text)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def parse_line(line: bytes) -> tuple[Record | None, int]:
    """Return the record in a line, or None, and the number of damaged bytes before it.

    A record may follow the rest of a damaged one in the same line.
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
    """Append the line break that a complete last record lacks, or cut off an incomplete last record."""
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
    if parse_line(last)[0] is not None:
        _write(file, b"\n")
    else:  # keep the spaces of an overwritten line: other processes may have read beyond them
        file.truncate(start + len(last) - len(last.lstrip(b" ")))


def _write(file: FileIO, text: bytes) -> None:
    remaining = memoryview(text)
    while remaining:
        remaining = remaining[file.write(remaining) :]


def _copy(path: Path) -> Path:
    """Copy the file to `NAME.damaged-1`, or the next free number."""
    number = 1
    while (copy := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    shutil.copyfile(path, copy)
    return copy


def _replacements(text: bytes, damaged: list[Span]) -> dict[Span, bytes]:
    """What to write over each damaged span: nothing, or placeholders for the studies and trials created there.

    Later records refer to studies and trials by number, in the order of their creation. Without placeholders these
    numbers would refer to others.
    """
    replacements = dict.fromkeys(sorted(damaged), b"")
    while missing := _first_missing(text, replacements):
        span, placeholders = missing
        replacements[span] += placeholders
    return replacements


def _first_missing(text: bytes, replacements: dict[Span, bytes]) -> tuple[Span, bytes] | None:
    """The first placeholders that are still needed, and a span before them with enough room."""
    patched = bytearray(text)
    for span, placeholders in replacements.items():
        patched[span.start : span.end] = placeholders.ljust(span.end - span.start)
    replayed, spans, position = JournalStorageReplayResult(""), list(replacements), 0
    for line in BytesIO(patched):
        position += len(line)
        record, _ = parse_line(line)
        if record is None:
            continue
        before = spans[: bisect.bisect(spans, (position,))]
        # The last span is the most likely one, before all a span in which a creation can still be read.
        for span in sorted(
            before, key=lambda span: (b'"op_code":4' in text[span.start : span.end], span), reverse=True
        ):
            placeholders = _placeholders(record, replayed, text[span.start : span.end])
            if not placeholders:
                break
            if len(replacements[span]) + len(placeholders) <= span.end - span.start:
                return span, placeholders
        with contextlib.suppress(Exception):  # every process skips it
            replayed.apply_logs([record])
    return None


def _placeholders(record: Record, replayed: JournalStorageReplayResult, lost: bytes) -> bytes:
    """Records that create the study or trial that `record` refers to, if it is missing. lost: the damaged bytes."""
    study, trial = (_number(record.get(key)) for key in ("study_id", "trial_id"))
    studies, trials = int(replayed._next_study_id), len(replayed._trials)
    created: list[Record] = []
    if study >= studies and (study - studies) * 64 < len(lost):  # else the number itself is damaged
        names = [f"recovered-{number}" for number in range(studies, study + 1)]
        created = [{"op_code": 0, "worker_id": "", "study_name": name, "directions": [1]} for name in names]
    elif trial >= trials and (trial - trials) * 64 < len(lost):
        named = _STUDY_ID.search(lost)
        # Otherwise the first trial of a new study is lost, or another trial of the study used last.
        has_trials = replayed._study_id_to_trial_ids.get(studies - 1)
        of = int(named[1]) if named else replayed._trial_id_to_study_id[trials - 1] if has_trials else studies - 1
        created = [{"op_code": 4, "worker_id": "", "study_id": of, "datetime_start": None}] * (trial - trials + 1)
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in created)


def _number(value: Any) -> int:
    return value if type(value) is int else -1
