"""Commands of searches: `tune` and `studies`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import formatting
from harness.api.arguments import checked_labels, overrides_of
from harness.cli.common import (
    EXIT_OF_SIGNAL,
    EXIT_OUT_OF_TIME,
    allow_changes_option,
    code_options,
    experiment_options,
    json_option,
    print_rows,
    run_options,
    seconds_so_far,
    survives_hangup,
    unshipped_rows,
    where_to_look,
)
from harness.errors import HarnessError
from harness.experiment.scores import PRIMARY_SCORES, described_choices
from harness.interrupts import stopped_by

if TYPE_CHECKING:
    from harness.tracking import Store


@click.command(short_help="Search hyperparameters with Optuna; every trial is a run.")
@click.argument("experiment", required=False)
@click.option(
    "--trials", type=click.IntRange(1), help="Number of trials in total.  [default: that of the resumed study, else 20]"
)
@click.option("--study", help="Name of the study. A study that exists is resumed.  [default: the experiment's name]")
@experiment_options
@click.option("--sampler", help="Optuna sampler: tpe, random, qmc, grid, gp or cmaes.  [default: tpe]")
@click.option("--pruner", help="Pruner: halving or none.  [default: halving]")
@click.option(
    "--prune-from",
    type=click.IntRange(1),
    metavar="EPOCH",
    help="First epoch at which trials can be pruned.  [default: the experiment's]",
)
@click.option(
    "--metric",
    help=f"Score to optimise on validation images: {described_choices()}.  "
    f"[default: {', or '.join(primary.key for primary in PRIMARY_SCORES)}]",
)
@click.option(
    "--direction", type=click.Choice(["minimize", "maximize"]), help="Direction of the search.  [default: the metric's]"
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of processes. They share the CPU cores.",
)
@click.option("--batch-runs", metavar="K", help="Number of trials that one process trains at once.  [default: auto]")
@click.option("--max-time", metavar="TIME", help="Stop cleanly before this time is over: 30m, 2h, 1h30m.")
@click.option(
    "--confirm",
    type=click.IntRange(2),
    metavar="N",
    help="Then train the best and the baseline values under N new seeds.",
)
@click.option(
    "--budget",
    type=click.Choice(["full", "tuning"]),
    help="Training length of --confirm: the experiment's (full) or a trial's (tuning).  [default: full]",
)
@click.option(
    "--storage",
    metavar="URL",
    envvar=formatting.STORAGE,
    help="Optuna storage; postgresql://... serves many machines.  [default: $HARNESS_STORAGE, else "
    "mlruns/optuna.journal]",
)
@click.option("--dashboard", is_flag=True, help="Open optuna-dashboard instead of searching.")
@click.option("--dry-run", is_flag=True, help="Print what is searched and what a trial costs, without training.")
@run_options
@code_options
@allow_changes_option
@survives_hangup
def tune(
    experiment: str | None,
    trials: int | None,
    study: str | None,
    overrides: Sequence[str],
    seed: int | None,
    device: str | None,
    epochs: int | None,
    subset: int | None,
    sampler: str | None,
    pruner: str | None,
    prune_from: int | None,
    metric: str | None,
    direction: Any,
    workers: int,
    batch_runs: str | None,
    max_time: str | None,
    confirm: int | None,
    budget: Any,
    storage: str | None,
    dashboard: bool,
    dry_run: bool,
    name: str | None,
    tags: Sequence[str],
    note: str | None,
    tracking_uri: str | None,
    no_system_metrics: bool,
    allow_changes: bool,
) -> int:
    """Search the hyperparameters of EXPERIMENT. Each trial is a run below the run of the study.

    EXPERIMENT is a name from `harness experiments` or a YAML file.  [default: default]

    In the experiment file, `search:` lists the ranges and `search_budget:` makes trials cheap. Both can be changed:
    --set 'search.optimizer.lr={low: 1e-4, high: 1e-2, log: true}', --set search_budget.train.epochs=4. Without
    `search:`, learning rate, latent size and dropout are searched.

    The command line beats the file. --epochs, --subset and --set of a value of `search_budget:` apply to the trials;
    best.yaml and --confirm keep the file's values. --set of a value of `search:` fixes it. The first line of output
    describes a trial, and how long one took in an earlier study.

    The same command continues a study that was stopped or killed. Exit code: 0 all trials have ended, 2 bad input,
    3 stopped by --max-time, 130 or 143 stopped by Ctrl-C or SIGTERM.
    """
    if dashboard:
        from harness.tuning.dashboard import serve

        if study is None and experiment is not None:
            from harness import experiment as experiments

            study = experiments.load(experiment).name
        serve(storage, Path("mlruns").absolute(), lambda text: click.echo(text), study)
        return 0
    if batch_runs not in (None, "auto") and not (batch_runs.isdecimal() and int(batch_runs) > 0):
        raise HarnessError(f"--batch-runs {batch_runs}: expected a number of trials, or auto")
    if budget and not confirm:
        raise HarnessError(f"--budget {budget} says how --confirm trains: add --confirm N, or leave it out")
    changes = overrides_of(overrides, seed=seed, device=device, epochs=epochs, subset=subset)
    from harness import api
    from harness.api.display import StudyTerminal, Terminal
    from harness.cli.tables import console

    display = StudyTerminal(console())
    click.get_current_context().call_on_close(display.close)
    search: dict[str, Any] = {
        "trials": trials,
        "study": study,
        "set": changes,
        "sampler": sampler,
        "pruner": pruner,
        "prune_from": prune_from,
        "metric": metric,
        "direction": direction,
        "workers": workers,
        "batch_runs": None if batch_runs in (None, "auto") else int(batch_runs),
        "progress": display,
    }
    if dry_run:
        print_rows(api.plan(experiment, **search))
        return 0
    ended = api.tune(
        experiment,
        **search,
        max_time=max_time,
        storage=storage,
        name=name,
        tags=checked_labels(name, tags, note),
        note=note,
        tracking_uri=tracking_uri,
        system_metrics=not no_system_metrics,
        allow_changes=allow_changes,
    )
    store, result = ended.store, ended.result
    assert result is not None
    searched_file = None if study is not None and experiment is None and not changes else experiment or "default"
    _print_study(store, result, searched_file, changes, storage, seconds_so_far())
    if result.stopped:
        return EXIT_OF_SIGNAL.get(result.stopped, EXIT_OUT_OF_TIME)
    if confirm and result.progress.own and result.progress.best == result.progress.own:
        click.echo("the experiment's own values are the best of the study: there is nothing to confirm")
    elif confirm:
        runs = Terminal(display.console)
        try:
            return _print_confirmed(ended.confirmed(confirm, budget or "full", runs))
        finally:
            runs.close()
    return 0


def _print_study(
    store: Store, result: Any, experiment: str | None, changes: Sequence[str], storage: str | None, seconds: float
) -> None:
    from harness.formatting import duration, shown_values

    now, metric = result.progress, result.settings.metric
    counts = f"{now.complete} complete, {now.pruned} pruned, {now.failed} failed"
    if now.ended > now.asked:
        said = f"{now.ended} trials ({now.asked} {'was' if now.asked == 1 else 'were'} asked for; {counts})"
    else:
        said = f"{now.ended} of {now.asked} trials ({counts})"
    fresh = f", {now.ended - result.before} of them" if result.before else ""
    status = "STOPPED" if result.stopped else "FINISHED"
    click.echo(f"\n{status}  study {result.name}  {said}{fresh}")
    rows = [("time", f"{duration(seconds)} in all{_each(result.trial_seconds)}")]
    if result.stopped:
        left = now.total - now.ended
        rows.append(("why", stopped_by(result.stopped, f"{left} trial{' is' if left == 1 else 's are'} left")))
    if now.best is not None:
        rows.append(("best", f"trial {now.best.number}: validation {metric} {now.best.score:.4f}"))
        rows.append(("", shown_values(now.best.values)))
    if now.own is not None and now.best is not None:
        same = now.best.number == now.own.number
        own = (
            "the experiment's own values are the best"
            if same
            else f"{metric} {now.own.score:.4f}  " + shown_values(now.own.values)
        )
        rows.append(("own", own))
    if result.edges:
        rows += [("edge", edge.said) for edge in result.edges]
        rows.append(("wider", _wider(store, result, experiment, changes, storage)))
    if result.unshipped:
        rows += unshipped_rows(store, result.unshipped)
    rows.append(("run", f"{result.run_id}  (MLflow experiment {result.settings.experiment.project})"))
    if result.best_file:
        best = formatting.shown_path(result.best_file)
        rows.append(("train it", formatting.harness_command("run", best, store=store.uri)))
    if result.stopped:
        trusted = bool(result.settings.base.imports)
        resume = formatting.harness_command(
            "tune", study=result.name, trials=now.asked, store=store.uri, storage=storage, trust=trusted
        )
        rows.append(("continue", resume))
    if not result.unshipped:
        rows += where_to_look(store, result.run_id)
    print_rows(rows)


def _each(seconds: float | None) -> str:
    from harness.formatting import duration

    return "" if seconds is None else f"; {duration(seconds)} for a complete trial (median)"


def _wider(store: Store, result: Any, experiment: str | None, changes: Sequence[str], storage: str | None) -> str:
    """The command of a new study with wider ranges; only its new options where the experiment's file is not known."""
    wider = [edge.wider for edge in result.edges]
    if experiment is None:
        return " ".join(f"--set {shlex.quote(value)}" for value in wider) + "  (in a new study)"
    options: dict[str, Any] = {
        "study": f"{result.name}-wider",
        "trials": result.progress.total,
        "set": [*changes, *wider],
    }
    return formatting.harness_command("tune", experiment, store=store.uri, storage=storage, **options)


