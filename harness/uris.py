"""SQLite files as URIs, and local artifact locations as paths."""

import re
from pathlib import Path
from urllib.parse import quote, unquote

from harness.errors import HarnessError


def database_of(uri: str) -> Path:
    """The absolute path of a sqlite:/// URI's file. %XX is decoded, as SQLAlchemy does it."""
    path, query, _ = uri.removeprefix("sqlite:///").partition("?")
    if query:
        raise HarnessError(f"the tracking store {uri} has a query: write a question mark in a path as %3F")
    return Path(unquote(path)).absolute()


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file, for MLflow, child processes and the shell: the inverse of `database_of`."""
    text = str(path)
    if not text.isprintable():
        raise HarnessError(f"the path {text!r} has characters that cannot be printed: rename the folder")
    return "sqlite:///" + re.sub(r"[^\w/.,:@+=~-]", lambda found: quote(found[0]), text)


def path_of(location: str) -> Path | None:
    """The absolute path that a local artifact location means; None for any other."""
    if location.startswith("file:///"):
        return Path(unquote(location.removeprefix("file://")))
    return Path(location) if location.startswith("/") else None
