"""The settings of a new study: metric, sampler, pruner, and `auto` values resolved."""

from __future__ import annotations

from harness import formatting
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.scores import SCORES
from harness.experiment.search import Search
from harness.gan import resolve_batch_runs
from harness.quality.scoring import Scoring
from harness.runs.display import Display
from harness.runs.prepare import prepare
from harness.tuning.goals import Constraint, direction_of
from harness.tuning.pbt import check_space
from harness.tuning.race import RACE_SEEDS
from harness.tuning.request import TuneRequest
from harness.tuning.settings import Settings, resolve_metrics, trial_base

DEFAULT_TRIALS = 20
MAX_BATCH_RUNS = 20  # trials at most that are trained as one batch by default
REDUCTION_FACTOR = 3
MIN_POPULATION = 4
DECISIONS = 10  # of a population, by default
SAMPLERS_WITHOUT_PRUNING = (
    "gp",
    "cmaes",
    "nsgaii",
)  # they ignore pruned trials, and would propose the same values again


def resolve_settings(
    experiment: Experiment, search: Search, request: TuneRequest, display: Display
) -> tuple[Settings, Scoring]:
    """Return the settings of a new study, with `auto` values resolved, and its images and judge."""
    metric, *more_metrics = resolve_metrics(experiment, request.metrics)
    base = trial_base(experiment, search)
    # Options that cannot be combined are refused before anything is loaded or timed.
    seeds = resolve_seeds(search, request)
    sampler, pruner, min_resource = resolve_sampler_and_pruner(search, request, base.train.epochs)
    perturb_every = resolve_population(search, request, base)
    training, scoring = prepare(base, display)
    scoring = require_scoring(scoring, base)
    scores = [name for name in (metric, *more_metrics) if name in SCORES]
    needs_classes = base.primary.against_real and any(SCORES[name].needs_classes for name in scores)
    if needs_classes and scoring.judge.features_and_classes(scoring.splits.train.pixels[:2])[1] is None:
        without = [key for key in base.primary.searchable if not SCORES[key].needs_classes]
        raise HarnessError(
            f"--metric {metric}: judge {scoring.judge.name} returns features without class logits; "
            f"search by {formatting.join_words(without, 'or')}"
        )
    if base.data.validation != experiment.with_values(search.budget).data.validation:
        display.message(
            f"experiment {experiment.name} holds out no validation images: {base.data.validation:,} of its training "
            "images are held out for this study"
        )
    base = training.experiment
    resolved = {path: base.flatten()[path] for path in ("train.device", "train.precision")}
    batch_runs, planned = request.batch_runs, request.trials or DEFAULT_TRIALS
    limits = [Constraint.parse(text) for text in request.constraints]
    if "seconds" in (*more_metrics, *(limit.metric for limit in limits)):
        if batch_runs not in (None, 1):
            raise HarnessError("--batch-runs with seconds: trials that are trained at once share their time; take 1")
        batch_runs = 1
    if batch_runs is None:
        share = -(-planned // request.workers) * seeds  # one process must not claim the trials of the others
        batch_runs = resolve_batch_runs(base, training.images, min(MAX_BATCH_RUNS, share), display.message)
    settings = Settings(
        experiment.with_values(resolved),
        search,
        metric,
        request.direction or direction_of(metric),
        sampler,
        pruner,
        min_resource,
        REDUCTION_FACTOR,
        batch_runs,
        planned,
        seeds,
        request.aggregate or search.aggregate or "mean",
        bool(request.race),
        tuple(more_metrics),
        tuple(str(limit) for limit in limits),
        request.method or "optuna",
        perturb_every,
    )
    for path, value in search.baseline(base).items():
        if search.decode(path, value) != base.flatten()[path]:
            display.message(f"{path} is {base.flatten()[path]}, outside of its search; the first trial uses {value}")
    return settings, scoring


def resolve_sampler_and_pruner(search: Search, request: TuneRequest, epochs: int) -> tuple[str, str, int]:
    """Return the sampler, the pruner, and the epoch from which on a new study prunes.

    Args:
        search: The search.
        request: The options of the command.
        epochs: Epochs of a trial.

    Raises:
        HarnessError: Sampler, pruner and search cannot be combined.
    """
    population = request.method == "pbt"
    sampler = request.sampler or ("qmc" if population else "tpe")
    if population:
        _check_population_options(request, sampler)
    several = len(request.metrics) > 1
    if several and request.pruner not in (None, "none"):
        raise HarnessError(f"--pruner {request.pruner}: trials with several metrics are not pruned; leave --pruner out")
    if several and request.race:
        raise HarnessError("--race ranks trials by one metric; take --seeds K for several metrics")
    if request.race and request.constraints:
        raise HarnessError(
            f"--race with --constraint {request.constraints[0]}: a race ranks trials by one metric alone"
        )
    if several and request.direction:
        raise HarnessError(f"--direction {request.direction}: it is for one metric; leave it out for several")
    if several and sampler == "cmaes":
        raise HarnessError("--sampler cmaes searches by one metric; take tpe, nsgaii or gp for several")
    pruner = request.pruner or ("none" if population or several or sampler in SAMPLERS_WITHOUT_PRUNING else "halving")
    if sampler in SAMPLERS_WITHOUT_PRUNING and pruner != "none":
        raise HarnessError(f"--sampler {sampler} uses only complete trials: leave --pruner out")
    if sampler == "cmaes" and len(search.space) < 2:
        raise HarnessError("--sampler cmaes needs two or more searched fields; use tpe or gp for one")
    return sampler, pruner, request.min_resource or search.prune_from or first_pruning_epoch(epochs)


def _check_population_options(request: TuneRequest, sampler: str) -> None:
    if sampler not in ("qmc", "random"):
        raise HarnessError(f"--method pbt with --sampler {sampler}: all trials start at once; take qmc or random")
    if (request.trials or DEFAULT_TRIALS) < MIN_POPULATION:
        raise HarnessError(f"--method pbt with --trials {request.trials}: expected {MIN_POPULATION} or more")
    for option, given in (
        ("--pruner", request.pruner not in (None, "none")),
        ("--race", request.race),
        ("--seeds", (request.seeds or 1) > 1),
        ("several --metric", len(request.metrics) > 1),
        ("--constraint", request.constraints),
        ("--from", request.from_study),
    ):
        if given:
            raise HarnessError(f"--method pbt with {option}: a population has one seed and one metric; leave it out")


def resolve_population(search: Search, request: TuneRequest, base: Experiment) -> int:
    """Return the number of epochs between two decisions of a population; 0 for other methods.

    Raises:
        HarnessError: The search is not possible with a population.
    """
    if request.method != "pbt":
        if request.perturb_every:
            raise HarnessError(f"--perturb-every {request.perturb_every}: it is for --method pbt")
        return 0
    check_space(search)
    scored = base.track.score_every or base.train.epochs
    every = request.perturb_every or scored * max(1, round(base.train.epochs / DECISIONS / scored))
    if every % scored or every >= base.train.epochs:
        if request.perturb_every is None:
            raise HarnessError(
                f"--method pbt decides between epochs that are scored; track.score_every is {base.track.score_every} "
                f"and a trial has {base.train.epochs} epochs: set track.score_every to a smaller number"
            )
        raise HarnessError(
            f"--perturb-every {every}: expected a multiple of track.score_every {scored}, below the "
            f"{base.train.epochs} epochs of a trial"
        )
    return every


def resolve_seeds(search: Search, request: TuneRequest) -> int:
    """Return the number of seeds of a trial; in a race, at most.

    Raises:
        HarnessError: The options cannot be combined.
    """
    seeds = request.seeds or search.seeds or (RACE_SEEDS if request.race else 1)
    if request.pruner == "wilcoxon" and (seeds < 2 or request.race):
        raise HarnessError("--pruner wilcoxon compares trials under several seeds: add --seeds K, without --race")
    if request.race and seeds < 2:
        raise HarnessError("--race adds seeds to the best trials: --seeds is 1; expected 2 or more")
    if request.race and request.sampler == "cmaes":
        raise HarnessError("--race with --sampler cmaes: CMA-ES needs trials that end one by one; take tpe or gp")
    if seeds > 1 and "train.seed" in search.space:
        raise HarnessError(f"search.train.seed with {seeds} seeds for each trial: leave one of them out")
    if request.aggregate not in (None, "mean") and seeds < 2:
        raise HarnessError(f"--aggregate {request.aggregate} needs several seeds for each trial: add --seeds K")
    return seeds


def first_pruning_epoch(epochs: int) -> int:
    """Return the default epoch from which on trials of `epochs` epochs are pruned: three quarters.

    It is late because the best GANs may score worst for many epochs (docs/tuning.md).
    """
    return max(1, round(0.75 * epochs))


def require_scoring(scoring: Scoring | None, base: Experiment) -> Scoring:
    """Return `scoring`. Raises HarnessError if there is none."""
    if scoring is None:
        raise HarnessError(
            f"a search needs scores, and there is no judge for the images of {base.name}, which have no labels: set "
            "quality.judge to a custom feature network, package.module:Class"
        )
    return scoring
