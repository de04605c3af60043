"""Searching: `harness.tune`. The command `harness tune` calls it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import formatting
from harness.api.context import api_context
from harness.api.options import (
    Overrides,
    as_names,
    check_labels,
    deadline_after,
    executor_options,
    experiment_source,
    merge_overrides,
)
from harness.api.progress import Progress, close, closing, finish, study_display
from harness.api.search import LOADING, load_search
from harness.api.stores import check_store_answers, open_store, recover_runs, storage_to_use, store_to_write
from harness.api.studies import Study

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.experiment.scores import Direction


def tune(
    experiment: str | Path | Experiment | None = None,
    *,
    trials: int | None = None,
    study: str | None = None,
    epochs: int | None = None,
    subset: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    set: Overrides | None = None,
    sampler: str | None = None,
    pruner: str | None = None,
    prune_from: int | None = None,
    metric: str | Sequence[str] | None = None,
    direction: Direction | None = None,
    workers: int = 1,
    executor: str = "local",
    slurm: Mapping[str, object] | Sequence[str] = (),
    address: str | None = None,
    batch_runs: int | None = None,
    seeds: int | None = None,
    aggregate: str | None = None,
    race: bool | None = None,
    method: str | None = None,
    perturb_every: int | None = None,
    constraint: str | Sequence[str] | None = None,
    from_study: str | None = None,
    max_time: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    tracking_uri: str | None = None,
    offline: bool | None = None,
    spool: str | Path | None = None,
    system_metrics: bool = True,
    allow_changes: bool = False,
    trust: bool = False,
    progress: Progress = True,
) -> Study:
    """Search the hyperparameters of an experiment with Optuna, as `harness tune` does.

    Each trial is a run below the MLflow run of the study. The same call continues a study that was stopped.

    Args:
        experiment: See `harness.run`. None: the default experiment; with `study` alone, that study is resumed as it is.
        trials: Number of trials in total. None: that of the resumed study, else 20.
        study: Name of the study. A study that exists is resumed. None: the name of the experiment.
        epochs: Number of epochs of a trial.
        subset: Number of training images of a trial.
        seed: See `harness.run`; also the seed of the sampler.
        device: See `harness.run`.
        set: Values to change, by dotted path. `{"search.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}`
            changes a range.
        sampler: Optuna sampler: tpe, random, qmc, grid, gp, cmaes, nsgaii, or your own as package.module:Name. None:
            tpe.
        pruner: halving, hyperband, median (between epochs), wilcoxon (between seeds only) or none. None: halving. With
            `seeds`, each of the first three also prunes between seeds.
        prune_from: First epoch at which trials can be pruned. None: the experiment's.
        metric: Score to optimise on validation images: kid, frechet, density, coverage or class_kl; mode_kl or modes
            for stacked-mnist. Several, also of the costs seconds, images and parameters, are optimised together: the
            result is a Pareto front. None: kid, or mode_kl.
        direction: minimize or maximize, for one metric. None: the metric's.
        workers: Number of processes.
        executor: Where they run: local (they share the CPU cores), slurm (a job array) or ray (actors of a cluster).
        slurm: Options of `sbatch`: `{"time": "2:00:00", "partition": "gpu"}`.
        address: Address of a Ray cluster. None: $RAY_ADDRESS, else Ray is started on this machine.
        batch_runs: Number of runs that one process trains at once, as one program. None: a short timing decides.
        seeds: Number of seeds that each trial is trained under. With `race`, the most that a trial gets. None: the
            experiment's `search_seeds`, else 1; with `race`, 8.
        aggregate: How the scores of a trial's seeds become its value: mean, median, worst or mean+std. None: mean.
        race: Start all trials with one seed, and give more seeds to the better half, round after round.
        method: optuna: trials are proposed one after another. pbt: population-based training; all trials are trained
            side by side, the worst copy the best, and values change while training. None: optuna.
        perturb_every: With `method="pbt"`, number of epochs between two decisions. None: a tenth of a trial.
        constraint: Limits such as "parameters<=2e6" on scores and costs. A trial beyond one cannot be the best.
        from_study: A study whose finished trials a new study starts with, as far as they fit: its space may be wider,
            and its number of trials larger. They count as trials.
        max_time: Stop before this time is over: "30m", "2h", "1h30m".
        storage: Optuna storage. None: $HARNESS_STORAGE, else mlruns/optuna.journal.
        name: Name of the study's run.
        tags: Tags of the study's run.
        note: A note for the page of the study's run in MLflow.
        tracking_uri: See `harness.run`.
        offline: See `harness.run`. The Optuna storage is the journal in the folder of the offline store.
        spool: See `harness.run`.
        system_metrics: See `harness.run`.
        allow_changes: See `harness.resume`.
        trust: See `harness.run`.
        progress: See `harness.run`.

    Returns:
        The study.

    Raises:
        HarnessError: The search is not possible, or a study of this name searches something else. It is raised before
            anything is trained.

    Examples:
        >>> study = harness.tune("default", trials=20, max_time="2h")
        >>> best = harness.run("default", set=study.best_params)
    """
    deadline = deadline_after(max_time)
    display = study_display(progress)
    storage = storage_to_use(storage, offline)
    overrides = merge_overrides(set, seed=seed, device=device, epochs=epochs, subset=subset)
    tags = {key: str(value) for key, value in (tags or {}).items()}
    check_labels(name, tags, note)
    with api_context(trust=trust), closing(display):
        tracking_uri = store_to_write(tracking_uri, offline, spool)
        check_store_answers(tracking_uri)
        search = None
        if study is None or experiment is not None or overrides:
            search = load_search(experiment, overrides, prune_from, workers, batch_runs, display)
        display.message(LOADING)
        from harness.tuning import request, trial_times
        from harness.tuning.tune import tune as run_study

        if search is not None:
            with experiment_source(experiment or "default") as source:
                search.check_images(source, overrides)
        described = search.experiment if search else None
        requested = request.TuneRequest(
            trials=trials,
            study=study,
            storage=storage,
            sampler=sampler,
            pruner=pruner,
            min_resource=search.prune_from if search else prune_from,
            metrics=as_names(metric),
            constraints=as_names(constraint),
            direction=direction,
            batch_runs=batch_runs,
            seeds=seeds,
            aggregate=aggregate,
            race=race,
            method=method,
            perturb_every=perturb_every,
            from_study=from_study,
            workers=workers,
            executor=executor,
            executor_options=executor_options(slurm),
            address=address,
            deadline=deadline,
            name=name,
            tags=tags,
            note=note,
            system_metrics=system_metrics,
            allow_changes=allow_changes,
        )
        request.validate(requested, tracking_uri or os.environ.get(formatting.STORE) or "", described)
        store = open_store(tracking_uri, create=True, message=display.message)
        recover_runs(store, display.message)
        result = run_study(described, search.search if search else None, requested, store, display)
        close(display)
        if search is not None and result.trial_seconds is not None:
            trial_times.save(search.kind, result.trial_seconds)
        finished = Study(store, result.name, storage=storage, result=result, request=requested, trust=trust)
        finish(display, f"{'stopped' if result.stopped else 'finished'}: {finished!r}")
        return finished
