"""What commands share: exit codes, hangups, and the rows below a result."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from harness import console, formatting
from harness.environment import OFFLINE_FOLDER
from harness.errors import redact
from harness.interrupts import on_hangup, terminate

if TYPE_CHECKING:
    from harness.tracking import Store

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_OUT_OF_TIME = 1, 2, 3
EXIT_OF_SIGNAL = {"SIGINT": 130, "SIGTERM": 143}

_STARTED = time.monotonic()  # this module is among the first that a command imports


def survive_hangup() -> None:
    """Let the current command continue when the terminal is closed; a log file receives its output.

    If no log can be written, the command stops as at SIGTERM.
    """
    context = click.get_current_context()
    title = f"{redact(command_line())}: the terminal was closed, the output continues here"
    log = console.Log(console.log_path(str(context.info_name)), title, failed=terminate)
    context.with_resource(console.continue_in(log))
    context.with_resource(on_hangup(console.leave_terminal))


def command_line() -> str:
    """The command as it was typed. It may hold a password; see `redact`."""
    return shlex.join(["harness", *sys.argv[1:]])


def seconds_so_far() -> float:
    """How long this command has run, imports included."""
    return time.monotonic() - _STARTED


def exit_code(stopped: str | None, *, failed: bool = False) -> int:
    """The exit code of a command that trained. stopped: by what, if it was."""
    if stopped:
        return EXIT_OF_SIGNAL.get(stopped, EXIT_OUT_OF_TIME)
    return EXIT_FAILED if failed else 0


def link_rows(store: Store, run_id: str, unshipped: str | None) -> list[tuple[str, str]]:
    """How to look at a run in MLflow's UI. It does not ask the store, which may be away by now.

    unshipped: why the tracking server did not take everything; then the row says how to send the rest.
    """
    from harness.tracking import offline

    if unshipped:
        sync = formatting.harness_command("sync", store=store.uri)
        return [("tracking", f"{unshipped}; everything is stored here: `{sync}` sends it later")]
    if offline.is_offline_store(store.root):
        folder = None if store.root == OFFLINE_FOLDER.absolute() else formatting.short_path(store.root)
        command = formatting.harness_command("sync", *([folder] if folder else []))
        return [("look", formatting.harness_command("ui", run_id[:8], store=store.uri)), ("send it", command)]
    run = store.written(run_id)
    link = None if run is None else store.link(run)
    return [("look", link or formatting.harness_command("ui", run_id[:8], store=store.uri))]


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print rows of a label and a text."""
    from harness.cli.tables import print_row

    for label, text in rows:
        print_row(label, text)
