"""The command line: parses, calls, prints. No logic lives here, and heavy imports happen inside the commands."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from harness import __version__
from harness.errors import HarnessError, redact

if TYPE_CHECKING:
    from harness.replicating import Replicates
    from harness.running import Outcome
    from harness.tracking import Store

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_OUT_OF_TIME = 1, 2, 3
EXIT_OF_SIGNAL = {"SIGINT": 130, "SIGTERM": 143}

Command = Callable[..., Any]


def main() -> NoReturn:
    """The console script `harness`."""
    debug = "--debug" in sys.argv or bool(os.environ.get("HARNESS_DEBUG"))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = cli.main(arguments, prog_name="harness", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("harness: stopped", file=sys.stderr)
        sys.exit(EXIT_OF_SIGNAL["SIGINT"])
    except BrokenPipeError:  # `harness runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except HarnessError as error:
        if debug:
            raise
        print(f"harness: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except Exception as error:
        if debug:
            raise
        text = " ".join(redact(str(error)).split())
        print(
            f"harness: {type(error).__name__}: {text[:500]} (a fault of harness; --debug shows where)", file=sys.stderr
        )
        sys.exit(EXIT_FAILED)
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="harness %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error (with any command).")
def cli() -> None:
    """Train, track, score and search small GANs; every run is kept in MLflow.

    A RUN is a run id, a unique prefix of one, a run name, or `latest`.
    """


# Options that several commands share -----------------------------------------------------------------------------


def _options(*options: Command) -> Command:
    def apply(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


_tracking_uri = click.option(
    "--tracking-uri", metavar="URI", help="MLflow store; else $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

_experiment_options = _options(
    click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a leaf of the experiment."),
    click.option("--seed", type=int, help="Short for --set train.seed=N."),
    click.option("--device", help="auto, cpu, cuda or mps; short for --set train.device=...."),
    click.option("--epochs", type=int, help="Short for --set train.epochs=N."),
    click.option("--subset", type=int, help="Train on N images; short for --set data.subset=N."),
)
_run_options = _options(
    click.option("--name", help="Name of the run in MLflow."),
    click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Tag of the run; may be repeated."),
    click.option("--note", help="A note for the run's page in MLflow."),
    _tracking_uri,
    click.option("--no-system-metrics", is_flag=True, help="Do not log the machine's load and memory."),
)


def _all_overrides(
    overrides: Sequence[str], seed: int | None, device: str | None, epochs: int | None, subset: int | None
) -> list[str]:
    short = {"train.seed": seed, "train.device": device, "train.epochs": epochs, "data.subset": subset}
    return [*overrides, *(f"{path}={value}" for path, value in short.items() if value is not None)]


def _pairs(tags: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for tag in tags:
        key, sign, value = tag.partition("=")
        if not sign or not key:
            raise HarnessError(f"--tag {tag!r}: expected key=value, for example --tag student=mia")
        if key.startswith(("harness.", "mlflow.")):
            raise HarnessError(f"--tag {tag!r}: tags that begin with harness. or mlflow. are set by harness itself")
        pairs[key] = value
    return pairs


def _seconds(text: str | None, option: str = "--max-time") -> float | None:
    """`90`, `45s`, `30m`, `2h`, `1h30m` or `hh:mm:ss` in seconds."""
    import re

    if text is None:
        return None
    clock = re.fullmatch(r"(\d+):(\d\d)(?::(\d\d))?", text)
    units = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    parts = (clock or units).groups() if text and (clock or units) else None  # type: ignore[union-attr]
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True)) if parts else 0
    if seconds <= 0:
        raise HarnessError(f"{option} {text!r}: expected a time such as 90s, 30m, 2h, 1h30m or 01:30:00")
    return seconds


def _store(uri: str | None, *, create: bool = False) -> Store:
    """The store of this command. Commands that only look do not create one."""
    from harness.tracking import Store

    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None and not create and not Path("mlruns/mlflow.db").is_file():
        raise HarnessError("there are no runs here: ./mlruns/mlflow.db does not exist; start one with `harness run`")
    return Store.open(uri, create=create, notice=lambda text: click.echo(text, err=True))


# Training --------------------------------------------------------------------------------------------------------


@cli.command(short_help="Train an experiment as one MLflow run.")
@click.argument("experiment", required=False)
@_experiment_options
@_run_options
@click.option("--resume", metavar="RUN", help="Go on with a run where its last checkpoint left it.")
@click.option("--max-time", metavar="TIME", help="End cleanly at the last epoch boundary before that: 30m, 2h, ....")
@click.option("--seeds", type=int, help="Train under N seeds, nested below one parent run with mean and deviation.")
@click.option("--together", type=int, help="With --seeds: train so many at once as one program (default: timed).")
@click.option("--preview", is_flag=True, help="Draw the sample grids in the terminal.")
@click.option("--dry-run", is_flag=True, help="Print the resolved experiment; train nothing.")
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
) -> int:
    """Train EXPERIMENT (a name from experiments/ or a YAML file; `default` when left out) as one MLflow run.

    Exit code: 0 finished, 1 failed or diverged, 2 bad input, 3 stopped by --max-time, 130 or 143 stopped by Ctrl-C
    or SIGTERM. Stopped runs go on with --resume. The first Ctrl-C lets the epoch end and saves; the second stops
    at once.
    """
    started = time.monotonic()
    limit = _seconds(max_time)
    changes = _all_overrides(overrides, seed, device, epochs, subset)
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
    values = dict(experiments.parse_override(text) for text in changes)
    wanted = None if resume else experiments.load(experiment or "default", changes)
    pairs = _pairs(tags)

    from harness import running
    from harness.display import Terminal, console
    from harness.gan.resolve import resolved_device

    if wanted is not None:
        resolved_device(wanted.train.device)  # before a store is made for nothing

    if dry_run:
        if wanted is None:
            raise HarnessError("--dry-run shows a new run; leave --resume out")
        _print_plan(running.prepare(wanted, running.Quiet())[0])
        return 0
    screen = console()
    display = Terminal(screen, preview=preview)
    options = running.Options(
        name=name,
        tags=pairs,
        note=note,
        deadline=None if limit is None else started + limit,
        system_metrics=not no_system_metrics,
    )
    store = _store(tracking_uri, create=resume is None)
    _tidy(store, display.notice)
    from harness import replicating

    parent = store.find(resume) if resume else None
    if parent is not None and parent.data.tags.get("harness.kind") == "study":
        raise HarnessError(
            f"{resume} is a study: go on with it by `harness tune --study {parent.data.tags['harness.study']}`"
        )
    if parent is not None and parent.data.tags.get("harness.kind") == "replicates":
        if values:
            raise HarnessError("replicates are resumed as they were started; leave --set, --epochs and the like out")
        return _print_replicates(replicating.resume(parent, store, options, display))
    if seeds is not None and wanted is not None:
        return _print_replicates(replicating.replicate(wanted, seeds, store, options, display, together=together))
    if resume:
        outcome = running.resume(resume, store, values, options, display)
    else:
        assert wanted is not None
        outcome = running.run(wanted, store, options, display)
    _print_outcome(store, outcome, time.monotonic() - started)
    return _exit_code(outcome)


def _tidy(store: Store, notice: Callable[[str], None]) -> None:
    """What runs that died left behind: ship their spools, and let no status lie."""
    for line in store.sync():
        notice(line)
    for run_id in store.reconcile():
        notice(f"run {run_id[:8]} was left RUNNING by a process that is gone; it is KILLED now (see --resume)")


def _exit_code(outcome: Outcome) -> int:
    if outcome.stopped:
        return EXIT_OF_SIGNAL.get(outcome.stopped, EXIT_OUT_OF_TIME)
    return 0 if outcome.status == "FINISHED" else EXIT_FAILED


def _print_plan(training: Any) -> None:
    weights = {
        name: sum(weight.numel() for weight in network.parameters())
        for name, network in (("generator", training.generator), ("discriminator", training.discriminator))
    }
    click.echo(training.experiment.to_yaml().rstrip())
    click.echo(
        f"# {len(training.images):,} images, {training.steps_per_epoch} steps an epoch; "
        + ", ".join(f"{name} {count:,} weights" for name, count in weights.items())
    )


def _print_outcome(store: Store, outcome: Outcome, seconds: float) -> None:
    from harness import recall
    from harness.display import duration

    short = outcome.run_id[:8]
    epochs = outcome.experiment.train.epochs
    click.echo(f"\n{outcome.status}  {outcome.name}  {outcome.epoch} of {epochs} epochs in {duration(seconds)}")
    rows = [("run", f"{outcome.run_id}  (MLflow experiment {outcome.experiment.project})")]
    if outcome.reason:
        rows.append(("why", outcome.reason))
    if outcome.metrics:
        rows.append(("losses", "D {loss/discriminator:.3f}  G {loss/generator:.3f}".format(**outcome.metrics)))
    if outcome.scores:
        shown = "KID {test/kid:.4f} ± {test/kid_se:.4f}  Frechet {test/frechet:.2f}".format(**outcome.scores)
        rows.append(("test", f"{shown}  (judge {outcome.judge}; lower is better)"))
    if outcome.unshipped:
        rows.append(("tracking", f"{outcome.unshipped}; all is kept here: `harness sync` ships it later"))
    elif grid := recall.newest_grid(store, outcome.run_id):
        rows.append(("grid", _shown_path(grid)))
    rows.append(("sample", f"{_program('harness')} sample {short} --count 100 --out digits.png"))
    if outcome.status == "KILLED":
        rows.append(("go on", f"{_program('harness')} run --resume {short}"))
    if not outcome.unshipped:
        rows += _where(store, outcome.experiment.project, outcome.run_id)
    for label, text in rows:
        click.echo(f"  {label:9}{text}")


def _where(store: Store, project: str, run_id: str) -> list[tuple[str, str]]:
    """How to look at a run in MLflow's UI."""
    if link := store.link(store.client.get_run(run_id)):
        return [("look", link)]
    experiment = store.experiment_id(project)
    return [
        ("look", f"{_program('mlflow')} server --backend-store-uri {store.shown_uri} --port 5000"),
        ("", f"then http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run_id}"),
    ]


