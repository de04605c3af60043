"""The command that looks across runs: `compare`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import formatting
from harness.cli.common import json_option, store_at, tracking_uri_option
from harness.errors import HarnessError, redact
from harness.experiment.scores import KID, MODE_KL
from harness.formatting import join_words

if TYPE_CHECKING:
    from harness.results.compare import Comparison


BEST_HELP = f"Keep the N best by {KID.label} ({join_words(MODE_KL.datasets, 'and')}: {MODE_KL.label})."


@click.command(short_help="Compare runs: scores, params, pictures, curves.")
@click.argument("wanted", metavar="[RUN]...", nargs=-1)
@click.option("--study", metavar="NAME", help="Compare all trials of a study.")
@click.option("--experiment", metavar="NAME", help="Compare all runs of an experiment.")
@click.option("--best", type=click.IntRange(2), metavar="N", help=BEST_HELP)
@click.option("--html", type=click.Path(path_type=Path), help="Write FILE.html: one page that works offline.")
@click.option("--picture", type=click.Path(path_type=Path), help="Write FILE.png with the sample grids side by side.")
@click.option(
    "--step", type=click.IntRange(0), metavar="EPOCH", help="Epoch of the grids.  [default: the last one that all have]"
)
@json_option
@tracking_uri_option
def compare(
    wanted: Sequence[str],
    study: str | None,
    experiment: str | None,
    best: int | None,
    html: Path | None,
    picture: Path | None,
    step: int | None,
    as_json: bool,
    tracking_uri: str | None,
) -> None:
    """Compare runs, the best first: scores with their spread, and the params that differ.

    A study stands for its best trial, a run with --seeds for the mean of its seeds. The scores are those that all RUNs
    have: on the test split, else on the validation split, else the best during training.
    """
    for option, path, suffix in (("--html", html, ".html"), ("--picture", picture, ".png")):
        if path is not None and path.suffix != suffix:
            raise HarnessError(f"{option} {path}: the name must end in {suffix}")
        if path is not None and not path.absolute().parent.is_dir():
            raise HarnessError(f"{option} {path}: there is no folder {path.absolute().parent}")
    if step is not None and not (html or picture):
        raise HarnessError(f"--step {step} says which grids are drawn; it goes with --html or --picture")
    store = store_at(tracking_uri)
    from harness.results import compare as comparing

    found = comparing.compare(store, wanted, study=study, experiment=experiment, best=best)
    notices = list(found.notices)
    written = []
    if html or picture:
        tiles, more = comparing.tiles_of(store, found, step=step)
        notices += more
        if picture:
            from harness.media import pictures

            with pictures.writing(picture, "--picture"):
                pictures.save_png(picture, comparing.sheet(tiles))
            written.append(picture)
        if html:
            curves, more = comparing.curves_of(store, found)
            notices += more
            command = shlex.join(["harness", *map(redact, sys.argv[1:])])
            comparing.write_report(html, store, found, tiles, curves, notices=notices, command=command)
            written.append(html)
    runs = [row.run for row in found.rows]
    look = store.comparison_link(runs) or formatting.harness_command(
        "ui", *(row.short_id for row in found.rows), store=store.uri
    )
    if as_json:
        plain = comparing.as_json(store, found) | {"notices": notices, "look": look, "files": [str(p) for p in written]}
        click.echo(json.dumps(plain, indent=2))
        return
    _print(found, notices)
    for path in written:
        click.echo(f"written   {path}")
    click.echo(f"look      {look}" if len(look) < 2000 else "look      too many runs for one page: --best 20")


def _print(found: Comparison, notices: Sequence[str]) -> None:
    from harness.cli.tables import print_table, table_count, wrapped
    from harness.results import compare as comparing

    for message in notices:
        click.echo(message, err=True)
    params = list(found.params)
    # Those that would only make further tables are named below.
    fewest = table_count(*_table(found, []))
    while params and table_count(*_table(found, params)) > fewest:
        params.pop()
    print_table(*_table(found, params))
    click.echo(wrapped(comparing.footer(found)))
    if left := found.params[len(params) :]:
        click.echo(wrapped(f"{len(left)} more params differ: {', '.join(left)}"))


def _table(found: Comparison, params: list[str]) -> tuple[list[str], list[list[str]]]:
    from harness.results import compare as comparing

    header, *lines = comparing.as_cells(found, params)
    return header, lines
