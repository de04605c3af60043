"""Commands that train: `run` and `check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from harness import formatting
from harness.api.arguments import checked_labels, overrides_of
from harness.cli.common import (
    EXIT_FAILED,
    EXIT_OF_SIGNAL,
    EXIT_OUT_OF_TIME,
    allow_changes_option,
    code_options,
    exit_code,
    experiment_options,
    print_rows,
    run_options,
    seconds_so_far,
    store_at,
    survives_hangup,
    tidy,
    tracking_uri_option,
    unshipped_rows,
    where_to_look,
)
from harness.errors import HarnessError
from harness.interrupts import stopped_by

if TYPE_CHECKING:
    from harness.runs.seeds import Replicates
    from harness.runs.session import RunResult
    from harness.tracking import Store


@click.command(short_help="Train an experiment as one MLflow run.")
@click.argument("experiment", required=False)
@experiment_options
@run_options
@click.option("--resume", metavar="RUN", help="Resume a run from its last checkpoint.")
@click.option(
    "--max-time", metavar="TIME", help="Stop cleanly before this time is over, at the end of an epoch: 30m, 2h, 1h30m."
)
@click.option(
    "--seeds", type=int, help="Train under N seeds. A parent run holds mean and standard deviation of the scores."
)
@click.option(
    "--batch-runs", type=int, help="With --seeds: number of seeds that are trained at once.  [default: the fastest]"
)
@click.option("--preview", is_flag=True, help="Show the sample grids in the terminal.")
@click.option("--dry-run", is_flag=True, help="Print the experiment with all its values, without training.")
@code_options
@allow_changes_option
@survives_hangup
def run(
    experiment: str | None,
    overrides: Sequence[str],
    seed: int | None,
    device: str | None,
    epochs: int | None,
    subset: int | None,
    name: str | None,
    tags: Sequence[str],
    note: str | None,
    tracking_uri: str | None,
    no_system_metrics: bool,
    resume: str | None,
    max_time: str | None,
    seeds: int | None,
    batch_runs: int | None,
    preview: bool,
    dry_run: bool,
    allow_changes: bool,
) -> int:
    """Train EXPERIMENT as one MLflow run.

    EXPERIMENT is a name from `harness experiments` or a YAML file.  [default: default]

    The first Ctrl-C finishes the epoch and saves; the second one stops at once. --resume continues a stopped run.

    Exit code: 0 finished, 1 failed or diverged, 2 bad input, 3 stopped by --max-time, 130 or 143 stopped by Ctrl-C
    or SIGTERM.
    """
    if resume and experiment:
        raise HarnessError(f"--resume {resume} takes its experiment from the run; leave {experiment!r} out")
    if resume and seeds is not None:
        raise HarnessError("--resume takes its seeds from the run; leave --seeds out")
    if resume and (name or tags or note):
        raise HarnessError("--resume goes on in the run as it is; --name, --tag and --note belong to a new run")
    changes = overrides_of(overrides, seed=seed, device=device, epochs=epochs, subset=subset)
    labels = checked_labels(name, tags, note)
    if dry_run:
        if resume:
            raise HarnessError("--dry-run shows a new run; leave --resume out")
        _print_plan(experiment or "default", changes)
        return 0

    from harness import api
    from harness.api.display import Terminal
    from harness.cli.tables import console

    display = Terminal(console(), preview=preview)
    click.get_current_context().call_on_close(display.close)
    shared: dict[str, Any] = {
        "set": changes,
        "max_time": max_time,
        "tracking_uri": tracking_uri,
        "system_metrics": not no_system_metrics,
        "allow_changes": allow_changes,
        "progress": display,
    }
    if resume:
        ended = api.resume(resume, **shared)
    else:
        ended = api.run(
            experiment or "default", seeds=seeds, batch_runs=batch_runs, name=name, tags=labels, note=note, **shared
        )
    from harness.runs.seeds import Replicates

    if isinstance(ended.outcome, Replicates):
        return _print_replicates(ended.store, ended.outcome)
    assert ended.outcome is not None
    _print_outcome(ended.store, ended.outcome, seconds_so_far())
    return exit_code(ended.outcome)


def _print_plan(experiment: str, changes: Sequence[str]) -> None:
    """The resolved experiment and what it takes; nothing is timed."""
    from harness.runs import small_data

    resolved, fit = small_data.load(experiment, changes)
    if fit.line:
        click.echo(fit.line, err=True)  # the plan is read by programs
    from harness.gan import resolve_untimed
    from harness.gan.auto import resolved_device
    from harness.runs import session, train

    resolved_device(resolved.train.device)
    training, _ = train.prepare(resolved, session.NullDisplay(), timed=False)
    precision = resolve_untimed(resolved, training.images)[1]
    weights = {
        name: sum(weight.numel() for weight in network.parameters())
        for name, network in (("generator", training.generator), ("discriminator", training.discriminator))
    }
    click.echo(training.experiment.to_yaml().rstrip())
    click.echo(
        f"# {len(training.images):,} images, {training.steps_per_epoch} steps an epoch; "
        + ", ".join(f"{name} {count:,} weights" for name, count in weights.items())
    )
    if precision:
        click.echo(f"# train.precision {training.experiment.train.precision}: {precision}")


def _print_outcome(store: Store, outcome: RunResult, seconds: float) -> None:
    from harness.formatting import brief_number, duration
    from harness.results import summary

    short = outcome.run_id[:8]
    epochs = outcome.experiment.train.epochs
    taken = f", {outcome.epoch - outcome.first} of them now" if outcome.first else ""
    click.echo(f"\n{_said(outcome)}  {outcome.name}  {outcome.epoch} of {epochs} epochs{taken}")
    rows = [("time", f"{duration(outcome.seconds)} of training and scoring, {duration(seconds)} in all")]
    rows += [("run", f"{outcome.run_id}  (MLflow experiment {outcome.experiment.project})")]
    if outcome.reason:
        rows.append(("why", outcome.reason))
    if outcome.metrics:
        losses = (brief_number(outcome.metrics[f"loss/{name}"]) for name in ("discriminator", "generator"))
        rows.append(("losses", "D {}  G {}  of epoch {}".format(*losses, outcome.epoch)))
    if outcome.scores:
        primary = outcome.experiment.primary
        scores = primary.format(outcome.scores, "test")
        rows.append(("test", f"{scores}  of epoch {outcome.scored}  (judge {outcome.judge}; {primary.better})"))
    if outcome.unshipped:
        rows += unshipped_rows(store, outcome.unshipped)
    trusted = bool(outcome.experiment.imports)
    if not outcome.unshipped:
        if grid := summary.newest_grid(store, outcome.run_id, outcome.scored):
            rows.append(("grid", formatting.shown_path(grid)))
        rows.append(("sample", formatting.harness_command("sample", short, store=store.uri, trust=trusted)))
    if outcome.status == "KILLED":
        rows.append(("continue", formatting.harness_command("run", resume=short, store=store.uri, trust=trusted)))
    if not outcome.unshipped:
        rows += where_to_look(store, outcome.run_id)
    print_rows(rows)


def _said(outcome: RunResult) -> str:
    return "STOPPED" if outcome.stopped else outcome.status


def _print_replicates(store: Store, result: Replicates) -> int:
    from harness.formatting import duration

    times = f"{duration(result.seconds)} of training and scoring, {duration(seconds_so_far())} in all"
    click.echo(f"\n{'STOPPED' if result.stopped else result.status}  {result.name}  {len(result.outcomes)} seeds")
    for seed, outcome in result.outcomes.items():
        scores = outcome.experiment.primary.format(outcome.scores, "test", error=False) if outcome.scores else ""
        click.echo(f"  seed {seed:<5}{outcome.run_id[:8]}  {_said(outcome):9} {scores} {outcome.reason or ''}".rstrip())
    if result.means:
        for score in next(iter(result.outcomes.values())).experiment.primary.shown:
            if (name := f"test/{score.key}") in result.means:
                mean, deviation = score.format(result.means[name]), score.format(result.deviations[name])
                click.echo(f"  {score.label:9} {mean} ± {deviation} (standard deviation)")
    rows = [("time", times), ("run", result.run_id)]
    if result.unshipped:
        rows += unshipped_rows(store, result.unshipped)
    if result.stopped:
        rows.append(("why", stopped_by(result.stopped, f"{len(result.outcomes)} of {result.seeds} seeds have begun")))
        trusted = any(outcome.experiment.imports for outcome in result.outcomes.values())
        resume = formatting.harness_command("run", resume=result.run_id[:8], store=store.uri, trust=trusted)
        rows.append(("continue", resume))
    if not result.unshipped:
        rows += where_to_look(store, result.run_id)
    if len(result.outcomes) > 1:
        runs = [outcome.run_id[:8] for outcome in result.outcomes.values()]
        rows.append(("compare", formatting.harness_command("compare", *runs, store=store.uri)))
    print_rows(rows)
    if result.stopped:
        return EXIT_OF_SIGNAL.get(result.stopped, EXIT_OUT_OF_TIME)
    return 0 if all(outcome.status == "FINISHED" for outcome in result.outcomes.values()) else EXIT_FAILED


@click.command(short_help="Test experiments end to end with tiny runs.")
@click.argument("experiments", metavar="[EXPERIMENT]...", nargs=-1)
@tracking_uri_option
@click.option("--device", help="auto, cpu, cuda or mps.  [default: the experiment's]")
@survives_hangup
def check(experiments: Sequence[str], tracking_uri: str | None, device: str | None) -> int:
    """Train each EXPERIMENT for one epoch on a few images, below one parent run.  [default: all experiments]

    An experiment passes if its losses are finite, its images are logged, MLflow returns everything as it was logged,
    and its checkpoint, loaded into new objects, draws the same samples. Exit code 1 if one fails.
    """
    from harness.cli.tables import print_table
    from harness.runs.smoke_test import check as check_all

    store = store_at(tracking_uri, create=True)
    tidy(store, lambda text: click.echo(text, err=True))
    results = check_all(experiments, store, device=device, message=lambda text: click.echo(text, err=True))
    lines = [
        [result.name, result.result, f"{result.seconds:.1f}", (result.run_id or "")[:8], result.reason or ""]
        for result in results
    ]
    print_table(["experiment", "result", "seconds", "run", "reason"], lines, folds=4)
    return EXIT_FAILED if any(result.result == "failed" for result in results) else 0
