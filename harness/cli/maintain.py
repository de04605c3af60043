"""Commands of maintenance: `schema`, `sync` and `doctor`."""

from __future__ import annotations

import json

import click

from harness.cli.common import EXIT_FAILED
from harness.cli.options import tracking_uri_option


@click.command(short_help="Print the JSON schema of experiment files.")
def schema() -> None:
    """Print the JSON schema of experiment files. Editors use it to complete and check them."""
    from harness.experiment import schema as experiment_schema

    click.echo(json.dumps(experiment_schema(), indent=2))


@click.command(short_help="Send locally stored data to the tracking server.")
@tracking_uri_option
def sync(tracking_uri: str | None) -> None:
    """Send metrics, images and statuses that were stored locally while the tracking server was not available."""
    from harness import api

    for line in api.sync(tracking_uri=tracking_uri) or ["nothing to send"]:
        click.echo(line)


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
