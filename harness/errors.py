"""HarnessError, for errors that the user can correct, and helpers for messages."""

import difflib
import re
from collections.abc import Iterable


class HarnessError(Exception):
    """Bad input or a missing thing, in one line: what arrived, what was expected, what to do.

    The command line prints the line and exits with code 2; a traceback is shown only with `--debug`.
    Credentials in URIs are removed from the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact(re.sub(r"\s*[\r\n]\s*", " ", message.strip())))


class UnreachableError(HarnessError):
    """The store does not answer as expected, so its contents are unknown."""


class NoStoreError(HarnessError):
    """The default store does not exist: nothing was tracked here yet."""


class DeletedRunError(HarnessError):
    """The requested run is deleted in its store."""


def brief(error: Exception) -> str:
    """Return the first line of an exception's message, cut at 300 characters."""
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 300 else f"{line[:297]}..."


def redact(text: str) -> str:
    """Return `text` with the user and password of every URI in it, and passwords in queries, replaced by `***`.

    File URIs stay as they are: they have no credentials. The user name of a database address without a password is not
    secret, and stays.
    """
    parts = re.split(r"((?:sqlite|file):///[^\s'\"]*)", text)
    return "".join(part if index % 2 else _redact(part) for index, part in enumerate(parts))


def _redact(text: str) -> str:
    # The second form is for passwords with / ? or #, which database drivers accept. It also hides part of an address
    # such as http://host:5000/a@b, which is rare.
    text = re.sub(r"([a-z][\w+]*)?://(?:[^\s/?#'\"]*|[^\s/?#'\":@]*:[^\s@]*)@", _redact_address, text)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s'\"]+", r"\1***", text)


def _redact_address(address: re.Match[str]) -> str:
    plain_user = re.fullmatch(r"(?:postgres|mysql|mariadb|mssql)[\w+]*://[\w.-]+@", address[0])
    return address[0] if plain_user else f"{address[1] or ''}://***@"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; the nearest names are ...`, the end of an error about an unknown name; empty where none is near."""
    near = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=3)
    return f"; the nearest names are {', '.join(near)}" if near else ""
