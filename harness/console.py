"""Standard output and standard error whose write errors do not end a command.

A write that fails must not end a training. `install` replaces both streams by a `SafeStream`, which discards all text
after an error. Characters that the encoding lacks are replaced by similar ones. When the terminal disappears, the
output continues in a log file, if the command has named one (`continue_in`).
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

# Relative, so that a log stays in the working directory even if that is renamed.
LOGS = Path("mlruns/logs")

_READABLE = "harness.readable"  # the name of our handler among Python's codec errors: "strict", "replace", ...
_SIMILAR = {"±": "+/-", "·": "-", "×": "x", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=", "•": "*", "µ": "u"}  # noqa: RUF001
_SIMILAR |= {"‘": "'", "’": "'", "“": '"', "”": '"', "▀": "#", "█": "#"}  # noqa: RUF001


class SafeStream(io.TextIOBase):
    """A text stream over another one. Its writes never raise OSError or UnicodeEncodeError.

    There is no attribute `buffer` on purpose: click would write UTF-8 to it where the encoding is ASCII.

    Attributes:
        error: The first error; from then on everything is discarded.
    """

    def __init__(self, stream: TextIO, report: Callable[[str], None] | None = None) -> None:
        """report: called with one line after an error that the user should know."""
        self._stream, self._report = stream, report
        self._terminal = stream.isatty()
        self.error: OSError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_READABLE)

    # typeshed declares these two as plain attributes, which they are not.
    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream below."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What the stream below does with characters that its encoding lacks."""
        return self._stream.errors

    def writable(self) -> bool:
        """Whether text can be written: always."""
        return True

    def isatty(self) -> bool:
        """Whether this is a terminal that can still be written to."""
        return self.error is None and self._stream.isatty()

    def fileno(self) -> int:
        """Return the file descriptor of the stream below."""
        return self._stream.fileno()

    def close(self) -> None:
        """Do nothing: Python closes the stream below."""

    def write(self, text: str) -> int:
        """Write text, or discard it after an error; return its length either way."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream below, unless there was an error."""
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self.error is None:
            try:
                action()
            except BlockingIOError:
                pass  # a pipe in non-blocking mode is full: this text is lost, the next may not be
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        with _lock:
            if self.error is not None:
                return
            self.error = error
            terminal = error.errno == errno.EIO and self._terminal
            if (terminal or (_hung_up and error.errno == errno.EPIPE)) and leave_terminal():
                self.flush()  # what could not be written is still in the buffers
                return
            with suppress(OSError, ValueError):  # Python flushes them at exit: let that succeed
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.fileno())
                os.close(null)
        if self._report is not None and not terminal and error.errno not in {errno.EPIPE, errno.EBADF}:
            self._report(f"cannot write standard output: {error.strerror or error}; continuing without it")

    @property
    def has_no_reader(self) -> bool:
        """Whether the output has no reader after the terminal was closed: a terminal, or a closed pipe (`| tee`)."""
        return self._terminal or (self.error is not None and self.error.errno == errno.EPIPE)

    def move_to(self, file: int) -> None:
        """Continue in this open file."""
        os.dup2(file, self.fileno())
        self._terminal, self.error = False, None


_lock = threading.RLock()
_streams: list[SafeStream] = []  # standard output and standard error, once installed
_hung_up = False


def install() -> None:
    """Make sys.stdout and sys.stderr safe, before anything is printed. Calling it again changes nothing."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed from the start (`>&-`): the next file that is opened must not take its place
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    error = _safe(sys.stderr)
    _streams[:] = [
        _safe(sys.stdout, lambda line: print(f"harness: {line}", file=cast(TextIO, error), flush=True)),
        error,
    ]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in _streams)


def _safe(stream: TextIO | None, report: Callable[[str], None] | None = None) -> SafeStream:
    if isinstance(stream, SafeStream):
        return stream
    return SafeStream(Path(os.devnull).open("w", encoding="utf-8") if stream is None else stream, report)


def to_stderr(text: str) -> None:
    """Print a message to standard error."""
    print(text, file=sys.stderr, flush=True)


def output_failed() -> bool:
    """Whether standard output could not be written. A reader that closed its pipe (`| head`) does not count."""
    return any(stream.error is not None and stream.error.errno != errno.EPIPE for stream in _streams[:1])


# When the terminal disappears ----------------------------------------------------------------------------------------


@dataclass
class Log:
    """The file in which output continues.

    Attributes:
        path: The file.
        title: Its first line.
        failed: Called once when it cannot be written.
        given_up: Whether `failed` was called.
    """

    path: Path
    title: str
    failed: Callable[[], None]
    given_up: bool = False


_log: Log | None = None


def log_path(command: str) -> Path:
    """Return the path of this process's log file: mlruns/logs/COMMAND-TIME-PID.log."""
    return LOGS / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"


def current_log() -> Log | None:
    """Return the log in which output continues when the terminal disappears; None where there is none."""
    return _log


@contextmanager
def continue_in(log: Log | None) -> Iterator[None]:
    """While the block lasts, the output continues in this log when the terminal disappears."""
    global _log
    before, _log = _log, log
    try:
        yield
    finally:
        _log = before


def leave_terminal() -> bool:
    """Continue in the log, where there is one; return False when that is impossible.

    For signal handlers: it writes to no buffered stream, since the signal may have interrupted that very stream.
    """
    global _hung_up
    log = _log
    if log is None:
        return False
    with _lock:
        _hung_up = True
        try:
            _move_to(log)
        except OSError:
            if not log.given_up:
                log.given_up = True
                log.failed()
            return False
    return True


def _move_to(log: Log) -> None:
    closed = [stream for stream in _streams if stream.has_no_reader]
    if not closed:
        return
    log.path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        if os.fstat(file).st_size == 0:
            os.write(file, f"{log.title}\n".encode("utf-8", "replace"))
        for stream in closed:
            stream.move_to(file)
    finally:
        os.close(file)


# What an encoding lacks ----------------------------------------------------------------------------------------------


def readable(text: str, encoding: str) -> str:
    """Return `text` as a SafeStream of this encoding shows it."""
    return text.encode(encoding, _READABLE).decode(encoding, "surrogateescape")


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _similar(error.object[error.start]), error.start + 1


def _similar(character: str) -> str | bytes:
    """ASCII that looks like this character; the byte itself for one that Python could not decode (PEP 383)."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00])
    if 0x2500 <= code <= 0x257F:  # box drawing
        return {"─": "-", "━": "-", "═": "-", "│": "|", "┃": "|", "║": "|"}.get(character, "+")
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()  # é: e, ½: 12
    return _SIMILAR.get(character) or plain or "?"


codecs.register_error(_READABLE, _replacement)
