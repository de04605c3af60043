"""Commands that inspect runs and experiments: `runs`, `evaluate`, `experiments` and `ui`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from harness import formatting
from harness.api.stores import open_store
from harness.cli.common import EXIT_OF_SIGNAL, survive_hangup
from harness.cli.options import allow_changes_option, code_options, json_option, tracking_uri_option
from harness.errors import NoStoreError


@click.command(short_help="List recent runs with status, losses and scores.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="Number of runs, newest first."
)
@click.option("--project", metavar="NAME", help="Only the runs of this MLflow experiment.")
@click.option("--all", "nested", is_flag=True, help="Include trials and other nested runs.")
@json_option
@tracking_uri_option
def runs(as_json: bool, **options: Any) -> None:
    """List recent runs with their status, losses and scores."""
    from harness import api

    try:
        found = api.list_runs(**options)
    except NoStoreError as error:
        click.echo("[]" if as_json else str(error))
        return
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        _print_runs(found)
    else:
        store = open_store(options["tracking_uri"])
        start = formatting.harness_command("run", store=store.uri)
        click.echo(f"there are no runs in {store.redacted_uri} yet: start one with `{start}`")


def _print_runs(runs: Sequence[Mapping[str, Any]]) -> None:
    from harness.cli.tables import print_table
    from harness.experiment.scores import primaries_in
    from harness.formatting import duration
    from harness.results.summary import progress

    scores = [
        score for primary in primaries_in(name for run in runs for name in run["metrics"]) for score in primary.shown
    ]
    digits = {"loss/discriminator": 3, "loss/generator": 3, **{f"test/{score.key}": score.digits for score in scores}}
    rows = []
    for run in runs:
        numbers = [(run["metrics"].get(name), count) for name, count in digits.items()]
        rows.append(
            [
                run["name"],
                run["run_id"][:8],
                run["kind"],
                run["status"],
                progress(run),
                *("" if number is None else f"{number:.{count}f}" for number, count in numbers),
                run["started"].replace("T", " ")[:16],
                "" if run["seconds"] is None else duration(run["seconds"]),
            ]
        )
    header = [
        "name",
        "run",
        "kind",
        "status",
        "epoch",
        "loss D",
        "loss G",
        *(score.label for score in scores),
        "started",
        "run time",
    ]
    print_table(header, rows)


@click.command(short_help="Score runs or image files against real images.")
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Score the array `images` (uint8) of FILE.npz instead of runs.",
)
@click.option("--data", metavar="NAME", help="Used with --images: data set to compare them with.  [default: mnist]")
@click.option(
    "--judge",
    metavar="NAME",
    help="Scoring classifier: first, second, or package.module:Class.  [default: the experiment's]",
)
@click.option(
    "--split",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="Split of the real images.",
)
@click.option(
    "--samples",
    type=click.IntRange(10),
    metavar="N",
    help="Number of images to compare.  [default: the experiment's quality.samples]",
)
@json_option
@tracking_uri_option
@code_options
@allow_changes_option
def evaluate(runs: Sequence[str], as_json: bool, **options: Any) -> None:
    """Score the best generator of each RUN again, print a table, and write the scores to the runs.

    The first row compares real with real images: the scores of a perfect generator. ± is the standard error of KID,
    or the standard deviation over seeds. For stacked-mnist, modes are counted; two first rows show perfect digits, all
    modes equally often or as often as in MNIST, ± the standard deviation of the count. docs/metrics.md explains the
    scores.

    If images, judge or network source differ from those of the run, a notice says so. The scores are then printed, and
    written to the run only with --allow-changes.
    """
    survive_hangup()
    from harness import api

    scored = api.evaluate(runs, **options)
    from harness.results.evaluate import as_cells
    from harness.results.evaluate import as_json as to_json

    if as_json:
        click.echo(json.dumps(to_json(scored), indent=2))
        return
    from harness.cli.tables import print_table, wrapped

    header, *rows = as_cells(scored)
    print_table(header, rows)
    counts = " and ".join(dict.fromkeys(f"{row.samples:,}" for row in scored))
    split = f"{scored[0].split} split, " if scored[0].scores.primary.against_real else ""
    click.echo(wrapped(f"{split}{counts} samples, judge {scored[0].judge}; ± see --help"))


@click.command(short_help="List the experiments that `run` finds by name.")
@json_option
def experiments(as_json: bool) -> None:
    """List the experiments that `run` finds by name: those in ./experiments and those that come with harness."""
    from harness import api

    found = api.list_experiments()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from harness.cli.tables import wrapped

    width = max((len(experiment["name"]) for experiment in found), default=0)
    for experiment in found:
        click.echo(wrapped(experiment["description"], indent=width + 2, start=f"{experiment['name']:{width}}  "))


@click.command(short_help="Open MLflow's UI at a project, run, study or comparison.")
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="Port of the server.  [default: 5000, or a free one]"
)
@click.option("--no-open", is_flag=True, help="Print the address without opening a browser.")
@tracking_uri_option
def ui(runs: Sequence[str], port: int | None, no_open: bool, tracking_uri: str | None) -> int:
    """Open MLflow's UI in the browser, and serve it on this machine until Ctrl-C.

    Without a RUN, it shows the runs of the newest project with their scores and charts. A RUN opens its pictures and
    curves, a study its trials sorted by the objective, several RUNs their comparison. If the store is an MLflow
    server, that server is opened.
    """
    from harness.servers import ui as server

    store = open_store(tracking_uri)
    page = server.choose_page(store, [store.find(text) for text in runs])
    ended = server.serve(store, page, port=port, browse=not no_open, say=click.echo)
    return 0 if ended in (None, "SIGINT") else EXIT_OF_SIGNAL[ended]
