"""Training: `harness.run` and `harness.resume`. The command `harness run` calls these functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.context import api_context
from harness.api.continue_run import EndedRun, continue_named_run, continue_run
from harness.api.options import (
    Overrides,
    check_labels,
    deadline_after,
    experiment_source,
    merge_overrides,
    worker_options,
)
from harness.api.progress import Progress, close, closing, finish, print_line, run_display
from harness.api.runs import Run
from harness.api.stores import check_store_answers, open_store, recover_runs, store_to_write
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.runs.display import Display
    from harness.runs.options import RunResult
    from harness.runs.seeds import Replicates
    from harness.tracking import Store

LOADING = "loading PyTorch and MLflow ..."


def run(
    experiment: str | Path | Experiment = "default",
    *,
    epochs: int | None = None,
    subset: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    set: Overrides | None = None,
    seeds: int | None = None,
    batch_runs: int | None = None,
    workers: int | None = None,
    executor: str = "local",
    slurm: Mapping[str, object] | Sequence[str] = (),
    address: str | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    resume: bool = False,
    max_time: str | None = None,
    tracking_uri: str | None = None,
    offline: bool | None = None,
    spool: str | Path | None = None,
    system_metrics: bool = True,
    allow_changes: bool = False,
    trust: bool = False,
    progress: Progress = True,
) -> Run:
    """Train an experiment as one MLflow run, as `harness run` does.

    Ctrl-C, or the interrupt button of Jupyter, ends the run after the current epoch: its status is KILLED, and
    `harness.resume` continues it.

    Args:
        experiment: A name (see `harness experiments`), a YAML file, or the experiment of another run.
        epochs: Number of epochs; short for `train.epochs` in `set`.
        subset: Number of training images; short for `data.subset`.
        seed: Random seed; short for `train.seed`.
        device: auto, cpu, cuda or mps; short for `train.device`.
        set: Values to change, by dotted path: `{"optimizer.lr": 1e-3}`.
        seeds: Train under this number of seeds. A parent run holds the mean and deviation of the scores.
        batch_runs: Number of seeds that are trained at once, as one program. None: a short timing decides.
        workers: Number of processes that train the seeds. None: one, or one for each seed with slurm and ray.
        executor: Where these processes run: see `harness.tune`.
        slurm: See `harness.tune`.
        address: See `harness.tune`.
        name: Name of the run. None: the name of the experiment and four random digits.
        tags: Tags of the run.
        note: A note for the run's page in MLflow.
        resume: Continue the run of this name if there is one that has not ended, else start it: a job that is started
            again after it was preempted is the same call. Without `name`, the run has the name of the experiment.
        max_time: Stop at the end of an epoch, before this time is over: "30m", "2h", "1h30m"; "auto": before the Slurm
            job ends.
        tracking_uri: Address of the MLflow store. None: $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db, which is
            created if it does not exist.
        offline: Store the run in a local folder, without asking any server; `harness.sync` sends it later. None: if
            HARNESS_OFFLINE is set.
        spool: Folder for `offline`. None: mlruns/offline.
        system_metrics: Log CPU, GPU and memory use.
        allow_changes: See `harness.resume`; a new run does not need it.
        trust: Import the classes (`package.module:Class`) that a stored run names, which runs their code. Classes that
            `experiment` and `set` name are always imported.
        progress: Show the progress: one updated output in Jupyter, a live line on standard error elsewhere.

    Returns:
        The run; with `seeds`, the parent run.

    Raises:
        HarnessError: The experiment cannot be trained. It is raised before a run is created.

    Examples:
        >>> run = harness.run("default", epochs=2, set={"optimizer.lr": 1e-3})
        >>> run.scores["test/kid"]
    """
    deadline = deadline_after(max_time)
    tags = {key: str(value) for key, value in (tags or {}).items()}
    _check_batch_runs(batch_runs, seeds)
    places = worker_options(seeds, workers, executor, slurm, address)
    display = run_display(progress)
    with api_context(trust=trust), closing(display), experiment_source(experiment) as source:
        overrides = merge_overrides(set, seed=seed, device=device, epochs=epochs, subset=subset)
        check_labels(name, tags, note)
        resolved = _load(source, overrides, display)
        tracking_uri = store_to_write(tracking_uri, offline, spool)
        check_store_answers(tracking_uri)
        from harness.gan.auto import resolve_device
        from harness.runs.options import RunOptions

        resolve_device(resolved.train.device)  # refused before a store is created
        store = open_store(tracking_uri, create=True, message=display.message)
        recover_runs(store, display.message)
        options = RunOptions(
            name=name,
            tags=tags,
            note=note,
            deadline=deadline,
            system_metrics=system_metrics,
            allow_changes=allow_changes,
            workers=places,
        )
        if resume:
            options = replace(options, name=name or resolved.name, upload_first_checkpoint=True)
            found = continue_named_run(store, resolved, seeds, options, display)
            if found is not None:
                return _finished(found, store, display, trust=trust)
        from harness.runs.seeds import replicate
        from harness.runs.train import start_session, train

        result: RunResult | Replicates
        if seeds is not None:
            result = replicate(resolved, seeds, store, options, display, batch_runs=batch_runs)
        else:
            with start_session(resolved, store, options, display) as session:
                result = train(session)
        return _finished(result, store, display, trust=trust)


def _check_batch_runs(batch_runs: int | None, seeds: int | None) -> None:
    if batch_runs is not None and (seeds is None or not 1 <= batch_runs <= seeds):
        expected = "use it with --seeds N" if seeds is None else f"expected 1 to {seeds}, the number of seeds"
        raise HarnessError(f"--batch-runs is {batch_runs}; {expected}")


def _load(source: str | Path, overrides: list[str], display: Display) -> Experiment:
    """Load an experiment, with its defaults adjusted to its data set."""
    from harness.experiment import parse_overrides, read

    parse_overrides(overrides)
    read(source)  # an unknown name is refused before anything is loaded
    display.message(LOADING)
    from harness.runs import small_data

    resolved, adjusted = small_data.load(source, overrides)
    if adjusted.description:
        print_line(display, adjusted.description)
    return resolved


def resume(
    run: str | Run = "latest",
    *,
    epochs: int | None = None,
    set: Overrides | None = None,
    max_time: str | None = None,
    tracking_uri: str | None = None,
    offline: bool | None = None,
    spool: str | Path | None = None,
    system_metrics: bool = True,
    allow_changes: bool = False,
    trust: bool = False,
    progress: Progress = True,
) -> Run:
    """Resume a run from its last checkpoint, in the same MLflow run.

    On a CPU, with the same number of threads, the run ends with the same weights, bit for bit, as one that was never
    stopped. A run with `seeds` continues with the seeds that are missing.

    Args:
        run: A `Run`, an id, a unique prefix of one, a name, or `latest`.
        epochs: Extend the run to this number of epochs.
        set: Values to change, by dotted path. Only `train.epochs` may change.
        max_time: See `harness.run`.
        tracking_uri: See `harness.run`. The store of a `Run` is known.
        offline: See `harness.run`.
        spool: See `harness.run`.
        system_metrics: See `harness.run`.
        allow_changes: Continue although images, judge or network source have changed. The run is tagged
            `harness.changed`.
        trust: See `harness.run`.
        progress: See `harness.run`.

    Returns:
        The run.

    Raises:
        HarnessError: The run cannot be resumed: it is unknown, complete, still running, or a study. It stays as it was.

    Examples:
        >>> harness.resume("latest", epochs=40)
    """
    deadline = deadline_after(max_time)
    display = run_display(progress)
    with api_context(trust=trust), closing(display):
        from harness.experiment import parse_overrides

        values = parse_overrides(merge_overrides(set, epochs=epochs))
        if isinstance(run, str):
            tracking_uri = store_to_write(tracking_uri, offline, spool)
            check_store_answers(tracking_uri)
        display.message(LOADING)
        from harness.runs.options import RunOptions

        options = RunOptions(deadline=deadline, system_metrics=system_metrics, allow_changes=allow_changes)
        store = open_store(tracking_uri, message=display.message) if isinstance(run, str) else run.store
        recover_runs(store, display.message)
        stored = store.find(run if isinstance(run, str) else run.id)
        result = continue_run(stored, store, values, options, display)
        return _finished(result, store, display, trust=trust)


def _finished(result: RunResult | Replicates | EndedRun, store: Store, display: Display, *, trust: bool) -> Run:
    close(display)
    if isinstance(result, EndedRun):
        finish(display, f"run {result.name} ({result.run_id[:8]}) has ended before")
        return Run(store, result.run_id, trust=trust)
    status = "stopped" if result.stopped else result.status.lower()
    finish(display, f"{status}: run {result.name} ({result.run_id[:8]})")
    return Run(store, result.run_id, result=result, trust=trust)