def _program(name: str) -> str:
    """How `harness` or `mlflow` is called from here: by name where it is on the PATH, else from our environment."""
    import shutil

    beside = Path(sys.executable).with_name(name)
    return name if shutil.which(name) or not beside.exists() else _shown_path(beside)


def _print_replicates(result: Replicates) -> int:
    click.echo(f"\n{result.status}  {result.name}  {len(result.outcomes)} seeds")
    for seed, outcome in result.outcomes.items():
        shown = "KID {test/kid:.4f}  Frechet {test/frechet:.2f}".format(**outcome.scores) if outcome.scores else ""
        click.echo(f"  seed {seed:<5}{outcome.run_id[:8]}  {outcome.status:9} {shown} {outcome.reason or ''}".rstrip())
    if result.means:
        for name, label in (("test/kid", "KID"), ("test/frechet", "Frechet")):
            click.echo(f"  {label:9} {result.means[name]:.4f} ± {result.deviations[name]:.4f} (standard deviation)")
    click.echo(f"  run       {result.run_id}")
    if result.unshipped:
        click.echo(f"  tracking  {result.unshipped}; all is kept here: `harness sync` ships it later")
    if result.stopped:
        click.echo(f"  go on     {_program('harness')} run --resume {result.run_id[:8]}")
        return EXIT_OF_SIGNAL.get(result.stopped, EXIT_OUT_OF_TIME)
    return 0 if all(outcome.status == "FINISHED" for outcome in result.outcomes.values()) else EXIT_FAILED


