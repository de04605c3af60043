"""File names for what users name, atomic writes, hashes of files, and SQLite files as URIs."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from harness.errors import HarnessError

MAX_LENGTH = 48  # characters of a name that are kept: at four bytes each, a file name stays below 255 bytes
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
_HASHED = re.compile(r"-[0-9a-f]{8}$")
_DEVICES = re.compile(
    r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE
)  # Windows cannot open a file with such a name

# Types of file systems whose files are on other machines, as Linux and macOS name them.
_NETWORK = re.compile(
    r"nfs\d*|cifs|smb\w*|afs\w*|lustre|gpfs|beegfs\w*|panfs|ceph|ocfs2|gfs2|webdav|fuse\.(sshfs|glusterfs|ceph\S*|davfs2?)"
)


def safe_file_name(name: str, *, unique: bool = True) -> str:
    """Return a file name for `name`: never a path, and valid on Linux, macOS and Windows.

    A plain name (lower-case letters, digits, `_`, `.` and `-`) is returned as it is. In any other name, unusual
    characters become `_` and a hash of the name is appended. So `a/b` and `a_b` get different file names, and so do
    `Best` and `best`, which some file systems treat as equal.

    Args:
        name: Any text.
        unique: Append the hash; without it, `a/b` and `a_b` share a file name.
    """
    plain = _PLAIN.fullmatch(name) and len(name) <= MAX_LENGTH and not name.endswith(".")
    if plain and not _HASHED.search(name) and not _DEVICES.match(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    shown = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", name)[:MAX_LENGTH]).lstrip(".-")
    prefix = "_" if not shown or _DEVICES.match(shown) else ""
    return f"{prefix}{shown}-{digest}" if unique else f"{prefix}{shown}"


def database_of(uri: str) -> Path:
    """Return the absolute path of a sqlite:/// URI's file. %XX is decoded, as SQLAlchemy does it."""
    path, query, _ = uri.removeprefix("sqlite:///").partition("?")
    if query:
        raise HarnessError(f"the tracking store {uri} has a query: write a question mark in a path as %3F")
    return Path(unquote(path)).absolute()


def sqlite_uri(path: Path) -> str:
    """Return the URI of an SQLite file, for MLflow, child processes and the shell: the inverse of `database_of`."""
    text = str(path)
    if not text.isprintable():
        raise HarnessError(f"the path {text!r} has characters that cannot be printed: rename the folder")
    return "sqlite:///" + re.sub(r"[^\w/.,:@+=~-]", lambda found: quote(found[0]), text)


def path_of(location: str) -> Path | None:
    """Return the absolute path of a local artifact location; None for any other location."""
    if location.startswith("file:///"):
        return Path(unquote(location.removeprefix("file://")))
    return Path(location) if location.startswith("/") else None


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system that `path` is on, such as "nfs4"; None on a local disk.

    The path need not exist. The answer comes from the list of mounted file systems: no server is asked.
    """
    import psutil

    path = Path(os.path.realpath(path))
    nearest = None
    for mount in psutil.disk_partitions(all=True):  # in the order of mounting: a later mount hides an earlier one
        if path.is_relative_to(mount.mountpoint) and (
            nearest is None or len(mount.mountpoint) >= len(nearest.mountpoint)
        ):
            nearest = mount
    if nearest is None:
        return None
    network = _NETWORK.fullmatch(nearest.fstype) or "remote" in nearest.opts.split(",")  # "remote": Windows
    return (nearest.fstype or "network") if network else None


@contextmanager
def atomic_write(path: Path, *, parents: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file to write, which replaces `path` at the end.

    A reader finds the old file or the new one, never a part of either. After an exception the old file stays.

    Args:
        path: The file to replace.
        parents: Create the folders above it.
        durable: Flush the file to the disk before the rename (fsync).

    Raises:
        OSError: The file cannot be written.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".writing-{os.urandom(8).hex()}")
    try:
        yield fresh
        if durable:
            with fresh.open("rb+") as file:
                os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
