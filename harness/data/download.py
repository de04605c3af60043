"""Downloads: from several hosts in turn, with a checksum, resumed where they were interrupted."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from harness.data.progress import progress_messages
from harness.data.source import Message, cache_write_error
from harness.errors import HarnessError

TIMEOUT = 30.0  # seconds without an answer of the host
ATTEMPTS = 3  # connections to a host whose transfers are interrupted
RETRY_DELAY = 1.0  # seconds between them
CHUNK = 2**16  # bytes
REPORTED_SIZE = 1_000_000  # bytes; the progress of larger files is reported


@dataclass(frozen=True)
class Remote:
    """A file to download.

    Attributes:
        path: The path below the cache folder, and below `HARNESS_MIRROR`.
        md5: The published checksum.
        urls: The published addresses, in the order in which they are tried.
    """

    path: str
    md5: str
    urls: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file name."""
        return self.path.rpartition("/")[2]


class _DownloadError(Exception):
    """A host did not send the file. The text follows the name of the host in the message."""


def mirror() -> str | None:
    """Return the address that is tried before all others: the environment variable `HARNESS_MIRROR`, or None.

    It serves the files of a cache folder under the same paths, so any machine with such a folder can be a mirror.

    Raises:
        HarnessError: it is not an HTTP address.
    """
    chosen = os.environ.get("HARNESS_MIRROR")
    if chosen and not chosen.startswith(("http://", "https://")):
        raise HarnessError(f"HARNESS_MIRROR is {chosen!r}; expected an address such as http://host:8000")
    return chosen.rstrip("/") if chosen else None


def fetch(remote: Remote, cache: Path, message: Message) -> Path:
    """Return the path of the file below `cache`, after downloading it if it is missing.

    Only one process at a time may call it. An interrupted download is kept as `.part` and resumed the next time.

    Raises:
        HarnessError: The file is damaged, or all hosts failed. The message says where to put it by hand.
    """
    target = cache / remote.path
    if target.exists():
        if (found := _md5(target)) != remote.md5:
            raise HarnessError(
                f"{target} is not the published file: MD5 {found[:12]}, expected {remote.md5[:12]}; "
                "delete it; it is then downloaded again"
            )
        return target
    base = mirror()
    part = target.with_name(f"{target.name}.part")
    errors = []
    try:
        for url in (*([f"{base}/{remote.path}"] if base else []), *remote.urls):
            try:
                _download(url, part, remote.md5, message)
                part.replace(target)
                return target
            except _DownloadError as error:
                errors.append(f"{urlsplit(url).hostname} {error}")
    except OSError as error:  # of the disk: network errors are _DownloadError
        raise cache_write_error(target.parent, error) from error
    size = _size(part)
    retry = f"run again to resume after {_format_size(size)}" if size else "try again later"
    raise HarnessError(
        f"cannot download {remote.name}: {'; '.join(errors)}. Without a network, copy it from {remote.urls[0]} into "
        f"{target.parent}, or set HARNESS_MIRROR (docs/data.md); else {retry}"
    )


def _download(url: str, part: Path, md5: str, message: Message) -> None:
    """Download a file from one host, after the bytes that `part` has. A file with a wrong checksum is deleted.

    Raises:
        _DownloadError: the host failed.
    """
    message(f"downloading {url.rpartition('/')[2]} from {urlsplit(url).hostname}")
    attempts = 0
    while True:
        start = _size(part)
        try:
            _transfer(url, part, start, message)
        except _DownloadError:
            attempts += 1
            if attempts == ATTEMPTS or _size(part) <= start:
                raise
            time.sleep(RETRY_DELAY)
            continue
        if (found := _md5(part)) == md5:
            return
        part.unlink()
        if not start:
            raise _DownloadError(f"sent another file (MD5 {found[:12]}, expected {md5[:12]})")
        # The first bytes may come from another file or host: start again.


def _transfer(url: str, part: Path, start: int, message: Message) -> None:
    """Append what follows the first `start` bytes to `part`, or rewrite it if the host sends the whole file."""
    headers = {"User-Agent": "harness", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return  # the file is complete; its checksum is tested next
        raise _DownloadError(f"answers {error.code} {error.reason}") from error
    except (URLError, OSError, HTTPException, ValueError) as error:
        raise _DownloadError(f"cannot be reached ({getattr(error, 'reason', error)})") from error
    with response:
        if response.status == 206:
            if not str(response.headers.get("Content-Range")).startswith(f"bytes {start}-"):
                raise _DownloadError("sends another part of the file than requested")
        else:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        report_progress = progress_messages(message, f"downloading {url.rpartition('/')[2]}")
        done = start
        with part.open("ab" if start else "wb") as file:
            while True:
                try:
                    chunk = response.read1(CHUNK)
                except (OSError, HTTPException) as error:
                    raise _DownloadError(
                        f"broke off after {_format_size(done)} ({error or type(error).__name__})"
                    ) from error
                if not chunk:
                    break
                file.write(chunk)
                done += len(chunk)
                if total and total >= REPORTED_SIZE:
                    report_progress(done / total)
    if total and done < total:
        raise _DownloadError(f"broke off after {_format_size(done)} of {_format_size(total)}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _format_size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size:,} bytes"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
