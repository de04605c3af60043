"""Commands of searches: `tune` and `studies`."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import commands, trial_times
from harness.cli.common import (
    EXIT_OF_SIGNAL,
    EXIT_OUT_OF_TIME,
    all_overrides,
    allow_changes_option,
    checked_labels,
    code_options,
    experiment_options,
    json_option,
    print_rows,
    refuse_silent_store,
    run_options,
    seconds_of,
    seconds_so_far,
    store_at,
    survives_hangup,
    tidy,
    unshipped_rows,
    where_to_look,
)
from harness.errors import HarnessError
from harness.stopping import Deadline, stopped_by

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.search import Search
    from harness.tracking import Store


@click.command(short_help="Search an experiment's values, as nested runs of an Optuna study.")
@click.argument("experiment", required=False)
@click.option(
    "--trials", type=click.IntRange(1), help="In total.  [default: what the study was asked for before, else 20]"
)
@click.option("--study", help="Study name; one that exists is resumed.  [default: the experiment's name]")
@experiment_options
@click.option("--sampler", help="tpe, random, qmc, grid, gp or cmaes.  [default: tpe]")
@click.option("--pruner", help="halving or none.  [default: halving]")
@click.option(
    "--prune-from", type=click.IntRange(1), metavar="EPOCH", help="First comparison.  [default: the experiment's]"
)
@click.option(
    "--metric",
    help="kid, frechet, density, coverage or class_kl, on validation images; of stacked-mnist mode_kl or modes.  "
    "[default: kid, mode_kl]",
)
@click.option("--direction", type=click.Choice(["minimize", "maximize"]), help="If not the metric's own.")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes; cores are shared out."
)
@click.option("--fuse", metavar="K", help="Train K trials at once as one program, or auto.  [default: auto]")
@click.option("--timeout", metavar="TIME", help="End cleanly before that: 30m, 2h, ....")
@click.option(
    "--confirm", type=click.IntRange(2), metavar="N", help="Then run best and own values under N fresh seeds."
)
@click.option(
    "--budget",
    type=click.Choice(["full", "tuning"]),
    help="Of --confirm: the experiment's, or a trial's.  [default: full]",
)
@click.option(
    "--storage",
    metavar="URL",
    envvar=commands.STORAGE,
    help="postgresql://... for many machines; else $HARNESS_STORAGE, else mlruns/optuna.journal.",
)
@click.option("--dashboard", is_flag=True, help="Open optuna-dashboard instead, at the study if one is named.")
@click.option("--dry-run", is_flag=True, help="Print what is searched and what a trial costs; train nothing.")
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
    fuse: str | None,
    timeout: str | None,
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
    """Search the values of EXPERIMENT (`default` when left out), each trial a run below the study's own run.

    What is searched stands under `search:` in the experiment file, what makes trials cheap under `search_budget:`;
    both can be changed: --set 'search.optimizer.lr={low: 1e-4, high: 1e-2, log: true}', --set
    search_budget.train.epochs=4. Without `search:` it is learning rate, latent size and dropout.

    The command line beats the file. --epochs, --subset, and --set of a leaf of `search_budget:` are for the trials;
    best.yaml and --confirm keep the file's values. --set of a leaf of `search:` gives it that one value. The first line
    of output says what a trial is, and how long one took in an earlier study.

    The same command again continues where it was stopped or killed. Exit code: 0 when all trials have ended, 2 bad
    input, 3 stopped by --timeout, 130 or 143 by Ctrl-C or SIGTERM.
    """
    started = time.monotonic()
    if dashboard:
        from harness.study.dashboard import serve

        if study is None and experiment is not None:
            from harness import experiment as experiments

            study = experiments.load(experiment).name
        serve(storage, Path("mlruns").absolute(), lambda text: click.echo(text), study)
        return 0
    limit = seconds_of(timeout, "--timeout")
    if fuse not in (None, "auto") and not (fuse.isdecimal() and int(fuse) > 0):
        raise HarnessError(f"--fuse {fuse}: expected a number of trials, or auto")
    if budget and not confirm:
        raise HarnessError(f"--budget {budget} says how --confirm trains: add --confirm N, or leave it out")
    changes = all_overrides(overrides, seed, device, epochs, subset)
    labels = checked_labels(name, tags, note)
    go_on = study is not None and experiment is None and not changes
    if dry_run and go_on:
        raise HarnessError("--dry-run shows a new study; name its experiment, and leave --study out or give a new name")
    if not dry_run:
        refuse_silent_store(tracking_uri)
    from harness.display import StudyTerminal
    from harness.tables import console

    display = StudyTerminal(console())
    click.get_current_context().call_on_close(display.close)
    loading = "loading PyTorch, MLflow and Optuna ..."
    found, searched, kind, images = None, None, None, None
    if not go_on:
        plenty = _is_mnist(experiment or "default", changes)  # then nothing has to be counted, and no PyTorch loaded
        if not plenty and display.console.is_terminal:
            display.notice(loading)
        found, searched, images, line = _trial_of(experiment or "default", changes, counted=not plenty)
        prune_from = _prune_from(prune_from, searched)
        kind = trial_times.kind_of(found, searched, workers=workers, fuse=fuse)
        display.stop_live()
        _print_trial(searched, found, images, line, trial_times.recall(kind))
    if not dry_run:
        display.notice(loading)
    if not go_on:
        from harness import small_data

        small_data.fit(experiment or "default", changes, searched=True)  # refuses what nothing could be trained on
    from harness.gan.auto import resolved_device

    if found is not None:
        resolved_device(found.train.device)
    from harness import study as studies

    wish = studies.Wish(
        trials=trials,
        study=study,
        storage=storage,
        sampler=sampler,
        pruner=pruner,
        rung=prune_from,
        metric=metric,
        direction=direction,
        fuse=None if fuse in (None, "auto") else int(fuse),
        workers=workers,
        deadline=Deadline(None if limit is None else started + limit),
        name=name,
        tags=labels,
        note=note,
        system_metrics=not no_system_metrics,
        allow_changes=allow_changes,
    )
    studies.check(wish, tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "", found)
    if dry_run:
        assert found is not None
        assert searched is not None
        print_rows(studies.plan(found, searched, wish, images))
        return 0
    store = store_at(tracking_uri, create=True)
    tidy(store, display.notice)
    try:
        result = studies.tune(found, searched, wish, store, display)
    finally:
        display.close()
    _print_study(store, result, None if go_on else experiment or "default", changes, storage, seconds_so_far())
    if kind is not None and result.trial_seconds is not None:
        trial_times.keep(kind, result.trial_seconds)
    if result.stopped:
        return EXIT_OF_SIGNAL.get(result.stopped, EXIT_OUT_OF_TIME)
    if confirm and result.standing.own and result.standing.best == result.standing.own:
        click.echo("the experiment's own values are the best of the study: there is nothing to confirm")
    elif confirm:
        from harness.display import Terminal

        runs = Terminal(display.console)
        try:
            confirmed = studies.confirm(result, confirm, budget or "full", store, wish, runs)
        finally:
            runs.close()
        return _print_confirmed(confirmed)
    return 0


def _prune_from(option: int | None, search: Search) -> int | None:
    """The epoch that the command line gives, by either of its two names; the study knows the file's."""
    if "search_prune_from" not in search.given:
        return option
    if option not in (None, search.prune_from):
        raise HarnessError(f"search_prune_from is given twice, as {search.prune_from} and as {option}: give it once")
    return search.prune_from


