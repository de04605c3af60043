"""The output of `harness run` at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness import formatting
from harness.cli.common import elapsed_seconds, exit_code, link_rows, print_rows
from harness.formatting import brief_number, duration, format_count
from harness.interrupts import stop_message

if TYPE_CHECKING:
    from harness.api import Run, RunPlan
    from harness.runs.options import RunResult
    from harness.runs.seeds import Replicates
    from harness.tracking import Store

Rows = list[tuple[str, str]]


def print_run_plan(plan: RunPlan) -> None:
    """Print an experiment as YAML, with its size in comments. The output is a valid experiment file."""
    if plan.adjusted:
        click.echo(plan.adjusted, err=True)
    click.echo(plan.experiment.to_yaml().rstrip())
    weights = ", ".join(f"{name} {count:,} weights" for name, count in plan.weights.items())
    click.echo(
        f"# {format_count(plan.images, 'image')}, {format_count(plan.steps_per_epoch, 'step')} per epoch; {weights}"
    )
    if plan.precision:
        click.echo(f"# train.precision {plan.experiment.train.precision}: {plan.precision}")


def print_result(run: Run) -> int:
    """Print how a run ended, and return the exit code."""
    from harness.runs.options import RunResult

    result = run.result
    assert result is not None
    if isinstance(result, RunResult):
        _print_run(run.store, result)
        return exit_code(result.stopped, failed=result.status != "FINISHED")
    _print_seeds(run.store, result)
    failed = any(seed.status != "FINISHED" for seed in result.outcomes.values())
    return exit_code(result.stopped, failed=failed)


def _print_run(store: Store, result: RunResult) -> None:
    epochs = result.experiment.train.epochs
    now = f", {result.epoch - result.first} of them now" if result.first else ""
    click.echo(f"\n{_status(result)}  {result.name}  {result.epoch} of {format_count(epochs, 'epoch')}{now}")
    rows = [_time_row(result.seconds), ("run", f"{result.run_id}  (MLflow experiment {result.experiment.project})")]
    if result.reason:
        rows.append(("why", result.reason))
    if result.metrics:
        losses = (brief_number(result.metrics[f"loss/{name}"]) for name in ("discriminator", "generator"))
        rows.append(("losses", "D {}  G {}  of epoch {}".format(*losses, result.epoch)))
    if result.scores:
        primary = result.experiment.primary
        scores = primary.format(result.scores, "test")
        rows.append(("test", f"{scores}  of epoch {result.scored}  (judge {result.judge}; {primary.better})"))
    print_rows(rows + _next_steps(store, result) + link_rows(store, result.run_id, result.unshipped))


def _next_steps(store: Store, result: RunResult) -> Rows:
    from harness.results.summary import newest_grid_file

    rows: Rows = []
    run, trust = result.run_id[:8], bool(result.experiment.custom_classes)
    if not result.unshipped:
        if grid := newest_grid_file(store, result.run_id, result.scored):
            rows.append(("grid", formatting.short_path(grid)))
        rows.append(("sample", formatting.harness_command("sample", run, store=store.uri, trust=trust)))
    if result.status == "KILLED":
        rows.append(("continue", formatting.harness_command("run", resume=run, store=store.uri, trust=trust)))
    return rows


def _print_seeds(store: Store, result: Replicates) -> None:
    seeds = format_count(len(result.outcomes), "seed")
    click.echo(f"\n{'STOPPED' if result.stopped else result.status}  {result.name}  {seeds}")
    for seed, one in result.outcomes.items():
        scores = one.experiment.primary.format(one.scores, "test", error=False) if one.scores else ""
        click.echo(f"  seed {seed:<5}{one.run_id[:8]}  {_status(one):9} {scores} {one.reason or ''}".rstrip())
    if result.means:
        for score in next(iter(result.outcomes.values())).experiment.primary.shown:
            if (name := f"test/{score.key}") in result.means:
                mean, deviation = score.format(result.means[name]), score.format(result.deviations[name])
                click.echo(f"  {score.label:9} {mean} ± {deviation} (standard deviation)")
    rows = [_time_row(result.seconds), ("run", result.run_id)]
    if result.stopped:
        rows.append(
            ("why", stop_message(result.stopped, f"{len(result.outcomes)} of {result.seeds} seeds have started"))
        )
        trust = any(one.experiment.custom_classes for one in result.outcomes.values())
        resume = formatting.harness_command("run", resume=result.run_id[:8], store=store.uri, trust=trust)
        rows.append(("continue", resume))
    rows += link_rows(store, result.run_id, result.unshipped)
    if len(result.outcomes) > 1:
        runs = [one.run_id[:8] for one in result.outcomes.values()]
        rows.append(("compare", formatting.harness_command("compare", *runs, store=store.uri)))
    print_rows(rows)


def _status(result: RunResult) -> str:
    return "STOPPED" if result.stopped else result.status


def _time_row(seconds: float) -> tuple[str, str]:
    return "time", f"{duration(seconds)} of training and scoring, {duration(elapsed_seconds())} in all"
