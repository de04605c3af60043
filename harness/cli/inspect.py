"""Commands that look at what there is: `runs`, `evaluate`, `experiments` and `ui`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness import formatting
from harness.cli.common import (
    EXIT_OF_SIGNAL,
    allow_changes_option,
    code_options,
    json_option,
    store_at,
    survives_hangup,
    tracking_uri_option,
)
from harness.errors import HarnessError, NoStoreError, nearest
from harness.experiment import trust


@click.command(short_help="List recent runs with status, losses and scores.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Number of runs, newest first.")
@click.option("--project", help="Only the runs of this MLflow experiment.")
@click.option("--all", "children", is_flag=True, help="Include trials and other nested runs.")
@json_option
@tracking_uri_option
def runs(limit: int, project: str | None, children: bool, as_json: bool, tracking_uri: str | None) -> None:
    """List recent runs with their status, losses and scores."""
    try:
        store = store_at(tracking_uri)
    except NoStoreError as nothing:
        click.echo("[]" if as_json else str(nothing))
        return
    from harness.results import summary

    if project is not None and store.client.get_experiment_by_name(project) is None:
        names = [experiment.name for experiment in store.client.search_experiments()]
        near = nearest(project, names) or f"; there are {', '.join(names)}"
        raise HarnessError(f"--project {project!r}: there is no such MLflow experiment{near}")
    found = [summary.summary(run) for run in store.runs(limit=limit, project=project, children=children)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        start = formatting.harness_command("run", store=store.uri)
        click.echo(f"there are no runs in {store.shown_uri} yet: `{start}` makes one")
        return
    from harness.cli.tables import print_table
    from harness.experiment.scores import primaries_in
    from harness.formatting import duration

    primaries = primaries_in(name for row in found for name in row["metrics"])
    scores = [score for primary in primaries for score in primary.shown]
    digits = {"loss/discriminator": 3, "loss/generator": 3}
    digits |= {f"test/{score.key}": score.digits for score in scores}
    lines = []
    for row in found:
        metrics = row["metrics"]
        numbers = [(metrics.get(name), count) for name, count in digits.items()]
        lines.append(
            [
                row["name"],
                row["run_id"][:8],
                row["kind"],
                row["status"],
                summary.progress(row),
                *("" if number is None else f"{number:.{count}f}" for number, count in numbers),
                row["started"].replace("T", " ")[:16],
                "" if row["seconds"] is None else duration(row["seconds"]),
            ]
        )
    labels = [score.label for score in scores]
    header = ["name", "run", "kind", "status", "epoch", "loss D", "loss G", *labels, "started", "run time"]
    print_table(header, lines)


@click.command(short_help="Score runs or image files against real images.")
@click.argument("wanted", metavar="[RUN]...", nargs=-1)
@click.option(
    "--images", type=click.Path(path_type=Path), help="Score the array `images` (uint8) of FILE.npz instead of runs."
)
@click.option("--data", "data_name", help="Data set that --images are compared with.  [default: mnist]")
@click.option(
    "--judge", help="Scoring classifier: first, second, or package.module:Class.  [default: the experiment's]"
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
    help="Number of images that are compared.  [default: the experiment's quality.samples]",
)
@json_option
@tracking_uri_option
@code_options
@allow_changes_option
@survives_hangup
def evaluate(
    wanted: Sequence[str],
    images: Path | None,
    data_name: str | None,
    judge: str | None,
    split: Any,
    samples: int | None,
    as_json: bool,
    tracking_uri: str | None,
    allow_changes: bool,
) -> None:
    """Score the best generator of each RUN again, print a table, and write the scores to the runs.

    The first row compares real with real images: the scores of a perfect generator. ± is the standard error of KID,
    or the standard deviation over seeds. For stacked-mnist, modes are counted; two first rows show perfect digits, all
    modes equally often or as often as in MNIST, ± the standard deviation of the count. docs/metrics.md explains the
    scores.

    If images, judge or network source differ from those of the run, a notice says so. The scores are then printed, and
    written to the run only with --allow-changes.
    """
    if bool(wanted) == bool(images):
        raise HarnessError("give one or more RUNs, or --images FILE.npz")
    if data_name and not images:
        raise HarnessError(f"--data {data_name} goes with --images; a RUN is scored against the images it trained on")
    if images and split == "validation":
        raise HarnessError("--images are scored against the test split; leave --split validation out")
    trust.give([judge])
    from harness.results import evaluate as evaluating

    def message(text: str) -> None:
        click.echo(text, err=True)

    if images:
        rows = evaluating.evaluate_images(
            images, name=data_name or "mnist", judge=judge or "first", samples=samples, message=message
        )
    else:
        store = store_at(tracking_uri)
        runs = [store.find(text) for text in wanted]
        rows = evaluating.evaluate(
            store, runs, judge=judge, split=split, samples=samples, allow_changes=allow_changes, message=message
        )
    if as_json:
        click.echo(json.dumps(evaluating.as_json(rows), indent=2))
        return
    from harness.cli.tables import print_table, wrapped

    header, *lines = evaluating.as_cells(rows)
    print_table(header, lines)
    counts = " and ".join(dict.fromkeys(f"{row.samples:,}" for row in rows))
    where = f"{rows[0].split} split, " if rows[0].scores.primary.against_real else ""
    click.echo(wrapped(f"{where}{counts} samples, judge {rows[0].judge}; ± see --help"))


@click.command(short_help="List the experiments that `run` finds by name.")
@json_option
def experiments(as_json: bool) -> None:
    """List the experiments that `run` finds by name: those in ./experiments and those that come with harness."""
    from harness import experiment as module

    rows = [(name, module.load(path).description, path) for name, path in module.known().items()]
    if as_json:
        click.echo(json.dumps([{"name": n, "description": d, "file": str(p)} for n, d, p in rows], indent=2))
        return
    from harness.cli.tables import wrapped

    width = max((len(name) for name, *_ in rows), default=0)
    for name, description, _ in rows:
        click.echo(wrapped(description, indent=width + 2, start=f"{name:{width}}  "))


@click.command(short_help="Open MLflow's UI at a project, run, study or comparison.")
@click.argument("wanted", metavar="[RUN]...", nargs=-1)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the server.  [default: 5000, or a free one]")
@click.option("--no-open", is_flag=True, help="Print the address without opening a browser.")
@tracking_uri_option
def ui(wanted: Sequence[str], port: int | None, no_open: bool, tracking_uri: str | None) -> int:
    """Open MLflow's UI in the browser, and serve it on this machine until Ctrl-C.

    Without a RUN, it shows the runs of the newest project with their scores and charts. A RUN opens its pictures and
    curves, a study its trials sorted by the objective, several RUNs their comparison. If the store is an MLflow
    server, that server is opened.
    """
    from harness.servers import ui as pages

    store = store_at(tracking_uri)
    page = pages.page(store, [store.find(text) for text in wanted])
    ended = pages.serve(store, page, port=port, browse=not no_open, say=lambda text: click.echo(text))
    return 0 if ended in (None, "SIGINT") else EXIT_OF_SIGNAL[ended]
