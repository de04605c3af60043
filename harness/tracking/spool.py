"""The spool of one run on the disk: the logged events, and how many of them are shipped.

meta.json       the run, the process that writes it, and the store without a password. `before`: the earlier state of
                a resumed run, until it changes
events.jsonl    one line per event, only appended
shipped.json    number of shipped bytes of events.jsonl
refused.jsonl   events that the store refuses, each with the reason
reported.jsonl  refused events that a command has reported: each is reported once
files/          files of the events: images, texts, models
checkpoints/    files of the caller, which stay after shipping; other files of the caller are deleted
lock            held while a process writes or ships
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
    """The folder of one run. Any thread may append; only one may ship, while it holds the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal: FileIO | None = None
        self._writing = threading.Lock()
        self._lock = FileLock(folder / "lock", thread_local=False)
        self.shipped, self.status = self._read_progress()

    def acquire(self) -> bool:
        """Acquire the folder's lock without waiting; return False if another process or RunLog holds it."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except NotImplementedError:
            pass  # a cluster file system without locks: shipping twice is harmless
        self.shipped, self.status = self._read_progress()
        return True

    def release(self) -> None:
        """Close the journal and release the lock."""
        if self._journal:
            self._journal.close()
            self._journal = None
        self._lock.release(force=True)

    def is_locked(self) -> bool:
        """Whether a process holds the lock."""
        if not self.folder.is_dir() or not self.acquire():
            return self.folder.is_dir()
        self.release()
        return False

    def last_logged_ms(self) -> int:
        """Return the time of the last event, in milliseconds since 1970; now, if it is not known."""
        try:
            return int((self.folder / "events.jsonl").stat().st_mtime * 1000)
        except FileNotFoundError:
            return int(time.time() * 1000)

    def read_meta(self) -> dict[str, Any]:
        """Return the contents of meta.json; empty if it cannot be read."""
        try:
            meta = json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return meta if isinstance(meta, dict) else {}

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Write meta.json to the disk (fsync)."""
        with atomic_write(self.folder / "meta.json", durable=True) as fresh:
            fresh.write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def delete_before(self) -> None:
        """Delete the earlier state of a resumed run from meta.json: it is not restored any more."""
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
            event: Its `kind` determines the other keys; see event_writer.
            durable: Write it to the disk (fsync).

        Raises:
            OSError: The disk is full or missing; an incomplete line is removed.
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
        """Write all events to the disk (fsync). Raises OSError if the disk is missing."""
        with self._writing:
            os.fsync((self._journal or self._open_journal()).fileno())

    def _open_journal(self) -> FileIO:
        path = self.folder / "events.jsonl"
        journal = FileIO(path, "ab")
        # Remove an incomplete last line, which a killed process may have left.
        whole = path.read_bytes().rfind(b"\n") + 1
        journal.truncate(whole)
        journal.seek(whole)
        self._journal = journal
        return journal

    def pending(self, start: int | None = None) -> list[Entry]:
        """Return the next events to ship, in order: at least one, and about 1 MB at most.

        Args:
            start: An offset in the journal; by default, the end of the shipped part.
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
        """Record which part is shipped.

        Args:
            end: The offset in the journal before which everything is shipped.
            status: The run's final status, once that is shipped.
        """
        self.shipped = end
        self.status = status
        # Not durable: after a power cut, some events are shipped again, which is harmless.
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
        """Record a refused event, once, with the reason."""
        if event not in [refused for refused, _ in self.refused()]:
            with (self.folder / "refused.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps({"event": event, "reason": reason}) + "\n")

    def refused(self) -> list[tuple[Event, str]]:
        """Return the refused events, each with its reason."""
        try:
            lines = (self.folder / "refused.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        # An incomplete line is from a crash before the event was recorded as shipped: it is refused once more.
        return [_parse_refused(line) for line in lines if line.endswith(b"}")]

    def unreported_refusals(self) -> list[tuple[Event, str]]:
        """Return the refused events that no command has reported yet, and count them as reported."""
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
        """Append the refused events to the journal again."""
        for event, _ in self.refused():
            self.append(event)
        (self.folder / "refused.jsonl").unlink(missing_ok=True)

    def new_folder(self) -> Path:
        """Create and return a new folder below files/."""
        folder = self.folder / "files" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    def clear(self) -> None:
        """Delete the shipped events and all files, except checkpoints and refused events."""
        with self._writing:
            if self._journal:
                self._journal.close()
                self._journal = None
            # Delete the progress first: without it, events are only shipped again. The reverse would hide new events.
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

    def clean_up(self) -> None:
        """Clean up after a run that has ended and is shipped. Checkpoints stay, unless it is FINISHED."""
        finished = self.status == "FINISHED"
        self.clear()
        if not self.refused() and (finished or not (self.folder / "checkpoints").exists()):
            self.remove()

    def remove(self) -> None:
        """Delete the whole folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _parse(line: bytes) -> Event:
    """The event in a line; a damaged line becomes an event of the kind 'unreadable'."""
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