def _shown_path(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@cli.command(short_help="Search an experiment's values, as nested runs of an Optuna study.")
@click.argument("experiment", required=False)
@click.option(
    "--trials", type=click.IntRange(1), help="In total.  [default: what the study was asked for before, else 20]"
)
@click.option("--study", help="Its name; one that exists is gone on with.  [default: the experiment's name]")
@_experiment_options
@click.option("--sampler", help="tpe, random, qmc, grid, gp or cmaes.  [default: tpe]")
@click.option("--pruner", help="halving or none.  [default: halving]")
@click.option(
    "--prune-from", type=click.IntRange(1), metavar="EPOCH", help="First comparison.  [default: the experiment's]"
)
@click.option("--metric", help="kid, frechet, density, coverage or class_kl, on validation images.  [default: kid]")
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
    "--budget", type=click.Choice(["full", "tuning"]), default="full", show_default=True, help="Of --confirm."
)
@click.option("--storage", metavar="URL", help="postgresql://... for many machines.  [default: mlruns/optuna.journal]")
@click.option("--dashboard", is_flag=True, help="Open optuna-dashboard on the storage instead.")
@_run_options
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
    name: str | None,
    tags: Sequence[str],
    note: str | None,
    tracking_uri: str | None,
    no_system_metrics: bool,
) -> int:
    """Search the values of EXPERIMENT (`default` when left out), each trial a run below the study's own run.

    What is searched stands under `search:` in the experiment file, what makes trials cheap under `search_budget:`;
    both can be changed: --set 'search.optimizer.lr={low: 1e-4, high: 1e-2, log: true}', --set
    search_budget.train.epochs=4. Without `search:` it is learning rate, latent size and dropout.

    The same command again goes on where it was stopped or killed. Exit code: 0 when all trials have ended, 2 bad input,
    3 stopped by --timeout, 130 or 143 by Ctrl-C or SIGTERM.
    """
    started = time.monotonic()
    if dashboard:
        from harness.study.dashboard import serve

        serve(storage, Path("mlruns").absolute(), lambda text: click.echo(text))
        return 0
    limit = _seconds(timeout, "--timeout")
    if fuse not in (None, "auto") and not (fuse.isdecimal() and int(fuse) > 0):
        raise HarnessError(f"--fuse {fuse}: expected a number of trials, or auto")
    changes = _all_overrides(overrides, seed, device, epochs, subset)
    pairs = _pairs(tags)
    from harness import search as searches

    go_on = study is not None and experiment is None and not changes
    found, searched = (None, None) if go_on else searches.load(experiment or "default", changes)

    from harness.display import StudyTerminal, console
    from harness.gan.resolve import resolved_device

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
        deadline=None if limit is None else started + limit,
        name=name,
        tags=pairs,
        note=note,
        system_metrics=not no_system_metrics,
    )
    studies.check(wish, tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "")
    store = _store(tracking_uri, create=True)
    display = StudyTerminal(console())
    _tidy(store, display.notice)
    try:
        result = studies.tune(found, searched, wish, store, display)
    finally:
        display.close()
    _print_study(store, result, time.monotonic() - started)
    if result.stopped:
        return EXIT_OF_SIGNAL.get(result.stopped, EXIT_OUT_OF_TIME)
    if confirm and result.standing.own and result.standing.best == result.standing.own:
        click.echo("the experiment's own values are the best of the study: there is nothing to confirm")
    elif confirm:
        return _print_confirmed(studies.confirm(result, confirm, budget, store, wish, display))
    return 0


