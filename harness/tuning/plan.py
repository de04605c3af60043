"""`tune --dry-run`: show the search and the cost of a trial, without training or writing."""

from __future__ import annotations

from harness import data
from harness.experiment import Experiment
from harness.experiment.dimensions import Choices, Dimension
from harness.experiment.search import Search
from harness.tuning.goals import COSTS, Constraint, direction_of
from harness.tuning.new_study import (
    DEFAULT_TRIALS,
    REDUCTION_FACTOR,
    resolve_population,
    resolve_sampler_and_pruner,
    resolve_seeds,
)
from harness.tuning.request import TuneRequest
from harness.tuning.settings import resolve_metrics, trial_base

_PRUNERS = {
    "halving": "halving: from epoch {first} on, the best of {factor} continues",
    "hyperband": "hyperband: halving from several epochs on, the first is {first}",
    "median": "median: from epoch {first} on, the better half continues",
    "wilcoxon": "wilcoxon: between seeds, a trial that is worse than the best one under the same seeds ends",
}


def plan(
    experiment: Experiment, search: Search, request: TuneRequest, images: int | None = None
) -> list[tuple[str, str]]:
    """Return rows of a label and a text.

    Args:
        experiment: The experiment.
        search: The search.
        request: The options of the command.
        images: Number of training images if `data.subset` is null; None counts them.

    Raises:
        HarnessError: The study cannot be created.
    """
    metrics = resolve_metrics(experiment, request.metrics)
    base = trial_base(experiment, search)
    seeds = resolve_seeds(search, request)
    sampler, pruner, min_resource = resolve_sampler_and_pruner(search, request, base.train.epochs)
    perturb_every = resolve_population(search, request, base)
    count = base.data.subset or images or len(data.load(**base.data.model_dump()).train)
    steps, epochs = count // (base.train.batch_size * base.train.discriminator_steps), base.train.epochs
    rows = [
        ("searched", f"{path}  {_format_dimension(dimension)}{_format_condition(search, path)}")
        for path, dimension in search.space.items()
    ]
    rows = [(label if not index else "", text) for index, (label, text) in enumerate(rows)]
    rows.append(
        ("trial", f"{count:,} images, {_count(epochs, 'epoch')} of {_count(steps, 'step')}: {steps * epochs:,} steps")
    )
    rows.append(("trials", f"{request.trials or DEFAULT_TRIALS}"))
    if perturb_every:
        rows.append(
            (
                "method",
                f"population-based training; every {_count(perturb_every, 'epoch')} the worst quarter "
                "copies the best quarter, and changes its values",
            )
        )
    if request.race:
        rows.append(("seeds", f"one for each trial; the better half gets twice as many, up to {seeds}"))
    elif seeds > 1:
        rows.append(
            ("seeds", f"{seeds} for each trial; its value is their {request.aggregate or search.aggregate or 'mean'}")
        )
    where = "on the validation images, " if experiment.primary.against_real else ""
    samples = f"{where}{base.quality.samples:,} samples at the end of a trial"
    for index, metric in enumerate(metrics):
        direction = (request.direction if len(metrics) == 1 else None) or direction_of(metric)
        better = "lower is better" if direction == "minimize" else "higher is better"
        text = f"{metric}: {COSTS[metric]}; {better}" if metric in COSTS else f"{metric} {samples}; {better}"
        rows.append(("metric" if not index else "", text))
    rows += [("limit", str(Constraint.parse(text))) for text in request.constraints]
    rows.append(("sampler", f"{sampler}, seed {experiment.train.seed}"))
    rows.append(("pruner", _PRUNERS.get(pruner, pruner).format(first=min_resource, factor=REDUCTION_FACTOR)))
    return rows


def _format_condition(search: Search, path: str) -> str:
    return ", if {} is {}".format(*search.conditions[path]) if path in search.conditions else ""


def _format_dimension(dimension: Dimension) -> str:
    if isinstance(dimension, Choices):
        return "one of " + ", ".join(str(value) for value in dimension.values)
    low, high = dimension.nearest(dimension.low), dimension.nearest(dimension.high)
    scale = ", logarithmic" if dimension.log else ""
    if dimension.step is not None:
        scale = f", in steps of {dimension.step:g}"
    return f"{low:g} to {high:g}{scale}{', whole numbers' if dimension.integer else ''}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