def _is_mnist(name: str, changes: Sequence[str]) -> bool:
    """Whether the experiment trains on MNIST, which has images in plenty."""
    from harness import experiment as experiments

    section = experiments.read(name)[0].get("data")
    typed = experiments.parse_overrides(changes)
    file = section.get("name", "mnist") if isinstance(section, dict) else "mnist"
    return bool(typed.get("data.name", file) == "mnist")


def _trial_of(name: str, changes: Sequence[str], *, counted: bool) -> tuple[Experiment, Search, int | None, str | None]:
    """The experiment, its search, its images where they were counted, and what was fitted to them, in words."""
    from harness import search as searches

    if not counted:
        return *searches.load(name, changes), None, None
    from harness import small_data

    fit = small_data.fit(name, changes, searched=True)
    return *searches.load(name, changes, fit.values, fit.images), fit.images, fit.line


def _print_trial(
    search: Search, experiment: Experiment, images: int | None, line: str | None, seconds: float | None
) -> None:
    from harness.display import duration

    took = "" if seconds is None else f"; one took {duration(seconds)} in an earlier study"
    click.echo(f"a trial: {search.describe_trial(experiment, images)}{took}")
    if line:
        click.echo(line)
    if search.fixed:
        values = ", ".join(f"{path} is {value}" for path, value in search.fixed.items())
        click.echo(f"not searched: {values} in every trial (command line)")


def _print_study(
    store: Store, result: Any, experiment: str | None, changes: Sequence[str], storage: str | None, seconds: float
) -> None:
    from harness.display import duration, shown_values

    now, metric = result.standing, result.settings.metric
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
        best = commands.shown_path(result.best_file)
        rows.append(("train it", commands.harness("run", best, store=store.uri)))
    if result.stopped:
        trusted = bool(result.settings.base.imports)
        resume = commands.harness(
            "tune", study=result.name, trials=now.asked, store=store.uri, storage=storage, trust=trusted
        )
        rows.append(("continue", resume))
    if not result.unshipped:
        rows += where_to_look(store, result.run_id)
    print_rows(rows)


def _each(seconds: float | None) -> str:
    from harness.display import duration

    return "" if seconds is None else f"; {duration(seconds)} for a complete trial (median)"


def _wider(store: Store, result: Any, experiment: str | None, changes: Sequence[str], storage: str | None) -> str:
    """The command of a new study with wider ranges; only its new options where the experiment's file is not known."""
    wider = [edge.wider for edge in result.edges]
    if experiment is None:
        return " ".join(f"--set {shlex.quote(value)}" for value in wider) + "  (in a new study)"
    options: dict[str, Any] = {
        "study": f"{result.name}-wider",
        "trials": result.standing.total,
        "set": [*changes, *wider],
    }
    return commands.harness("tune", experiment, store=store.uri, storage=storage, **options)


def _print_confirmed(confirmed: Any) -> int:
    from harness.tables import print_table, wrapped

    header, *lines = confirmed.as_cells()
    click.echo("")
    print_table(header, lines)
    click.echo(wrapped(confirmed.verdict))
    return EXIT_OF_SIGNAL.get(confirmed.stopped, EXIT_OUT_OF_TIME) if confirmed.stopped else 0


@click.command(short_help="List the studies, and how far they are.")
@click.option(
    "--storage",
    metavar="URL",
    envvar=commands.STORAGE,
    help="A database; else $HARNESS_STORAGE, else mlruns/optuna.journal.",
)
@json_option
def studies(storage: str | None, as_json: bool) -> None:
    """List the studies of a storage: trials, the best score and its values."""
    from harness.study import storage as storages
    from harness.study.listing import studies as list_studies

    root = Path("mlruns").absolute()
    rows = list_studies(storage, root)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(storages.no_studies(storage, root))
        return
    from harness.display import shown_values
    from harness.tables import print_table

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
