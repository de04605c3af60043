"""Commands that hand a generator on: `serve` and `promote`."""

from __future__ import annotations

import os

import click

from harness import formatting
from harness.cli.common import EXIT_OF_SIGNAL, code_options, print_rows, store_at, tracking_uri_option
from harness.errors import redact


@click.command(short_help="Serve a generator over HTTP.")
@click.argument("run")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the server.  [default: 5001, or a free one]")
@tracking_uri_option
@code_options
def serve(run: str, port: int | None, tracking_uri: str | None) -> int:
    """Serve the best generator of RUN, or of models:/NAME@ALIAS, on this machine until Ctrl-C.

    A request is a table with the columns `count`, `seed` and, for a conditional generator, `digits`. The answer holds
    the images as numbers, or as PNG with the param format=png. The printed commands show how to ask.
    """
    store = store_at(tracking_uri)
    from harness.servers.model_server import serve as serve_run

    ended = serve_run(
        store, run, port=port, say=lambda text: click.echo(text), message=lambda text: click.echo(text, err=True)
    )
    return 0 if ended == "SIGINT" else EXIT_OF_SIGNAL[ended]


@click.command(short_help="Register a generator in MLflow's model registry.")
@click.argument("run")
@click.option(
    "--as",
    "name",
    required=True,
    metavar="NAME",
    help="Name of the registered model. It is created if it does not exist.",
)
@click.option("--alias", default="champion", show_default=True, help="Alias of the new version.")
@tracking_uri_option
def promote(run: str, name: str, alias: str, tracking_uri: str | None) -> None:
    """Register the best generator of RUN in MLflow's model registry, as a new version of NAME with an alias.

    For a study it is the generator of the best trial, for a run with --seeds that of the best seed. A generator that is
    registered already gets the alias only.
    """
    store = store_at(tracking_uri)

    from harness.results import summary

    promoted = store.promote(summary.single(store, store.find(run)), name, alias)
    known = "" if promoted.created else " (it was there already)"
    click.echo(f"version {promoted.version} of {name}{known} is {alias}")
    lines = ["import mlflow", *loading(store.uri), f"mlflow.pyfunc.load_model({promoted.address!r})"]
    rows = [("" if index else "load", line) for index, line in enumerate(lines)]
    print_rows([*rows, ("serve", formatting.harness_command("serve", promoted.address, store=store.uri))])


def loading(store: str) -> list[str]:
    """The lines of Python that name a store to MLflow; none where its environment variables do."""
    if os.environ.get(formatting.STORE) and redact(store) != store:
        return []
    other_registry = os.environ.get("MLFLOW_REGISTRY_URI")
    shown = redact(store)
    return [f"mlflow.set_tracking_uri({shown!r})"] + ([f"mlflow.set_registry_uri({shown!r})"] if other_registry else [])
