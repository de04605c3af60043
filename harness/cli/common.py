"""Helpers of several commands: exit codes, closed terminals, and the rows below a result."""

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
EXIT_OF_SIGNAL = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 85}  # 85: saved, to be started again by a scheduler

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
    """Return the command as it was typed. It may contain a password; see `redact`."""
    return shlex.join(["harness", *sys.argv[1:]])


def elapsed_seconds() -> float:
    """Return how long this command has run, imports included."""
    return time.monotonic() - _STARTED


def exit_code(stopped: str | None, *, failed: bool = False) -> int:
    """Return the exit code of a command that trained. stopped: what stopped it; None if nothing did."""
    if stopped:
        return EXIT_OF_SIGNAL.get(stopped, EXIT_OUT_OF_TIME)
    return EXIT_FAILED if failed else 0


def link_rows(store: Store, run_id: str, unshipped: str | None) -> list[tuple[str, str]]:
    """Return the row that links to a run in MLflow's UI. It sends no request to the store.

    Args:
        store: The MLflow store.
        run_id: The run.
        unshipped: Why the tracking server has not received everything. The row then shows how to send the rest.
    """
    from harness.tracking import offline

    if unshipped:
        sync = formatting.harness_command("sync", store=store.uri)
        return [("tracking", f"{unshipped}; all data is stored on this machine: `{sync}` sends it later")]
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
