"""The end of a run: score its best generator, log it as models, and describe the MLflow run."""

from __future__ import annotations

from dataclasses import replace

from harness.experiment.tags import Tag
from harness.formatting import format_count
from harness.gan import Training
from harness.quality.scoring import Scoring, Split
from harness.results import load
from harness.runs import provenance
from harness.runs.artifacts import BestEpoch, log_models
from harness.runs.display import Display, show_stage
from harness.runs.options import RunResult
from harness.tracking import RunLog


def evaluate_best(
    log: RunLog,
    training: Training,
    scoring: Scoring | None,
    best: BestEpoch,
    split: Split,
    result: RunResult,
    display: Display,
) -> RunResult:
    """Score the best generator on the final split, and log it as models.

    A run that diverged is scored with its last weights: comparisons and searches need its bad score.

    Returns:
        The result, with the scores.
    """
    experiment = training.experiment
    generator, epoch = training.generator_ema, training.epoch
    if result.status == "FINISHED":
        if best.weights is not None:
            generator, epoch = load.network(experiment, training.images, best.weights), best.epoch
            generator = generator.to(training.device)
        with show_stage(display, "exporting"):
            log_models(log, training, generator, epoch, display)
    if scoring is None:
        return result
    primary, judge = experiment.primary, scoring.identity
    where = f" on the {split} split" if primary.against_real else ""
    display.message(f"scoring epoch {epoch}{where} ({experiment.quality.samples:,} samples, judge {judge})")
    # Only once. The test split is not used for a run that others are selected by: see `RunOptions.final`.
    with show_stage(display, "final scoring"):
        scores = scoring.score(experiment, generator, split).metrics(split)
    log.metrics(epoch, scores)
    log.tags({Tag.BEST_EPOCH: str(epoch), **({} if best.score is None else {primary.tag: str(best.score)})})
    return replace(result, scores=scores, judge=judge, scored=epoch)


def final_description(log: RunLog, best: BestEpoch, result: RunResult) -> str:
    """Return the description of the MLflow run: scores, or why there are none, and the grid of the best epoch."""
    experiment = result.experiment
    scores = provenance.format_scores(experiment, result.scores)
    epochs = f"{result.epoch} of {format_count(experiment.train.epochs, 'epoch')}"
    grid = provenance.grid_markdown(log, *([best.epoch] if scores else []), result.epoch)
    return provenance.format_description(experiment, result.reason, scores, epochs, picture=grid)