def _print_study(store: Store, result: Any, seconds: float) -> None:
    from harness.display import duration, shown_values

    now, metric = result.standing, result.settings.metric
    counts = f"{now.complete} complete, {now.pruned} pruned, {now.failed} failed"
    click.echo(
        f"\n{'KILLED' if result.stopped else 'FINISHED'}  study {result.name}  "
        f"{now.ended} of {now.total} trials ({counts}) in {duration(seconds)}"
    )
    rows = []
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
    rows += [("edge", line) for line in result.edges]
    if result.unshipped:
        rows.append(("tracking", f"{result.unshipped}; all is kept here: `harness sync` ships it later"))
    rows.append(("run", f"{result.run_id}  (MLflow experiment {result.settings.experiment.project})"))
    if result.best_file:
        rows.append(("train it", f"{_program('harness')} run {_shown_path(result.best_file)}"))
    if result.stopped:
        rows.append(("go on", f"{_program('harness')} tune --study {result.name} --trials {now.total}"))
    if not result.unshipped:
        rows += _where(store, result.settings.experiment.project, result.run_id)
    for label, text in rows:
        click.echo(f"  {label:9}{text}")


def _print_confirmed(confirmed: Any) -> int:
    from harness.display import print_table

    header, *lines = confirmed.as_cells()
    click.echo("")
    print_table(header, lines)
    click.echo(confirmed.verdict)
    return EXIT_OF_SIGNAL.get(confirmed.stopped, EXIT_OUT_OF_TIME) if confirmed.stopped else 0


