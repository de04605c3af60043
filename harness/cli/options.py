"""Options of several commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harness import formatting
from harness.api.options import merge_overrides, parse_tags
from harness.errors import HarnessError
from harness.experiment import trust
from harness.experiment.tags import Tag

Command = Callable[..., Any]


def group(*options: Command) -> Command:
    """Return a decorator that adds all these options."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


class OutputFile(click.Path):
    """The path of a file to write, whose name must end in `suffix`. Its folder must exist."""

    def __init__(self, suffix: str) -> None:
        super().__init__(path_type=Path)
        self.suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises HarnessError if it cannot be used."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        option = param.opts[0] if param else "path"
        if path.suffix != self.suffix:
            raise HarnessError(f"{option} {path}: the name must end in {self.suffix}")
        if not path.absolute().parent.is_dir():
            raise HarnessError(f"{option} {path}: there is no folder {path.absolute().parent}")
        return path


# Where runs and studies are stored ------------------------------------------------------------------------------------

tracking_uri_option = click.option(
    "--tracking-uri",
    metavar="URI",
    help="Address of the MLflow store.  [default: $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db]",
)
storage_option = click.option(
    "--storage",
    metavar="URL",
    envvar=formatting.STORAGE,
    help="Optuna storage; postgresql://... serves several machines.  [default: $HARNESS_STORAGE, else "
    "mlruns/optuna.journal]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


# Custom classes of stored runs ----------------------------------------------------------------------------------------


def _set_trust(_context: click.Context, _option: click.Parameter, chosen: bool) -> None:
    trust.get_policy().trust |= chosen


def _set_stored_code(_context: click.Context, _option: click.Parameter, chosen: bool) -> None:
    trust.get_policy().stored_code |= chosen


code_options = group(
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
    help=f"Continue although images, judge or network source have changed. The run is tagged {Tag.CHANGED}.",
)


# Training -------------------------------------------------------------------------------------------------------------

experiment_options = group(
    click.option(
        "--set",
        multiple=True,
        metavar="PATH=VALUE",
        help="Change one value of the experiment. Can be repeated.",
    ),
    click.option("--seed", type=int, metavar="N", help="Random seed; short for --set train.seed=N."),
    click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or mps; short for --set train.device=DEVICE."),
    click.option("--epochs", type=int, metavar="N", help="Number of epochs; short for --set train.epochs=N."),
    click.option("--subset", type=int, metavar="N", help="Number of training images; short for --set data.subset=N."),
)


def pop_overrides(options: dict[str, Any]) -> list[str]:
    """Take the values of `experiment_options` out of a command's options, and return them as --set takes them."""
    shortcuts = {name: options.pop(name) for name in ("seed", "device", "epochs", "subset")}
    return merge_overrides(options.pop("set"), **shortcuts)


system_metrics_option = click.option(
    "--no-system-metrics",
    "system_metrics",
    is_flag=True,
    callback=lambda _context, _option, chosen: not chosen,
    help="Do not log CPU, GPU and memory use.",
)
max_time_option = click.option(
    "--max-time",
    metavar="TIME",
    help="Stop at the end of an epoch, before this time is over: 30m, 2h, 1h30m. auto: the time left to the Slurm job.",
)
run_options = group(
    click.option("--name", metavar="NAME", help="Name of the run."),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="KEY=VALUE",
        callback=lambda _context, _option, texts: parse_tags(texts),
        help="Tag of the run. Can be repeated.",
    ),
    click.option("--note", metavar="TEXT", help="Note for the run's page in MLflow."),
    tracking_uri_option,
    click.option(
        "--offline",
        is_flag=True,
        default=None,
        help="Store everything in a local folder and ask no server; `harness sync` sends it later.  "
        "[default: $HARNESS_OFFLINE]",
    ),
    click.option(
        "--spool",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Used with --offline: the folder.  [default: mlruns/offline]",
    ),
    system_metrics_option,
    max_time_option,
)


executor_options = (
    click.option(
        "--executor",
        metavar="NAME",
        default="local",
        show_default=True,
        help="Where the processes run: local (they share the CPU cores), slurm (a job array) or ray (a cluster).",
    ),
    click.option(
        "--slurm",
        multiple=True,
        metavar="KEY=VALUE",
        help="Used with --executor slurm: option of sbatch, such as time=2:00:00. Can be repeated.",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="Used with --executor ray: address of the cluster.  [default: $RAY_ADDRESS, else this machine]",
    ),
)


# Drawing --------------------------------------------------------------------------------------------------------------

weights_options = group(
    click.option(
        "--weights",
        type=click.Choice(["best", "last"]),
        default="best",
        show_default=True,
        help="Epoch of the weights: the best scored one, or the last one.",
    ),
    click.option("--raw", is_flag=True, help="Use the trained weights instead of their moving average."),
)
