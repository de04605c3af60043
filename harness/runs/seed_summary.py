"""What the parent of seeds shows: mean and deviation of their scores, their mean curves, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import redact
from harness.experiment import Experiment
from harness.experiment.scores import PrimaryScore
from harness.experiment.tags import Tag
from harness.gan import generate, sample_inputs
from harness.media import pictures
from harness.quality.scoring import Split
from harness.results import load, summary
from harness.results.evaluate import mean_and_deviation
from harness.runs import provenance
from harness.runs.artifacts import GRID
from harness.runs.display import Display
from harness.runs.options import RunResult, Status
from harness.tracking import RunLog, Store, run_description

if TYPE_CHECKING:
    from harness.tracking import Run

ROW = 10  # digits of each seed in the parent's picture
CURVES = ("loss/discriminator", "loss/generator", "quality/class_kl")  # and the primary and secondary scores


def log_summary(
    store: Store,
    log: RunLog,
    experiment: Experiment,
    outcomes: list[RunResult],
    display: Display,
    *,
    split: Split = "test",
    replace: bool = False,
) -> tuple[dict[str, float], dict[str, float]]:
    """Log scores, curves and pictures of all seeds to their parent. Returns mean and deviation of each final score.

    Args:
        store: The MLflow store.
        log: The log of the parent.
        experiment: The experiment.
        outcomes: The results of the seeds.
        display: Receives messages.
        split: The split of the final scores.
        replace: Replace what was logged for fewer seeds.
    """
    last = experiment.train.epochs
    scored = [outcome.scores for outcome in outcomes if outcome.scores]
    means, deviations = mean_and_deviation(scored) if scored else ({}, {})
    log.metrics(last, {**means, **{f"{score}_std": value for score, value in deviations.items()}}, replace=replace)
    diverged = sum(outcome.status == "FAILED" for outcome in outcomes)
    log.metrics(last, {"replicates/diverged": diverged}, replace=replace)
    grids = [outcome.grid for outcome in outcomes if outcome.grid is not None]
    if grids:
        log.image("seeds", last, _rows(grids), replace=replace)
    _show_best(store, log, experiment, means, deviations, display, split=split, replace=replace)
    try:
        _log_curves(store, log, experiment.primary, [outcome.run_id for outcome in outcomes], replace=replace)
    except Exception as error:  # the seeds are trained and kept; their mean curve is not worth failing for
        display.message(f"the mean curves are missing, the store does not answer: {redact(str(error))[:200]}")
    return means, deviations


def result_of(experiment: Experiment, found: Run, store: Store, split: Split) -> RunResult:
    """Return the result of a seed that has ended, from its MLflow run. split: the split of its final scores."""
    metrics = found.data.metrics
    prefix = f"{split}/"
    scores = {name: value for name, value in metrics.items() if name.startswith(prefix) and name.count("/") == 1}
    _, generator, epoch, like = load.generator(store, found, "end")
    grid = pictures.grid(generate(generator, sample_inputs(experiment, like, GRID)))
    status: Status = "FAILED" if Tag.DIVERGED in found.data.tags else "FINISHED"
    return RunResult(found.info.run_id, str(found.info.run_name), experiment, status, epoch, metrics, scores, grid=grid)


def _show_best(
    store: Store,
    log: RunLog,
    experiment: Experiment,
    means: Mapping[str, float],
    deviations: Mapping[str, float],
    display: Display,
    *,
    split: Split,
    replace: bool,
) -> None:
    """Give the parent the grids of its best seed, at the epochs that all runs have, and its description."""
    picture = None
    try:
        best = summary.best_seed(store, store.client.get_run(log.run_id))
        for grid in summary.load_grids(store, best):
            log.image("samples", grid.epoch, grid.picture, replace=replace)
            path = f"samples/epoch-{grid.epoch:04d}.png"
            picture = run_description.picture(
                best.info.run_id, path, f"samples of {best.info.run_name}, epoch {grid.epoch}"
            )
    except Exception as error:  # the seeds are trained and kept; their pictures are there
        display.message(f"no pictures of the best seed: {redact(str(error))[:200]}")
    name = f"{split}/{experiment.primary.key}"
    said = (
        f"mean {split} {experiment.primary.label} {means[name]:.4f} ± {deviations[name]:.4f}" if name in means else None
    )
    log.describe(provenance.format_description(experiment, said, picture=picture))


def _log_curves(store: Store, log: RunLog, primary: PrimaryScore, run_ids: list[str], *, replace: bool) -> None:
    """The parent's own charts: each curve's mean over the seeds, at the steps that all of them have."""
    curves: dict[int, dict[str, float]] = {}
    for metric in (*CURVES, *(f"quality/{score.key}" for score in primary.shown)):
        histories = [store.history(run_id, metric) for run_id in run_ids]
        for step in sorted(set.intersection(*(set(history) for history in histories))):
            curves.setdefault(step, {})[metric] = float(np.mean([history[step] for history in histories]))
    for step, values in sorted(curves.items()):
        log.metrics(step, values, replace=replace)


def _rows(grids: list[pictures.Picture]) -> pictures.Picture:
    """The first row of every seed's grid, one below the other."""
    height = (grids[0].shape[0] - 2) // (GRID // ROW)
    return np.concatenate([grid[:height] for grid in grids] + [grids[0][:2]])
