"""`tune --dry-run`: what a new study would search, and what a trial of it costs; nothing is trained or written."""

from __future__ import annotations

from harness import data
from harness.experiment import Experiment
from harness.experiment.dimensions import Choices, Dimension
from harness.experiment.scores import SCORES
from harness.experiment.search_space import Search
from harness.tuning.open_study import REDUCTION_FACTOR, TRIALS, how
from harness.tuning.request import TuneRequest
from harness.tuning.settings import metric_of, trial_base


def plan(
    experiment: Experiment, search: Search, request: TuneRequest, images: int | None = None
) -> list[tuple[str, str]]:
    """Rows of a label and a text. images: how many a trial trains on where its subset is null; None counts them.

    Raises HarnessError for what a study would be refused for.
    """
    metric = metric_of(experiment, request.metric)
    base = trial_base(experiment, search)
    sampler, pruner, min_resource = how(search, request, base.train.epochs)
    count = base.data.subset or images or len(data.load(**base.data.model_dump()).train)
    steps, epochs = count // (base.train.batch_size * base.train.discriminator_steps), base.train.epochs
    rows = [("searched", f"{path}  {_shown(dimension)}") for path, dimension in search.space.items()]
    rows = [(label if not index else "", text) for index, (label, text) in enumerate(rows)]
    rows.append(
        ("trial", f"{count:,} images, {_times(epochs, 'epoch')} of {_times(steps, 'step')}: {steps * epochs:,} steps")
    )
    rows.append(("trials", f"{request.trials or TRIALS}"))
    better = {"minimize": "lower is better", "maximize": "higher is better"}[
        request.direction or SCORES[metric].direction
    ]
    where = "on the validation images, " if experiment.primary.against_real else ""
    rows.append(("metric", f"{metric} {where}{base.quality.samples:,} samples at the end of a trial; {better}"))
    rows.append(("sampler", f"{sampler}, seed {experiment.train.seed}"))
    pruned = (
        f"{pruner}: from epoch {min_resource} on, the best of {REDUCTION_FACTOR} continues"
        if pruner == "halving"
        else pruner
    )
    rows.append(("pruner", pruned))
    return rows


def _shown(dimension: Dimension) -> str:
    if isinstance(dimension, Choices):
        return "one of " + ", ".join(str(value) for value in dimension.values)
    low, high = dimension.nearest(dimension.low), dimension.nearest(dimension.high)
    scale = ", logarithmic" if dimension.log else ""
    return f"{low:g} to {high:g}{scale}{', whole numbers' if dimension.integer else ''}"


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
