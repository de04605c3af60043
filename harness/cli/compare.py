"""The command `compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import command_line
from harness.cli.options import OutputFile, json_option, tracking_uri_option
from harness.errors import HarnessError, redact
from harness.experiment.scores import KID, MODE_KL
from harness.formatting import format_count, join_words

if TYPE_CHECKING:
    from harness.api import Comparison

MAX_LINK_LENGTH = 2000  # characters


BEST_HELP = f"Keep the N best by {KID.label} ({join_words(MODE_KL.datasets, 'and')}: {MODE_KL.label})."


@click.command(short_help="Compare runs: scores, params, pictures, curves.")
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--study", metavar="NAME", help="Compare all trials of a study.")
@click.option("--experiment", metavar="NAME", help="Compare all runs of an experiment.")
@click.option("--best", type=click.IntRange(2), metavar="N", help=BEST_HELP)
@click.option("--html", type=OutputFile(".html"), metavar="FILE", help="Write FILE.html: one page that works offline.")
@click.option(
    "--picture", type=OutputFile(".png"), metavar="FILE", help="Write FILE.png with the sample grids side by side."
)
@click.option(
    "--step",
    type=click.IntRange(0),
    metavar="EPOCH",
    help="Used with --html or --picture: epoch of the grids.  [default: the last one that all runs have]",
)
@json_option
@tracking_uri_option
def compare(
    runs: Sequence[str], html: Path | None, picture: Path | None, step: int | None, as_json: bool, **options: Any
) -> None:
    """Compare runs, the best first: scores with their spread, and the params that differ.

    A study stands for its best trial, a run with --seeds for the mean of its seeds. The scores are those that all RUNs
    have: on the test split, else on the validation split, else the best during training.
    """
    files = [path for path in (picture, html) if path]
    if step is not None and not files:
        raise HarnessError(f"--step {step}: use it with --html or --picture")
    from harness import api

    comparison = api.compare(runs, **options)
    for path in files:
        comparison.save(path, epoch=step, command=redact(command_line()))
    if as_json:
        click.echo(json.dumps(comparison.as_json() | {"files": [str(path) for path in files]}, indent=2))
        return
    _print_table(comparison)
    for path in files:
        click.echo(f"written   {path}")
    link = comparison.link
    click.echo(f"look      {link if len(link) < MAX_LINK_LENGTH else 'too many runs for one page: --best 20'}")


def _print_table(comparison: Comparison) -> None:
    """Print the notices and the table. Params whose columns do not fit are named below it."""
    from harness.cli.tables import print_table, wrapped

    for notice in comparison.notices:
        click.echo(notice, err=True)
    columns = list(comparison.params)
    fewest = _table_count(comparison, [])
    while columns and _table_count(comparison, columns) > fewest:
        columns.pop()
    header, *rows = comparison.as_cells(columns)
    print_table(header, rows)
    click.echo(wrapped(comparison.footer))
    if others := comparison.params[len(columns) :]:
        click.echo(
            wrapped(f"{format_count(len(others), 'more param differs', 'more params differ')}: {', '.join(others)}")
        )


def _table_count(comparison: Comparison, params: list[str]) -> int:
    from harness.cli.tables import table_count

    header, *rows = comparison.as_cells(params)
    return table_count(header, rows)
