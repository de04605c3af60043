"""The end of a run: the scores and the models of its best generator, and the description of its MLflow run."""

from __future__ import annotations

from dataclasses import replace

from harness.experiment.tags import Tag
from harness.gan import Training
from harness.quality.scoring import Scoring, Split
from harness.results import load
from harness.runs import provenance
from harness.runs.artifacts import BestEpoch, log_models
from harness.runs.display import Display, staged
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
    """Score the best generator once more, on the split for that, and log it as a model.

    A run that diverged gets the score of what it became: whoever compares or searches must see how bad that is.

    Returns:
        The result with the scores.
    """
    experiment = training.experiment
    generator, epoch = training.generator_ema, training.epoch
    if result.status == "FINISHED":
        if best.weights is not None:
            generator, epoch = load.network(experiment, training.images, best.weights), best.epoch
            generator = generator.to(training.device)
        with staged(display, "exporting"):
            log_models(log, training, generator, epoch, display)
    if scoring is None:
        return result
    primary, judge = experiment.primary, scoring.identity
    where = f" on the {split} split" if primary.against_real else ""
    display.message(f"scoring epoch {epoch}{where} ({experiment.quality.samples:,} samples, judge {judge})")
    # Once, and never on the test split where something is yet to be chosen by it.
    with staged(display, "final scoring"):
        scores = scoring.of(experiment, generator, split).metrics(split)
    log.metrics(epoch, scores)
    log.tags({Tag.BEST_EPOCH: str(epoch), **({} if best.score is None else {primary.tag: str(best.score)})})
    return replace(result, scores=scores, judge=judge, scored=epoch)


def final_description(log: RunLog, best: BestEpoch, result: RunResult) -> str:
    """Return the text of the run's page in MLflow: its scores, or why it has none, and the grid of its best epoch."""
    experiment = result.experiment
    scores = provenance.described(experiment, result.scores)
    epochs = f"{result.epoch} of {experiment.train.epochs} epochs"
    grid = provenance.newest_picture(log, *([best.epoch] if scores else []), result.epoch)
    return provenance.description(experiment, result.reason, scores, epochs, picture=grid)
