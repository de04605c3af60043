"""Files from the network: from several hosts in turn, checked, and gone on with where they broke off."""

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

from harness.data.base import Message, unwritable
from harness.data.progress import tenths
from harness.errors import HarnessError

PATIENCE = 30.0  # seconds that a host may be silent
ATTEMPTS = 3  # how often a host that sends something, then breaks off, is asked to go on
PAUSE = 1.0  # seconds before it is asked again
PIECE = 2**16  # bytes
LARGE = 1_000_000  # bytes from which on a file takes long enough for a word about how far it is


@dataclass(frozen=True)
class Remote:
    """A file to download.

    place: where it lies below the cache folder, and below `HARNESS_MIRROR` alike.
    md5: of its content, as published.
    urls: where it is published, in the order in which they are tried.
    """

    place: str
    md5: str
    urls: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.place.rpartition("/")[2]


class _Fault(Exception):
    """Why a host did not give the file; in words that follow its name."""


def mirror() -> str | None:
    """The address that is asked before all others: the environment variable `HARNESS_MIRROR`.

    Below it lies what lies below a cache folder, so that any machine that has the files can serve them.
    """
    chosen = os.environ.get("HARNESS_MIRROR")
    if chosen and not chosen.startswith(("http://", "https://")):
        raise HarnessError(f"HARNESS_MIRROR is {chosen!r}; expected an address such as http://host:8000")
    return chosen.rstrip("/") if chosen else None


def fetch(remote: Remote, cache: Path, message: Message) -> Path:
    """The file in its place below `cache`: what lies there already, else downloaded. One process at a time.

    What has come of a file that broke off is kept beside it as `.part`, and gone on with next time. Raises
    HarnessError, one line that says how each host failed and where to put the file by hand.
    """
    target = cache / remote.place
    if target.exists():
        if (found := _md5(target)) != remote.md5:
            raise HarnessError(
                f"{target} is not the published file: MD5 {found[:12]}, expected {remote.md5[:12]}; "
                "delete it, and it is downloaded anew"
            )
        return target
    base = mirror()
    part = target.with_name(f"{target.name}.part")
    faults = []
    try:
        for url in (*([f"{base}/{remote.place}"] if base else []), *remote.urls):
            try:
                _download(url, part, remote.md5, message)
                part.replace(target)
                return target
            except _Fault as fault:
                faults.append(f"{urlsplit(url).hostname} {fault}")
    except OSError as error:  # what the network did wrong is a _Fault by now
        raise unwritable(target.parent, error) from error
    kept = f"run again to go on from the {_amount(size)} that have come" if (size := _size(part)) else "try again later"
    raise HarnessError(
        f"cannot download {remote.name}: {'; '.join(faults)}. Without a network, copy it from {remote.urls[0]} into "
        f"{target.parent}, or set HARNESS_MIRROR (docs/data.md); else {kept}"
    )


def _download(url: str, part: Path, md5: str, message: Message) -> None:
    """Fill `part` from one host, beginning where it ends. Raises _Fault; a file with a wrong checksum is not kept."""
    message(f"downloading {url.rpartition('/')[2]} from {urlsplit(url).hostname}")
    attempts = 0
    while True:
        kept = _size(part)
        try:
            _transfer(url, part, kept, message)
        except _Fault:
            attempts += 1
            if attempts == ATTEMPTS or _size(part) <= kept:
                raise
            time.sleep(PAUSE)
            continue
        if (found := _md5(part)) == md5:
            return
        part.unlink()
        if not kept:
            raise _Fault(f"sent another file (MD5 {found[:12]}, expected {md5[:12]})")
        # What was kept may be of another file, or of another host's: once more, from its beginning.


def _transfer(url: str, part: Path, start: int, message: Message) -> None:
    """Append to `part` what follows its first `start` bytes, or write it anew where the host sends all of it."""
    headers = {"User-Agent": "harness", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return  # nothing follows: all of it is here, and the checksum tells whether it is right
        raise _Fault(f"answers {error.code} {error.reason}") from error
    except (URLError, OSError, HTTPException, ValueError) as error:
        raise _Fault(f"cannot be reached ({getattr(error, 'reason', error)})") from error
    with response:
        if response.status == 206:
            if not str(response.headers.get("Content-Range")).startswith(f"bytes {start}-"):
                raise _Fault("sends another part than the one asked for")
        else:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        told = tenths(message, f"downloading {url.rpartition('/')[2]}")
        done = start
        with part.open("ab" if start else "wb") as file:
            while True:
                try:
                    piece = response.read1(PIECE)
                except (OSError, HTTPException) as error:
                    raise _Fault(f"broke off after {_amount(done)} ({error or type(error).__name__})") from error
                if not piece:
                    break
                file.write(piece)
                done += len(piece)
                if total and total >= LARGE:
                    told(done / total)
    if total and done < total:
        raise _Fault(f"broke off after {_amount(done)} of {_amount(total)}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _amount(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size:,} bytes"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
