"""Optuna's samplers, seeded for each trial."""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.experiment.dimensions import Dimension, Range, Value
from harness.experiment.search import Search
from harness.tuning.custom_sampler import build_sampler, is_custom
from harness.tuning.seed_scores import aggregate
from harness.tuning.settings import Settings
from harness.tuning.trial_values import is_racing, seed_scores

LEARNING = ("tpe", "gp", "cmaes", "nsgaii")  # samplers that start with quasi-random trials


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """Return the search space as Optuna distributions."""
    return {path: _distribution(dimension) for path, dimension in search.space.items()}


def ask(study: optuna.Study, search: Search) -> optuna.Trial:
    """Ask a study for a trial with values of all active paths of a search."""
    if not search.conditions:
        return study.ask(distributions(search))
    trial = study.ask()
    for path, distribution in distributions(search).items():
        if not search.is_active(path, trial.params):
            continue
        match distribution:
            case CategoricalDistribution():
                trial.suggest_categorical(path, distribution.choices)
            case IntDistribution():
                low, high = distribution.low, distribution.high
                trial.suggest_int(path, low, high, step=distribution.step, log=distribution.log)
            case FloatDistribution():
                low, high = distribution.low, distribution.high
                trial.suggest_float(path, low, high, step=distribution.step, log=distribution.log)
    return trial


def _distribution(dimension: Dimension) -> BaseDistribution:
    if not isinstance(dimension, Range):
        return CategoricalDistribution(dimension.values)
    if dimension.integer:
        step = 1 if dimension.step is None else int(dimension.step)
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def grid(search: Search, total: int) -> list[dict[str, Value]]:
    """Return the finest grid with at most `total` points: the same number per range, at least 2, and all choices."""
    ranges = sum(isinstance(dimension, Range) for dimension in search.space.values())
    points = 2
    while ranges and points < total and _size(search, points + 1) <= total:
        points += 1
    axes = [dimension.grid(points) for dimension in search.space.values()]
    points_of_all = [dict(zip(search.space, point, strict=True)) for point in itertools.product(*axes)]
    return list({_active(search, point): point for point in points_of_all}.values())


def _active(search: Search, point: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    return tuple((path, value) for path, value in point.items() if search.is_active(path, point))


def _size(search: Search, points: int) -> int:
    return math.prod(len(dimension.grid(points)) for dimension in search.space.values())


class Sampler(BaseSampler):  # type: ignore[misc]
    """The sampler of a study.

    Its proposals are a function of the study's seed, the trial's number and the results so far. So a killed study
    continues with the same proposals, and two workers never propose the same values.

    Quasi-random points (scrambled Sobol, Owen 1998) and grid points are taken in the order of the trials.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._grid = grid(settings.search, max(1, settings.planned - 1)) if settings.sampler == "grid" else []
        self._inner: BaseSampler = RandomSampler()
        self._point: Mapping[str, Value] | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the sampler of this trial from the study's seed and the trial's number."""
        settings = self._settings
        others = study.get_trials(deepcopy=False)
        ended = sum(other.state in (TrialState.COMPLETE, TrialState.PRUNED) or is_racing(other) for other in others)
        # Enqueued trials have fixed values, and use no point.
        position = sum(other.number < trial.number and "fixed_params" not in other.system_attrs for other in others)
        seed = trial_seed(settings.seed, trial.number)
        self._point = None
        if settings.sampler == "grid":
            self._point = self._grid[position % len(self._grid)]
        elif settings.sampler == "qmc" or (settings.sampler in LEARNING and ended < settings.startup):
            self._point = quasi_random(settings.search, settings.seed, position)
        self._inner = _sampler(settings, seed)
        if self._point is None and settings.race:
            self._point = self._propose_in_race(others)
        self._inner.before_trial(study, trial)

    def _propose_in_race(self, trials: Sequence[FrozenTrial]) -> Mapping[str, Value]:
        """Propose values from a copy of the study in memory, in which trials that are in the race are complete."""
        settings = self._settings
        copy = optuna.create_study(direction=settings.direction, sampler=self._inner)
        for trial in trials:
            scores = list(seed_scores(trial).values())
            described = {"params": trial.params, "distributions": trial.distributions}
            if scores:
                value = aggregate(scores, settings.aggregate, settings.direction)
                copy.add_trial(create_trial(value=value, **described))
            elif trial.state in (TrialState.PRUNED, TrialState.RUNNING) and trial.params:
                copy.add_trial(
                    create_trial(state=trial.state, intermediate_values=trial.intermediate_values, **described)
                )
        return dict(ask(copy, settings.search).params)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the search space that the wrapped sampler proposes in."""
        return {} if self._point else self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the wrapped sampler's proposal."""
        return {} if self._point else self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the wrapped sampler's value of one parameter."""
        if self._point:
            return self._point[param_name]
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the wrapped sampler record what it needs of a trial that ends."""
        self._inner.after_trial(study, trial, state, values)


def trial_seed(seed: int, number: int) -> int:
    """Return the 32-bit seed of the sampler for one trial."""
    return int.from_bytes(hashlib.sha256(f"{seed}/trial/{number}".encode()).digest()[:4], "big")


def quasi_random(search: Search, seed: int, position: int) -> dict[str, Value]:
    """Return the values at one position of the study's Sobol sequence."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(search.space), scramble=True, rng=trial_seed(seed, -1))
    if position:  # scipy does not accept 0
        sequence.fast_forward(position)
    shares = sequence.random(1)[0]
    return {
        path: dimension.quantile(float(share))
        for (path, dimension), share in zip(search.space.items(), shares, strict=True)
    }


def _sampler(settings: Settings, seed: int) -> BaseSampler:
    kind, startup = settings.sampler, settings.startup
    if is_custom(kind):
        return build_sampler(kind, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match kind:
            case "tpe":
                return TPESampler(
                    n_startup_trials=startup,
                    n_ei_candidates=24,
                    multivariate=True,  # good values of one field depend on the others
                    group=bool(settings.search.conditions),
                    constant_liar=True,  # do not propose the values of running trials again
                    seed=seed,
                )
            case "gp":
                return GPSampler(
                    n_startup_trials=startup,
                    deterministic_objective=False,  # KID is an estimate
                    warn_independent_sampling=False,
                    seed=seed,
                )
            case "nsgaii":
                return NSGAIISampler(population_size=settings.population, seed=seed)
            case "cmaes":
                return CmaEsSampler(
                    n_startup_trials=startup,
                    consider_pruned_trials=False,
                    warn_independent_sampling=False,
                    seed=seed,
                )
    return RandomSampler(seed=seed)
