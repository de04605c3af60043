"""Commands that hand a generator on: `serve` and `promote`."""

from __future__ import annotations

import os

import click

from harness import commands
from harness.cli.common import EXIT_OF_SIGNAL, code_options, print_rows, store_at, tracking_uri_option
from harness.errors import redact


@click.command(short_help="Answer with images over HTTP.")
@click.argument("run")
@click.option("--port", type=click.IntRange(1, 65535), help="It must be free.  [default: 5001, or another]")
@tracking_uri_option
@code_options
def serve(run: str, port: int | None, tracking_uri: str | None) -> int:
    """Serve the best generator of RUN, or of models:/NAME@ALIAS, on loopback, until Ctrl-C.

    It takes tables with the columns `count`, `seed` and, where it is told the class, `digits`, and answers with images:
    as numbers, or as PNG with the param format=png. The lines that are printed can be pasted into a shell.
    """
    store = store_at(tracking_uri)
    from harness.serving import serve as serve_run

    ended = serve_run(
        store, run, port=port, say=lambda text: click.echo(text), notice=lambda text: click.echo(text, err=True)
    )
    return 0 if ended == "SIGINT" else EXIT_OF_SIGNAL[ended]


@click.command(short_help="Put a run's generator into the model registry.")
@click.argument("run")
@click.option("--as", "name", required=True, metavar="NAME", help="The registered model; made when it is missing.")
@click.option("--alias", default="champion", show_default=True, help="What points to this version from now on.")
@tracking_uri_option
def promote(run: str, name: str, alias: str, tracking_uri: str | None) -> None:
    """Register the best generator of RUN in MLflow's model registry, as a new version of NAME, under an alias.

    Of a study it is the best trial's, of replicates the best seed's. What is there already is not registered again:
    only the alias moves.
    """
    store = store_at(tracking_uri)

    from harness import records

    promoted = store.promote(records.single(store, store.find(run)), name, alias)
    known = "" if promoted.fresh else " (it was there already)"
    click.echo(f"version {promoted.version} of {name}{known} is {alias}")
    lines = ["import mlflow", *loading(store.uri), f"mlflow.pyfunc.load_model({promoted.address!r})"]
    rows = [("" if index else "load", line) for index, line in enumerate(lines)]
    print_rows([*rows, ("serve", commands.harness("serve", promoted.address, store=store.uri))])


def loading(store: str) -> list[str]:
    """The lines of Python that name a store to MLflow; none where its environment variables do."""
    if os.environ.get(commands.STORE) and redact(store) != store:
        return []
    other_registry = os.environ.get("MLFLOW_REGISTRY_URI")
    shown = redact(store)
    return [f"mlflow.set_tracking_uri({shown!r})"] + ([f"mlflow.set_registry_uri({shown!r})"] if other_registry else [])
