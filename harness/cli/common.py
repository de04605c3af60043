"""What commands share: options, how values are read, which store is meant, what is printed in the end."""

from __future__ import annotations

import functools
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from harness import console, formatting
from harness.api.arguments import seconds_of as seconds_of
from harness.api.arguments import store_at as store_at
from harness.api.arguments import tidy as tidy
from harness.errors import redact
from harness.experiment import trust
from harness.interrupts import on_hangup, terminate

if TYPE_CHECKING:
    from harness.runs.session import RunResult
    from harness.tracking import Store

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_OUT_OF_TIME = 1, 2, 3
EXIT_OF_SIGNAL = {"SIGINT": 130, "SIGTERM": 143}

Command = Callable[..., Any]

_STARTED = time.monotonic()  # this module is among the first that a command imports


def options(*options: Command) -> Command:
    def apply(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


tracking_uri_option = click.option(
    "--tracking-uri",
    metavar="URI",
    help="Address of the MLflow store.  [default: $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def _set_trust(_context: click.Context, _option: click.Parameter, chosen: bool) -> None:
    trust.get_policy().trust |= chosen


def _set_stored_code(_context: click.Context, _option: click.Parameter, chosen: bool) -> None:
    trust.get_policy().stored_code |= chosen


code_options = options(
    click.option(
        "--trust",
        is_flag=True,
        expose_value=False,
        callback=_set_trust,
        help="Import the classes (package.module:Class) that a stored run or study names. This runs their code.",
    ),
    click.option(
        "--stored-code",
        is_flag=True,
        expose_value=False,
        callback=_set_stored_code,
        help="Use the source file stored with the run instead of the local one. Needs --trust.",
    ),
)
allow_changes_option = click.option(
    "--allow-changes",
    is_flag=True,
    help="Continue although images, judge or network source have changed. The run is tagged harness.changed.",
)
experiment_options = options(
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Change one value of the experiment; may be repeated.",
    ),
    click.option("--seed", type=int, help="Random seed; short for --set train.seed=N."),
    click.option("--device", help="auto, cpu, cuda or mps; short for --set train.device=DEVICE."),
    click.option("--epochs", type=int, help="Number of epochs; short for --set train.epochs=N."),
    click.option("--subset", type=int, help="Number of training images; short for --set data.subset=N."),
)
run_options = options(
    click.option("--name", help="Name of the run."),
    click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Tag of the run; may be repeated."),
    click.option("--note", help="A note for the run's page in MLflow."),
    tracking_uri_option,
    click.option("--no-system-metrics", is_flag=True, help="Do not log CPU, GPU and memory use."),
)


def survives_hangup(command: Command) -> Command:
    """For commands that train or score: they continue when the terminal is closed, and a log takes their output.

    Where no log can be written they stop as at SIGTERM.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        title = f"{redact(shlex.join(['harness', *sys.argv[1:]]))}: the terminal was closed, the output goes on here"
        log = console.Log(console.log_path(command.__name__), title, failed=terminate)
        with console.continue_in(log), on_hangup(console.leave_terminal):
            return command(*args, **kwargs)

    return wrapped


def seconds_so_far() -> float:
    """How long this command has run, imports and all."""
    return time.monotonic() - _STARTED


def exit_code(outcome: RunResult) -> int:
    if outcome.stopped:
        return EXIT_OF_SIGNAL.get(outcome.stopped, EXIT_OUT_OF_TIME)
    return 0 if outcome.status == "FINISHED" else EXIT_FAILED


def where_to_look(store: Store, run_id: str) -> list[tuple[str, str]]:
    """How to look at a run in MLflow's UI. Does not ask the store: it may be away by now."""
    run = store.written(run_id)
    link = None if run is None else store.link(run)
    return [("look", link or formatting.harness_command("ui", run_id[:8], store=store.uri))]


def unshipped_rows(store: Store, reason: str) -> list[tuple[str, str]]:
    """What to say of a run whose tracking server did not take everything."""
    sync = formatting.harness_command("sync", store=store.uri)
    return [("tracking", f"{reason}; all is kept here: `{sync}` ships it later")]


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    from harness.cli.tables import print_row

    for label, text in rows:
        print_row(label, text)
