"""What commands share: options, how values are read, which store is meant, what is printed in the end."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import commands, output, trust
from harness.errors import HarnessError, NoStoreError, redact
from harness.keys import LONGEST_NAME, LONGEST_TAG, why_not_a_key
from harness.stopping import on_hangup, terminate

if TYPE_CHECKING:
    from harness.course import Outcome
    from harness.tracking import Store

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_OUT_OF_TIME = 1, 2, 3
EXIT_OF_SIGNAL = {"SIGINT": 130, "SIGTERM": 143}

Command = Callable[..., Any]


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
    trust.policy().trust |= chosen


def _set_stored_code(_context: click.Context, _option: click.Parameter, chosen: bool) -> None:
    trust.policy().stored_code |= chosen


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
        log = output.Log(output.log_path(command.__name__), title, failed=terminate)
        with output.continue_in(log), on_hangup(output.leave_terminal):
            return command(*args, **kwargs)

    return wrapped


def all_overrides(
    overrides: Sequence[str], seed: int | None, device: str | None, epochs: int | None, subset: int | None
) -> list[str]:
    short = {"train.seed": seed, "train.device": device, "train.epochs": epochs, "data.subset": subset}
    return [*overrides, *(f"{path}={value}" for path, value in short.items() if value is not None)]


def checked_labels(name: str | None, tags: Sequence[str], note: str | None) -> dict[str, str]:
    """The tags of a run by key. Raises HarnessError where MLflow would refuse or cut them, the name or the note."""
    if name is not None and not 0 < len(name.strip()) <= LONGEST_NAME:
        raise HarnessError(f"--name has {len(name)} characters; expected 1 to {LONGEST_NAME}, not blanks alone")
    if note is not None and len(note) > LONGEST_TAG:
        raise HarnessError(f"--note has {len(note):,} characters; MLflow keeps {LONGEST_TAG:,}")
    found: dict[str, str] = {}
    for tag in tags:
        key, sign, value = tag.partition("=")
        if not sign or not key:
            raise HarnessError(f"--tag {tag!r}: expected key=value, for example --tag student=mia")
        if key.startswith(("harness.", "mlflow.")):
            raise HarnessError(f"--tag {tag!r}: tags that begin with harness. or mlflow. are set by harness itself")
        if reason := why_not_a_key(key):
            raise HarnessError(f"--tag {tag!r}: {reason}")
        if len(value) > LONGEST_TAG:
            raise HarnessError(f"--tag {key}: the value has {len(value):,} characters; MLflow keeps {LONGEST_TAG:,}")
        if found.setdefault(key, value) != value:
            raise HarnessError(f"--tag {key} is given twice, as {found[key]!r} and as {value!r}: give it once")
    return found


def seconds_of(text: str | None, option: str = "--max-time") -> float | None:
    """`90`, `45s`, `30m`, `2h`, `1h30m` or `hh:mm:ss` in seconds."""
    import re

    if text is None:
        return None
    clock = re.fullmatch(r"(\d+):(\d\d)(?::(\d\d))?", text)
    units = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    parts = (clock or units).groups() if text and (clock or units) else None  # type: ignore[union-attr]
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True)) if parts else 0
    if seconds <= 0:
        raise HarnessError(f"{option} {text!r}: expected a time such as 90s, 30m, 2h, 1h30m or 01:30:00")
    return seconds


def store_at(uri: str | None, *, create: bool = False) -> Store:
    """The store of this command. Commands that only look do not create one."""
    from harness.tracking import Store

    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None and not create and not Path("mlruns/mlflow.db").is_file():
        start = commands.harness("run")
        raise NoStoreError(f"there are no runs here: ./mlruns/mlflow.db does not exist; start one with `{start}`")
    return Store.open(uri, create=create, notice=lambda text: click.echo(text, err=True))


def refuse_silent_store(uri: str | None) -> None:
    """Raise HarnessError when a server is meant that does not answer: before imports that take seconds."""
    from harness.tracking.opening import refuse_silent_server

    refuse_silent_server(uri or os.environ.get("MLFLOW_TRACKING_URI") or "")


def tidy(store: Store, notice: Callable[[str], None]) -> None:
    """What runs that died left behind: ship their spools, and let no status lie."""
    for line in store.sync(repeat=False):
        notice(line)
    for run_id in store.reconcile():
        notice(f"run {run_id[:8]} was left RUNNING by a process that is gone; it is KILLED now (see --resume)")


def exit_code(outcome: Outcome) -> int:
    if outcome.stopped:
        return EXIT_OF_SIGNAL.get(outcome.stopped, EXIT_OUT_OF_TIME)
    return 0 if outcome.status == "FINISHED" else EXIT_FAILED


def where_to_look(store: Store, run_id: str) -> list[tuple[str, str]]:
    """How to look at a run in MLflow's UI. Does not ask the store: it may be away by now."""
    run = store.written(run_id)
    link = None if run is None else store.link(run)
    return [("look", link or commands.harness("ui", run_id[:8], store=store.uri))]


def unshipped_rows(store: Store, reason: str) -> list[tuple[str, str]]:
    """What to say of a run whose tracking server did not take everything."""
    sync = commands.harness("sync", store=store.uri)
    return [("tracking", f"{reason}; all is kept here: `{sync}` ships it later")]


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    from harness.tables import print_row

    for label, text in rows:
        print_row(label, text)