@cli.command(short_help="List the studies, and how far they are.")
@click.option("--storage", metavar="URL", help="A database.  [default: mlruns/optuna.journal]")
@_json
def studies(storage: str | None, as_json: bool) -> None:
    """List the studies of a storage: trials, the best score and its values."""
    from harness.study.listing import studies as list_studies

    rows = list_studies(storage, Path("mlruns").absolute())
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from harness.display import print_table, shown_values

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
    print_table(header, lines)


@cli.command(short_help="Tiny runs of all experiments, read back and compared.")
@click.argument("experiments", nargs=-1)
@_tracking_uri
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def check(experiments: Sequence[str], tracking_uri: str | None, device: str) -> int:
    """Run each EXPERIMENT (all of experiments/ by default) for one epoch on a few images, below one parent run.

    Passed means: finite losses, images logged, everything read back from MLflow as it was logged, and the checkpoint
    loaded into fresh objects draws the same samples. Exit code 1 when one failed.
    """
    from harness.checking import check as check_all
    from harness.display import print_table

    store = _store(tracking_uri, create=True)
    _tidy(store, lambda text: click.echo(text, err=True))
    results = check_all(experiments, store, device=device, notice=lambda text: click.echo(text, err=True))
    lines = [
        [result.name, result.result, f"{result.seconds:.1f}", (result.run_id or "")[:8], result.reason or ""]
        for result in results
    ]
    print_table(["experiment", "result", "seconds", "run", "reason"], lines)
    return EXIT_FAILED if any(result.result == "failed" for result in results) else 0


# Looking ---------------------------------------------------------------------------------------------------------


@cli.command(short_help="Draw images with a run's generator.")
@click.argument("run")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="How many images.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.png (a grid) or FILE.npz.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the noise.")
@click.option("--weights", type=click.Choice(["best", "last"]), default="best", show_default=True)
@click.option("--raw", is_flag=True, help="The trained weights also where the experiment keeps their average.")
@_tracking_uri
def sample(run: str, count: int, out: Path, seed: int, weights: str, raw: bool, tracking_uri: str | None) -> None:
    """Draw images with the generator of RUN: a PNG grid, or an NPZ with `images` uint8 (N, 28, 28).

    A conditional generator draws the classes in turn: in a grid, one a column.
    """
    if out.suffix not in {".png", ".npz"}:
        raise HarnessError(f"--out {out}: the name must end in .png (a grid) or .npz (an array)")
    store = _store(tracking_uri)
    from harness import recall

    recall.sample_to(out, store, store.find(run), count=count, seed=seed, weights=weights, raw=raw)
    click.echo(f"{count:,} images in {out}")


@cli.command(short_help="Score runs, or anyone's images, beside real digits.")
@click.argument("wanted", metavar="[RUN]...", nargs=-1)
@click.option("--images", type=click.Path(path_type=Path), help="Score FILE.npz, with `images` uint8, instead of runs.")
@click.option("--data", "data_name", default="mnist", show_default=True, help="What --images are to look like.")
@click.option("--judge", help="first, second, or package.module:Class.  [default: the experiment's own]")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@click.option("--samples", type=click.IntRange(10), help="Compare this many, not the experiment's quality.samples.")
@_json
@_tracking_uri
def evaluate(
    wanted: Sequence[str],
    images: Path | None,
    data_name: str,
    judge: str | None,
    split: Any,
    samples: int | None,
    as_json: bool,
    tracking_uri: str | None,
) -> None:
    """Score the best generator of each RUN again, print a table, and write the scores back to the runs.

    The first row is real against real: what a perfect generator would get. ± is the standard error of KID, or the
    standard deviation over the seeds of replicates. docs/metrics.md says what the numbers mean.
    """
    if bool(wanted) == bool(images):
        raise HarnessError("give one or more RUNs, or --images FILE.npz")
    if images and split == "validation":
        raise HarnessError("--images are scored against the test split; leave --split validation out")
    from harness import evaluating

    def notice(text: str) -> None:
        click.echo(text, err=True)

    if images:
        rows = evaluating.evaluate_images(
            images, name=data_name, judge=judge or "first", samples=samples, notice=notice
        )
    else:
        store = _store(tracking_uri)
        runs = [store.find(text) for text in wanted]
        rows = evaluating.evaluate(store, runs, judge=judge, split=split, samples=samples, notice=notice)
    if as_json:
        click.echo(json.dumps(evaluating.as_json(rows), indent=2))
        return
    from harness.display import print_table

    header, *lines = evaluating.as_cells(rows)
    print_table(header, lines)
    counts = " and ".join(dict.fromkeys(f"{row.samples:,}" for row in rows))
    click.echo(f"{rows[0].split} split, {counts} samples, judge {rows[0].judge}; ± see --help")


