"""Commands that search: `tune` and `studies`."""

from __future__ import annotations

import inspect
import json
from typing import Any

import click

from harness.cli.common import exit_code, print_rows, survive_hangup
from harness.cli.options import (
    allow_changes_option,
    code_options,
    executor_options,
    experiment_options,
    group,
    json_option,
    max_time_option,
    pop_overrides,
    run_options,
    storage_option,
    system_metrics_option,
    tracking_uri_option,
)
from harness.errors import HarnessError
from harness.experiment.scores import PRIMARY_SCORES, described_choices


def _parse_batch_runs(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text in (None, "auto"):
        return None
    if not text.isdecimal() or int(text) == 0:
        raise HarnessError(f"--batch-runs {text}: expected a number of trials, or auto")
    return int(text)


_study_options = group(
    click.option(
        "--trials",
        type=click.IntRange(1),
        metavar="N",
        help="Number of trials in total.  [default: that of the resumed study, else 20]",
    ),
    click.option(
        "--study",
        metavar="NAME",
        help="Name of the study. If it exists, the study is resumed.  [default: the experiment's name]",
    ),
)
_from_option = click.option(
    "--from",
    "from_study",
    metavar="STUDY",
    help="Start a new study with the finished trials of this one, as far as they fit. They count as trials.",
)
_search_options = group(
    click.option(
        "--sampler",
        metavar="NAME",
        help="Optuna sampler: tpe, random, qmc, grid, gp, cmaes, nsgaii or package.module:Name.  [default: tpe]",
    ),
    click.option(
        "--pruner",
        metavar="NAME",
        help="Pruner: halving, hyperband, median, wilcoxon (between seeds only) or none.  [default: halving]",
    ),
    click.option(
        "--prune-from",
        type=click.IntRange(1),
        metavar="EPOCH",
        help="First epoch at which trials can be pruned.  [default: the experiment's]",
    ),
    click.option(
        "--metric",
        metavar="NAME",
        multiple=True,
        help=f"Score to optimise on validation images: {described_choices()}. Give several, also seconds, images or "
        f"parameters, for a Pareto front.  [default: {', or '.join(primary.key for primary in PRIMARY_SCORES)}]",
    ),
    click.option(
        "--constraint",
        metavar="LIMIT",
        multiple=True,
        help="Limit such as 'parameters<=2e6' or 'coverage>=0.8'. A trial beyond it cannot be the best. Repeatable.",
    ),
    click.option(
        "--direction",
        type=click.Choice(["minimize", "maximize"]),
        metavar="DIRECTION",
        help="minimize or maximize, for one metric.  [default: the metric's]",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        default=1,
        show_default=True,
        help="Number of processes.",
    ),
    *executor_options,
    click.option(
        "--batch-runs",
        metavar="K",
        callback=_parse_batch_runs,
        help="Number of runs that one process trains at once.  [default: auto]",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(1),
        metavar="K",
        help="Number of seeds of each trial; with --race, at most.  [default: 1; with --race: 8]",
    ),
    click.option(
        "--aggregate",
        metavar="NAME",
        help="How the scores of a trial's seeds become its value: mean, median, worst or mean+std.  [default: mean]",
    ),
    click.option(
        "--race",
        is_flag=True,
        default=None,
        help="Start all trials with one seed, and give more seeds to the better half, round after round.",
    ),
    click.option(
        "--method",
        metavar="NAME",
        help="optuna, or pbt (population-based training): trials learn from each other.  [default: optuna]",
    ),
    click.option(
        "--perturb-every",
        type=click.IntRange(1),
        metavar="EPOCHS",
        help="With --method pbt: epochs between two decisions.  [default: a tenth of a trial]",
    ),
    storage_option,
)
_confirm_options = group(
    click.option(
        "--confirm",
        type=click.IntRange(2),
        metavar="N",
        help="After the search, train the best and the baseline values under N new seeds.",
    ),
    click.option(
        "--budget",
        type=click.Choice(["full", "tuning"]),
        help="Used with --confirm: training length of the experiment (full) or of a trial (tuning).  [default: full]",
    ),
)


@click.command(short_help="Search hyperparameters with Optuna; every trial is a run.")
@click.argument("experiment", required=False)
@_study_options
@_from_option
@experiment_options
@_search_options
@_confirm_options
@click.option("--dashboard", is_flag=True, help="Open optuna-dashboard instead of searching.")
@click.option("--dry-run", is_flag=True, help="Print what is searched and what a trial costs, without training.")
@run_options
@code_options
@allow_changes_option
def tune(
    experiment: str | None, confirm: int | None, budget: Any, dashboard: bool, dry_run: bool, **options: Any
) -> int:
    """Search the hyperparameters of EXPERIMENT with Optuna. Each trial is a run below the run of the study.

    EXPERIMENT is a name from `harness experiments` or a YAML file.  [default: default]

    In the experiment file, `search:` lists the ranges and `search_budget:` makes trials cheap. Both can be changed:
    --set 'search.optimizer.lr={low: 1e-4, high: 1e-2, log: true}', --set search_budget.train.epochs=4. Without
    `search:`, learning rate, latent size and dropout are searched.

    Options have priority over the file. --epochs, --subset and --set of a value of `search_budget:` apply to the
    trials; best.yaml and --confirm keep the file's values. --set of a value of `search:` fixes it. The first line of
    output describes a trial, and how long one took in an earlier study.

    The same command continues a study that was stopped or killed. Exit code: 0 all trials have ended, 2 bad input,
    3 stopped by --max-time; stopped and saved: 85 by SIGUSR1, 130 by Ctrl-C, 143 by SIGTERM.
    """
    survive_hangup()
    from harness import api

    if dashboard:
        api.open_dashboard(experiment, study=options["study"], storage=options["storage"], message=click.echo)
        return 0
    if budget and not confirm:
        raise HarnessError(f"--budget {budget}: use it with --confirm N")
    options["set"] = pop_overrides(options)
    from harness.api.display import Terminal
    from harness.api.study_display import StudyTerminal
    from harness.cli.study_output import print_confirmation, print_study
    from harness.cli.tables import console

    display = StudyTerminal(console())
    if dry_run:
        accepted = inspect.signature(api.plan_study).parameters
        plan = {name: value for name, value in options.items() if name in accepted}
        print_rows(api.plan_study(experiment, **plan, progress=display))
        return 0
    study = api.tune(experiment, **options, progress=display)
    stopped = print_study(study, experiment, options)
    if confirm and not stopped:
        try:
            confirmation = study.confirm(
                confirm, budget=budget or "full", max_time=study.deadline, progress=Terminal(display.console)
            )
        except api.NothingToConfirmError as nothing:
            click.echo(str(nothing))
            return 0
        print_confirmation(confirmation)
        stopped = confirmation.stopped
    return exit_code(stopped)


@click.command(short_help="Join a study as a worker, from any machine.")
@click.option("--study", metavar="NAME", required=True, help="Name of the study.")
@storage_option
@tracking_uri_option
@system_metrics_option
@max_time_option
@code_options
@allow_changes_option
def worker(study: str, **options: Any) -> int:
    """Train trials of a study that was started with `harness tune`, until it has all its trials.

    Start it on any machine that reaches the storage and the tracking server: a container, a job of a scheduler. Workers
    claim trials one by one. A trial whose worker died is resumed by another one.

    Exit code: 0 all trials have ended, 2 bad input, 3 stopped by --max-time; stopped and saved: 85 by SIGUSR1, 130 by
    Ctrl-C, 143 by SIGTERM.
    """
    survive_hangup()
    from harness import api
    from harness.api.study_display import StudyTerminal
    from harness.cli.study_output import print_study
    from harness.cli.tables import console

    joined = api.work(study, **options, progress=StudyTerminal(console()))
    return exit_code(print_study(joined, None, {**options, "study": study, "set": []}))


@click.command(short_help="Serve an Optuna storage to workers that cannot reach it.")
@click.argument("action", type=click.Choice(["serve"]))
@storage_option
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Address; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", default=13000, show_default=True, help="Port.")
def storage(action: str, storage: str | None, host: str, port: int) -> None:
    """Serve an Optuna storage with Optuna's gRPC proxy, until Ctrl-C or SIGTERM.

    Workers that reach no database use --storage grpc://HOST:PORT. The connection is not encrypted and asks for no
    password: use it inside a cluster.
    """
    from harness import api

    api.serve_storage(storage, host=host, port=port, message=click.echo)


@click.command(short_help="List studies: trials, best score, best values.")
@storage_option
@json_option
def studies(storage: str | None, as_json: bool) -> None:
    """List the studies of an Optuna storage with their trials, the best score and its values."""
    from harness import api
    from harness.cli.study_output import print_studies

    rows = api.list_studies(storage)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        print_studies(rows, storage)