def _print_confirmed(confirmed: Any) -> int:
    from harness.cli.tables import print_table, wrapped

    header, *lines = confirmed.as_cells()
    click.echo("")
    print_table(header, lines)
    click.echo(wrapped(confirmed.verdict))
    return EXIT_OF_SIGNAL.get(confirmed.stopped, EXIT_OUT_OF_TIME) if confirmed.stopped else 0


@click.command(short_help="List studies: trials, best score, best values.")
@click.option(
    "--storage",
    metavar="URL",
    envvar=formatting.STORAGE,
    help="Optuna storage.  [default: $HARNESS_STORAGE, else mlruns/optuna.journal]",
)
@json_option
def studies(storage: str | None, as_json: bool) -> None:
    """List the studies of a storage with their trials, the best score and its values."""
    from harness.tuning import storage as storages
    from harness.tuning.list_studies import studies as list_studies

    root = Path("mlruns").absolute()
    rows = list_studies(storage, root)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(storages.no_studies(storage, root))
        return
    from harness.cli.tables import print_table
    from harness.formatting import shown_values

    lines = [
        [
            row["study"],
            *(str(row[count]) for count in ("complete", "pruned", "failed", "running", "waiting")),
            row["metric"],
            "" if row["best"] is None else f"{row['best']:.4f}",
            "" if row["best_trial"] is None else f"trial {row['best_trial']}: {shown_values(row['best_values'])}",
            (row["run_id"] or "")[:8],
            (row["started"] or "").replace("T", " ")[:16],
        ]
        for row in rows
    ]
    header = [
        "study",
        "complete",
        "pruned",
        "failed",
        "running",
        "waiting",
        "metric",
        "best",
        "values",
        "run",
        "started",
    ]
    print_table(header, lines, folds=header.index("values"))
