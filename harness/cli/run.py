"""Commands that train: `run` and `check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from harness.cli.common import EXIT_FAILED, survive_hangup
from harness.cli.options import (
    allow_changes_option,
    code_options,
    executor_options,
    experiment_options,
    group,
    pop_overrides,
    run_options,
    tracking_uri_option,
)
from harness.errors import HarnessError

AUTO = "auto"  # --resume auto

# Parameters of a new run, which cannot be used with --resume: by name, as they are typed.
_NEW_RUN = {
    "experiment": "EXPERIMENT",
    "seeds": "--seeds",
    "batch_runs": "--batch-runs",
    "workers": "--workers",
    "executor": "--executor",
    "slurm": "--slurm",
    "address": "--address",
    "name": "--name",
    "tags": "--tag",
    "note": "--note",
    "dry_run": "--dry-run",
}


@click.command(short_help="Train an experiment as one MLflow run.")
@click.argument("experiment", required=False)
@experiment_options
@run_options
@click.option(
    "--resume",
    metavar="RUN",
    help="Resume a run from its last checkpoint. auto: continue the run called --name, or start it.",
)
@click.option(
    "--seeds",
    type=int,
    metavar="N",
    help="Train under N seeds. A parent run holds mean and standard deviation of the scores.",
)
@click.option(
    "--batch-runs",
    type=int,
    metavar="K",
    help="Used with --seeds: number of seeds to train at once.  [default: the fastest]",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    help="Used with --seeds: number of processes.  [default: 1; with slurm and ray, the number of seeds]",
)
@group(*executor_options)
@click.option("--preview", is_flag=True, help="Show the sample grids in the terminal.")
@click.option("--dry-run", is_flag=True, help="Print the experiment with all its values, without training.")
@code_options
@allow_changes_option
def run(experiment: str | None, resume: str | None, preview: bool, dry_run: bool, **options: Any) -> int:
    """Train EXPERIMENT as one MLflow run.

    EXPERIMENT is a name from `harness experiments` or a YAML file.  [default: default]

    The first Ctrl-C finishes the epoch and saves; the second one stops at once. --resume continues a stopped run.
    With --name NAME --resume auto, the same command starts a run and, after every interruption, continues it.

    Exit code: 0 finished, 1 failed or diverged, 2 bad input, 3 stopped by --max-time; stopped and saved: 85 by SIGUSR1,
    130 by Ctrl-C, 143 by SIGTERM.
    """
    survive_hangup()
    if resume and resume != AUTO:
        _check_resume(resume, options | {"experiment": experiment, "dry_run": dry_run})
    options["set"] = pop_overrides(options)
    from harness import api
    from harness.api.display import Terminal
    from harness.cli.run_output import print_result, print_run_plan
    from harness.cli.tables import console

    if dry_run:
        print_run_plan(api.plan_run(experiment or "default", set=options["set"]))
        return 0
    display = Terminal(console(), preview=preview)
    if resume and resume != AUTO:
        accepted = {name: value for name, value in options.items() if name not in _NEW_RUN}
        return print_result(api.resume(resume, **accepted, progress=display))
    return print_result(api.run(experiment or "default", **options, resume=resume == AUTO, progress=display))


def _check_resume(run: str, options: Mapping[str, Any]) -> None:
    given = [typed for name, typed in _NEW_RUN.items() if options[name] not in (None, {}, (), False, "local")]
    if given:
        raise HarnessError(f"--resume {run} continues the run as it was started: leave out {', '.join(given)}")


@click.command(short_help="Test experiments end to end with tiny runs.")
@click.argument("experiments", metavar="[EXPERIMENT]...", nargs=-1)
@tracking_uri_option
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or mps.  [default: the experiment's]")
def check(experiments: Sequence[str], tracking_uri: str | None, device: str | None) -> int:
    """Test each EXPERIMENT end to end: train it for one epoch on a few images, and read back what was logged.

    [default: all experiments]

    An experiment passes if its losses are finite, its images are logged, MLflow returns everything as it was logged,
    and its checkpoint, loaded into new objects, draws the same samples. Exit code 1 if one fails.
    """
    survive_hangup()
    from harness import api
    from harness.cli.tables import print_table

    results = api.check(experiments, device=device, tracking_uri=tracking_uri)
    rows = [
        [result.name, result.result, f"{result.seconds:.1f}", (result.run_id or "")[:8], result.reason or ""]
        for result in results
    ]
    print_table(["experiment", "result", "seconds", "run", "reason"], rows, folds=4)
    return EXIT_FAILED if any(result.result == "failed" for result in results) else 0
