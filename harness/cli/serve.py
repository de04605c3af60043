"""Commands that provide a generator to others: `serve` and `promote`."""

from __future__ import annotations

import os

import click

from harness import formatting
from harness.api.stores import open_store
from harness.cli.common import EXIT_OF_SIGNAL, print_rows
from harness.cli.options import code_options, tracking_uri_option
from harness.console import to_stderr
from harness.errors import redact


@click.command(short_help="Serve a generator over HTTP.")
@click.argument("run")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="Port of the server.  [default: 5001, or a free one]"
)
@tracking_uri_option
@code_options
def serve(run: str, port: int | None, tracking_uri: str | None) -> int:
    """Serve the best generator of RUN, or of models:/NAME@ALIAS, on this machine until Ctrl-C.

    A request is a table with the columns `count`, `seed` and, for a conditional generator, `digits`. The answer holds
    the images as numbers, or as PNG with the param format=png. The printed commands are example requests.
    """
    store = open_store(tracking_uri)
    from harness.servers.model_server import serve as serve_run

    ended = serve_run(store, run, port=port, say=click.echo, message=to_stderr)
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
@click.option("--alias", metavar="NAME", default="champion", show_default=True, help="Alias of the new version.")
@tracking_uri_option
def promote(run: str, name: str, alias: str, tracking_uri: str | None) -> None:
    """Register the best generator of RUN in MLflow's model registry, as a new version of NAME with an alias.

    For a study it is the generator of the best trial, for a run with --seeds that of the best seed. A generator that is
    registered already gets the alias only.
    """
    from harness import api

    loaded = api.load_run(run, tracking_uri=tracking_uri)
    store = loaded.store.uri
    promoted = api.promote(loaded, name, alias=alias)
    known = "" if promoted.created else " (it existed already)"
    click.echo(f"version {promoted.version} of {name}{known} is {alias}")
    lines = ["import mlflow", *_python_lines(store), f"mlflow.pyfunc.load_model({promoted.address!r})"]
    rows = [("" if index else "load", line) for index, line in enumerate(lines)]
    print_rows([*rows, ("serve", formatting.harness_command("serve", promoted.address, store=store))])


def _python_lines(store: str) -> list[str]:
    """Return the lines of Python that set the store of MLflow; none if an environment variable sets it."""
    if os.environ.get(formatting.STORE) and redact(store) != store:
        return []
    other_registry = os.environ.get("MLFLOW_REGISTRY_URI")
    uri = redact(store)
    return [f"mlflow.set_tracking_uri({uri!r})"] + ([f"mlflow.set_registry_uri({uri!r})"] if other_registry else [])
