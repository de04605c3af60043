"""The spool of one run on the disk: what was logged, and how much of it the store already has.

meta.json       which run this is, whose process writes it, which store it belongs to; no password. `before`: how a
                resumed run stood, until it changes
events.jsonl    one line a call, appended and never rewritten
shipped.json    how many bytes of events.jsonl are in the store
refused.jsonl   events that the store does not want, each with the reason
reported.jsonl  those of them that a command has reported: each is reported once
files/          what the events refer to: images, texts, models
checkpoints/    the caller's, as is everything else; only checkpoints outlive the shipping
lock            held for as long as a process writes or ships
"""

import errno
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from harness.files import atomic_write

Event = dict[str, Any]

_CHUNK = 1_000_000  # bytes read at a time, so that hours of backlog are not held in memory


class Entry(NamedTuple):
    """An event, and the offset in events.jsonl just after it."""

    event: Event
    end: int


class Spool:
    """The folder of one run. Append from any thread; ship from one, and only while the lock is held."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal: FileIO | None = None
        self._writing = threading.Lock()
        self._lock = FileLock(folder / "lock", thread_local=False)
        self.shipped, self.status = self._read_progress()

    def acquire(self) -> bool:
        """Take the folder's lock without waiting; False when another process, or another RunLog here, has it."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except NotImplementedError:
            pass  # a cluster file system without locks: two ships at once repeat each other, which does no harm
        self.shipped, self.status = self._read_progress()
        return True

    def release(self) -> None:
        """Close the journal and release the lock."""
        if self._journal:
            self._journal.close()
            self._journal = None
        self._lock.release(force=True)

    def is_locked(self) -> bool:
        """Whether somebody holds the lock."""
        if not self.folder.is_dir() or not self.acquire():
            return self.folder.is_dir()
        self.release()
        return False

    def last_logged_ms(self) -> int:
        """Return when something was last logged, in milliseconds since 1970; now, if that is not known."""
        try:
            return int((self.folder / "events.jsonl").stat().st_mtime * 1000)
        except FileNotFoundError:
            return int(time.time() * 1000)

    def read_meta(self) -> dict[str, Any]:
        """Return what meta.json says; empty when there is none that can be read."""
        try:
            meta = json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return meta if isinstance(meta, dict) else {}

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Write meta.json, and see it on the disk."""
        with atomic_write(self.folder / "meta.json", durable=True) as fresh:
            fresh.write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def forget_before(self) -> None:
        """Remove from meta.json how the run stood before it was resumed: there is no way back to it."""
        meta = self.read_meta()
        if meta.pop("before", None) is not None:
            self.write_meta(meta)

    @property
    def end(self) -> int:
        """The length of the journal in bytes."""
        try:
            return (self.folder / "events.jsonl").stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def fully_shipped(self) -> bool:
        """Whether the store has everything, and has refused nothing."""
        return self.shipped >= self.end and not self.refused()

    def append(self, event: Event, *, durable: bool = False) -> None:
        """Append one event to the journal. Takes some 20 microseconds.

        Args:
            event: Its `kind` says what else it has; see event_writer.
            durable: See it on the disk, too, which takes an fsync.

        Raises:
            OSError: The disk is full or gone; a line that was half written is taken back.
        """
        line = json.dumps(event).encode() + b"\n"
        with self._writing:
            journal = self._journal or self._open_journal()
            start = journal.tell()
            try:
                if journal.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
                if durable:
                    os.fsync(journal.fileno())
            except OSError:
                journal.truncate(start)
                journal.seek(start)
                raise

    def sync(self) -> None:
        """See every event on the disk (fsync). Raises OSError when the disk is gone."""
        with self._writing:
            os.fsync((self._journal or self._open_journal()).fileno())

    def _open_journal(self) -> FileIO:
        path = self.folder / "events.jsonl"
        journal = FileIO(path, "ab")
        # A process that was killed while it wrote leaves half a line, which the next one must not be glued to.
        whole = path.read_bytes().rfind(b"\n") + 1
        journal.truncate(whole)
        journal.seek(whole)
        self._journal = journal
        return journal

    def pending(self, start: int | None = None) -> list[Entry]:
        """Return the next events that the store does not have, in order: at least one, and up to 1 MB of them.

        Args:
            start: An offset in the journal; by default, what is shipped.
        """
        entries = []
        position = begin = self.shipped if start is None else start
        try:
            journal = (self.folder / "events.jsonl").open("rb")
        except FileNotFoundError:
            return []
        with journal:
            journal.seek(begin)
            while position - begin < _CHUNK and (line := journal.readline()).endswith(b"\n"):
                position += len(line)
                entries.append(Entry(_parse(line), position))
        return entries

    def all_pending(self) -> Iterator[Event]:
        """Yield every event that the store does not have yet."""
        position = self.shipped
        while entries := self.pending(position):
            yield from (entry.event for entry in entries)
            position = entries[-1].end

    def mark_shipped(self, end: int, status: str | None) -> None:
        """Record how much is shipped.

        Args:
            end: The offset in the journal before which everything is shipped.
            status: The run's final status, once that is shipped.
        """
        self.shipped = end
        self.status = status
        # Not durable: after a power cut the journal is shipped again from an earlier place, which does no harm.
        with atomic_write(self.folder / "shipped.json") as fresh:
            fresh.write_text(json.dumps({"offset": end, "status": status}), encoding="utf-8")

    def _read_progress(self) -> tuple[int, str | None]:
        try:
            progress = json.loads((self.folder / "shipped.json").read_text(encoding="utf-8"))
            offset, status = int(progress["offset"]), progress["status"]
            return (offset, status) if offset <= self.end else (0, None)
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None

    def refuse(self, event: Event, reason: str) -> None:
        """Set an event aside, once, with the reason why the store does not take it."""
        if event not in [refused for refused, _ in self.refused()]:
            with (self.folder / "refused.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps({"event": event, "reason": reason}) + "\n")

    def refused(self) -> list[tuple[Event, str]]:
        """Return the events that were set aside, each with its reason."""
        try:
            lines = (self.folder / "refused.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        # Half a line comes of a crash before its event was noted as dealt with: that event is refused once more.
        return [_parse_refused(line) for line in lines if line.endswith(b"}")]

    def unreported_refusals(self) -> list[tuple[Event, str]]:
        """Return the events set aside that no command has reported yet; from now on they count as reported."""
        path = self.folder / "reported.jsonl"
        try:
            reported = set(path.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError):
            reported = set()
        new = {json.dumps(event, sort_keys=True): (event, reason) for event, reason in self.refused()}
        new = {line: refusal for line, refusal in new.items() if line not in reported}
        if new:
            with path.open("a", encoding="utf-8") as out:
                out.writelines(f"{line}\n" for line in new)
        return list(new.values())

    def retry_refused(self) -> None:
        """Put the events that were set aside back at the end of the journal."""
        for event, _ in self.refused():
            self.append(event)
        (self.folder / "refused.jsonl").unlink(missing_ok=True)

    def new_folder(self) -> Path:
        """Create and return a new folder below files/."""
        folder = self.folder / "files" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    def clear(self) -> None:
        """Delete the events and all files, which are in the store; checkpoints, and what was refused, stay."""
        with self._writing:
            if self._journal:
                self._journal.close()
                self._journal = None
            # The progress goes first: a journal without it is only shipped again, the reverse would hide new events.
            (self.folder / "shipped.json").unlink(missing_ok=True)
            (self.folder / "events.jsonl").unlink(missing_ok=True)
            self.shipped, self.status = 0, None
        retained = {"meta.json", "refused.jsonl", "reported.jsonl", "checkpoints", "lock"}
        retained |= {part for event, _ in self.refused() for part in Path(event.get("file", "")).parts[:1]}
        for path in [path for path in self.folder.glob("*") if path.name not in retained]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Tidy up after a run that has ended and is shipped: its checkpoints stay unless it is FINISHED."""
        finished = self.status == "FINISHED"
        self.clear()
        if not self.refused() and (finished or not (self.folder / "checkpoints").exists()):
            self.remove()

    def remove(self) -> None:
        """Delete the whole folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _parse(line: bytes) -> Event:
    """The event in a line; a line that a power cut has spoiled becomes an event of the kind 'unreadable'."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    known = isinstance(event, dict) and "kind" in event
    return event if known else {"kind": "unreadable", "line": line.decode(errors="replace").strip()}


def _parse_refused(line: bytes) -> tuple[Event, str]:
    try:
        refusal = json.loads(line)
        if "kind" in refusal["event"]:
            return dict(refusal["event"]), str(refusal["reason"])
    except (ValueError, KeyError, TypeError):
        pass
    return {"kind": "unreadable", "line": line.decode(errors="replace")}, "this line cannot be read"
