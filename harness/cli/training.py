"""Commands that train: `run` and `check`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from harness import commands
from harness.cli.common import (
    EXIT_FAILED,
    EXIT_OF_SIGNAL,
    EXIT_OUT_OF_TIME,
    all_overrides,
    allow_changes_option,
    checked_labels,
    code_options,
    exit_code,
    experiment_options,
    print_rows,
    refuse_silent_store,
    run_options,
    seconds_of,
    seconds_so_far,
    store_at,
    survives_hangup,
    tidy,
    tracking_uri_option,
    unshipped_rows,
    where_to_look,
)
from harness.errors import HarnessError
from harness.stopping import Deadline, stopped_by

if TYPE_CHECKING:
    from harness.course import Outcome
    from harness.replicating import Replicates
    from harness.tracking import Store


@click.command(short_help="Train an experiment as one MLflow run.")
@click.argument("experiment", required=False)
@experiment_options
@run_options
@click.option("--resume", metavar="RUN", help="Go on with a run where its last checkpoint left it.")
@click.option("--max-time", metavar="TIME", help="End cleanly at the last epoch boundary before that: 30m, 2h, ....")
@click.option("--seeds", type=int, help="Train under N seeds, nested below one parent run with mean and deviation.")
@click.option("--together", type=int, help="With --seeds: train so many at once as one program (default: timed).")
@click.option("--preview", is_flag=True, help="Draw the sample grids in the terminal.")
@click.option("--dry-run", is_flag=True, help="Print the resolved experiment; train nothing.")
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
    together: int | None,
    preview: bool,
    dry_run: bool,
    allow_changes: bool,
) -> int:
    """Train EXPERIMENT (a name from experiments/ or a YAML file; `default` when left out) as one MLflow run.

    Exit code: 0 finished, 1 failed or diverged, 2 bad input, 3 stopped by --max-time, 130 or 143 stopped by Ctrl-C
    or SIGTERM. Stopped runs continue with --resume. The first Ctrl-C lets the epoch end and saves; the second stops
    at once.
    """
    started = time.monotonic()
    limit = seconds_of(max_time)
    changes = all_overrides(overrides, seed, device, epochs, subset)
    from harness import experiment as experiments

    if resume and experiment:
        raise HarnessError(f"--resume {resume} takes its experiment from the run; leave {experiment!r} out")
    if resume and seeds is not None:
        raise HarnessError("--resume takes its seeds from the run; leave --seeds out")
    if together is not None and (seeds is None or not 1 <= together <= seeds):
        expected = "it goes with --seeds N" if seeds is None else f"expected 1 to {seeds}, the number of seeds"
        raise HarnessError(f"--together is {together}; {expected}")
    if resume and (name or tags or note):
        raise HarnessError("--resume goes on in the run as it is; --name, --tag and --note belong to a new run")
    values = experiments.parse_overrides(changes)
    labels = checked_labels(name, tags, note)
    if not resume:
        experiments.read(experiment or "default")
    from harness.display import Terminal
    from harness.tables import console

    display = Terminal(console(), preview=preview)
    click.get_current_context().call_on_close(display.close)
    if not dry_run:
        display.notice("loading PyTorch and MLflow ...")
    from harness import small_data

    wanted = None
    if not resume:
        wanted, fit = small_data.load(experiment or "default", changes)
        if fit.line and dry_run:
            click.echo(fit.line, err=True)  # the plan is read by programs
        elif fit.line:
            display.line(fit.line)
            if display.console.is_terminal:  # the line has ended the spinner
                display.notice("loading PyTorch and MLflow ...")
    if not dry_run:
        refuse_silent_store(tracking_uri)
    from harness import course, running
    from harness.gan import resolve_untimed
    from harness.gan.auto import resolved_device

    if wanted is not None:
        resolved_device(wanted.train.device)  # before a store is made for nothing

    if dry_run:
        if wanted is None:
            raise HarnessError("--dry-run shows a new run; leave --resume out")
        training, _ = running.prepare(wanted, course.Quiet(), timed=False)
        _print_plan(training, resolve_untimed(wanted, training.images)[1])
        return 0
    options = course.Options(
        name=name,
        tags=labels,
        note=note,
        deadline=Deadline(None if limit is None else started + limit),
        system_metrics=not no_system_metrics,
        allow_changes=allow_changes,
    )
    store = store_at(tracking_uri, create=resume is None)
    tidy(store, display.notice)
    from harness import replicating

    parent = store.find(resume) if resume else None
    if parent is not None and parent.data.tags.get("harness.kind") == "study":
        known = parent.data.tags
        storage = known.get("harness.storage", "")  # a database, or the path of the usual journal
        line = commands.harness(
            "tune", study=known["harness.study"], store=store.uri, storage=storage if "://" in storage else None
        )
        raise HarnessError(f"{resume} is a study: resume it with `{line}`")
    if parent is not None and parent.data.tags.get("harness.kind") == "replicates":
        if values:
            raise HarnessError("replicates are resumed as they were started; leave --set, --epochs and the like out")
        return _print_replicates(store, replicating.resume(parent, store, options, display))
    if seeds is not None and wanted is not None:
        return _print_replicates(
            store, replicating.replicate(wanted, seeds, store, options, display, together=together)
        )
    if resume:
        outcome = running.resume(resume, store, values, options, display)
    else:
        assert wanted is not None
        outcome = running.run(wanted, store, options, display)
    _print_outcome(store, outcome, seconds_so_far())
    return exit_code(outcome)


def _print_plan(training: Any, precision: str | None) -> None:
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


def _print_outcome(store: Store, outcome: Outcome, seconds: float) -> None:
    from harness import records
    from harness.display import brief_number, duration

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
        ranking = outcome.experiment.ranking
        shown = ranking.shown(outcome.scores, "test")
        rows.append(("test", f"{shown}  of epoch {outcome.scored}  (judge {outcome.judge}; {ranking.better})"))
    if outcome.unshipped:
        rows += unshipped_rows(store, outcome.unshipped)
    trusted = bool(outcome.experiment.imports)
    if not outcome.unshipped:
        if grid := records.newest_grid(store, outcome.run_id, outcome.scored):
            rows.append(("grid", commands.shown_path(grid)))
        rows.append(("sample", commands.harness("sample", short, store=store.uri, trust=trusted)))
    if outcome.status == "KILLED":
        rows.append(("continue", commands.harness("run", resume=short, store=store.uri, trust=trusted)))
    if not outcome.unshipped:
        rows += where_to_look(store, outcome.run_id)
    print_rows(rows)


def _said(outcome: Outcome) -> str:
    return "STOPPED" if outcome.stopped else outcome.status


def _print_replicates(store: Store, result: Replicates) -> int:
    from harness.display import duration

    times = f"{duration(result.seconds)} of training and scoring, {duration(seconds_so_far())} in all"
    click.echo(f"\n{'STOPPED' if result.stopped else result.status}  {result.name}  {len(result.outcomes)} seeds")
    for seed, outcome in result.outcomes.items():
        shown = outcome.experiment.ranking.shown(outcome.scores, "test", error=False) if outcome.scores else ""
        click.echo(f"  seed {seed:<5}{outcome.run_id[:8]}  {_said(outcome):9} {shown} {outcome.reason or ''}".rstrip())
    if result.means:
        ranking = next(iter(result.outcomes.values())).experiment.ranking
        for score, label in ((ranking.metric, ranking.label), (ranking.beside, ranking.beside_label)):
            mean, deviation = result.means[f"test/{score}"], result.deviations[f"test/{score}"]
            click.echo(f"  {label:9} {mean:.4f} ± {deviation:.4f} (standard deviation)")
    rows = [("time", times), ("run", result.run_id)]
    if result.unshipped:
        rows += unshipped_rows(store, result.unshipped)
    if result.stopped:
        rows.append(("why", stopped_by(result.stopped, f"{len(result.outcomes)} of {result.seeds} seeds have begun")))
        trusted = any(outcome.experiment.imports for outcome in result.outcomes.values())
        resume = commands.harness("run", resume=result.run_id[:8], store=store.uri, trust=trusted)
        rows.append(("continue", resume))
    if not result.unshipped:
        rows += where_to_look(store, result.run_id)
    if len(result.outcomes) > 1:
        runs = [outcome.run_id[:8] for outcome in result.outcomes.values()]
        rows.append(("compare", commands.harness("compare", *runs, store=store.uri)))
    print_rows(rows)
    if result.stopped:
        return EXIT_OF_SIGNAL.get(result.stopped, EXIT_OUT_OF_TIME)
    return 0 if all(outcome.status == "FINISHED" for outcome in result.outcomes.values()) else EXIT_FAILED


@click.command(short_help="Tiny runs of all experiments, read back and compared.")
@click.argument("experiments", nargs=-1)
@tracking_uri_option
@click.option("--device", help="auto, cpu, cuda or mps.  [default: the experiment's]")
@survives_hangup
def check(experiments: Sequence[str], tracking_uri: str | None, device: str | None) -> int:
    """Run each EXPERIMENT (all of experiments/ by default) for one epoch on a few images, below one parent run.

    Passed means: finite losses, images logged, everything read back from MLflow as it was logged, and the checkpoint
    loaded into fresh objects draws the same samples. Exit code 1 when one failed.
    """
    from harness.checking import check as check_all
    from harness.tables import print_table

    store = store_at(tracking_uri, create=True)
    tidy(store, lambda text: click.echo(text, err=True))
    results = check_all(experiments, store, device=device, notice=lambda text: click.echo(text, err=True))
    lines = [
        [result.name, result.result, f"{result.seconds:.1f}", (result.run_id or "")[:8], result.reason or ""]
        for result in results
    ]
    print_table(["experiment", "result", "seconds", "run", "reason"], lines, folds=4)
    return EXIT_FAILED if any(result.result == "failed" for result in results) else 0