@cli.command(short_help="List the experiments that `run` knows.")
@_json
def experiments(as_json: bool) -> None:
    """List the experiments that `run` knows by name."""
    from harness import experiment as module

    rows = [(name, module.load(path).description, path) for name, path in module.known().items()]
    if as_json:
        click.echo(json.dumps([{"name": n, "description": d, "file": str(p)} for n, d, p in rows], indent=2))
        return
    width = max((len(name) for name, *_ in rows), default=0)
    for name, description, _ in rows:
        click.echo(f"{name:{width}}  {description}")


@cli.command(short_help="List recent runs, their status and numbers.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.option("--project", help="Only the runs of this MLflow experiment.")
@click.option("--all", "children", is_flag=True, help="Trials and other nested runs too.")
@_json
@_tracking_uri
def runs(limit: int, project: str | None, children: bool, as_json: bool, tracking_uri: str | None) -> None:
    """List recent runs: their status and numbers."""
    store = _store(tracking_uri)
    from harness import recall

    if project is not None and store.client.get_experiment_by_name(project) is None:
        names = ", ".join(experiment.name for experiment in store.client.search_experiments())
        raise HarnessError(f"--project {project!r}: there is no such MLflow experiment; there are {names}")
    found = [recall.summary(run) for run in store.runs(limit=limit, project=project, children=children)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from harness.display import duration, print_table

    lines = []
    for row in found:
        metrics = row["metrics"]
        numbers = [metrics.get(name) for name in ("loss/discriminator", "loss/generator", "test/kid", "test/frechet")]
        lines.append(
            [
                row["name"],
                row["run_id"][:8],
                row["kind"],
                row["status"],
                "" if row["epochs"] is None else f"{'?' if row['epoch'] is None else row['epoch']}/{row['epochs']}",
                *("" if number is None else f"{number:.3f}" for number in numbers),
                row["started"].replace("T", " ")[:16],
                "" if row["seconds"] is None else duration(row["seconds"]),
            ]
        )
    header = ["name", "run", "kind", "status", "epoch", "loss D", "loss G", "KID", "Frechet", "started", "took"]
    print_table(header, lines)


@cli.command(short_help="Print the JSON schema of experiment files.")
def schema() -> None:
    """Print the JSON schema of experiment files, for an editor to complete and check them."""
    from harness import experiment as module

    click.echo(json.dumps(module.schema(), indent=2))


@cli.command(short_help="Ship what a lost tracking server did not take.")
@_tracking_uri
def sync(tracking_uri: str | None) -> None:
    """Ship what runs could not: metrics, images and statuses kept here while their tracking server was away."""
    store = _store(tracking_uri, create=True)
    lines = store.sync()
    stale = store.reconcile()
    for line in lines:
        click.echo(line)
    for run_id in stale:
        click.echo(f"run {run_id[:8]} was left RUNNING by a process that is gone; it is KILLED now")
    if not lines and not stale:
        click.echo("nothing to ship")


@cli.command(short_help="Look at what a run needs.")
@_tracking_uri
def doctor(tracking_uri: str | None) -> int:
    """Look at what a run needs: versions, devices, tracking store, data, disk space. Exit code 1 when one is amiss."""
    from harness.doctor import examine

    findings = examine(tracking_uri)
    for finding in findings:
        mark = click.style("ok  ", fg="green") if finding.well else click.style("bad ", fg="red")
        click.echo(f"{mark}{finding.subject:10}{finding.text}")
    return 0 if all(finding.well for finding in findings) else EXIT_FAILED
