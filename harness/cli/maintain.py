"""Commands of maintenance: `schema`, `sync`, `push` and `doctor`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from harness.cli.common import EXIT_FAILED
from harness.cli.options import tracking_uri_option


@click.command(short_help="Print the JSON schema of experiment files.")
def schema() -> None:
    """Print the JSON schema of experiment files. Editors use it to complete and check them."""
    from harness.experiment import schema as experiment_schema

    click.echo(json.dumps(experiment_schema(), indent=2))


@click.command(short_help="Send offline runs to the tracking server.")
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@tracking_uri_option
def sync(folders: Sequence[Path], tracking_uri: str | None) -> None:
    """Send what was stored locally to the tracking server: offline runs, and what a lost server did not take.

    DIR is the folder of `run --offline --spool DIR`, or a copy of it from another machine.  [default: mlruns/spool and
    mlruns/offline]

    It can be repeated at any time, also while runs are trained: what the server has is left out.
    """
    from harness import api

    if not api.sync(*folders, tracking_uri=tracking_uri, message=click.echo):
        click.echo("nothing to send")


@click.command(short_help="Copy runs and studies to another MLflow store.")
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--to", metavar="URI", required=True, help="Address of the other store.")
@click.option("--study", metavar="NAME", help="Copy the study with this name.")
@click.option("--project", metavar="NAME", help="Copy all runs of this MLflow experiment.")
@tracking_uri_option
def push(runs: Sequence[str], to: str, study: str | None, project: str | None, tracking_uri: str | None) -> None:
    """Copy each RUN with its children, files and models to another MLflow store.

    A study is copied with its trials. The tag harness.id says which run is which: copying again adds what is new and
    changes nothing else.
    """
    from harness import api

    api.push(*runs, to=to, study=study, project=project, tracking_uri=tracking_uri, message=click.echo)


@click.command(short_help="Check versions, devices, store, data and disk space.")
@tracking_uri_option
def doctor(tracking_uri: str | None) -> int:
    """Check what a run needs: versions, devices, tracking store, data, disk space.

    Exit code 1 if something is wrong.
    """
    from harness.cli.tables import wrapped
    from harness.runs.doctor import run_checks

    findings = run_checks(tracking_uri)
    for finding in findings:
        mark = click.style("ok  ", fg="green") if finding.ok else click.style("bad ", fg="red")
        click.echo(wrapped(finding.text, indent=14, start=f"{mark}{finding.subject:10}"))
    return 0 if all(finding.ok for finding in findings) else EXIT_FAILED
