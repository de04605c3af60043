"""Scores of a trial under several seeds: its value, and how sure it is that the best trial is the best."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import FloatDistribution
from optuna.pruners import WilcoxonPruner
from optuna.trial import TrialState, create_trial

from harness.experiment.scores import Direction
from harness.formatting import format_count, join_words

P_THRESHOLD = 0.3  # worse than the best trial under both of two seeds gives p = 0.25
TIED = 0.05  # a trial is tied with the best one if it is at least as good in this share of the resamples
RESAMPLES = 10_000


def aggregate(scores: Sequence[float], how: str, direction: Direction) -> float:
    """Return the value of a trial from its scores, one for each seed.

    Args:
        scores: The scores.
        how: mean, median, worst, or mean+std: the mean, made worse by one sample standard deviation.
        direction: minimize or maximize.
    """
    values: npt.NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
    return float(_aggregate(values, how, direction))


def _aggregate(scores: npt.NDArray[np.float64], how: str, direction: Direction) -> npt.NDArray[np.float64]:
    """Aggregate scores [..., seeds] to [...]."""
    if how == "median":
        return np.asarray(np.median(scores, axis=-1))
    if how == "worst":
        return np.asarray(scores.max(axis=-1) if direction == "minimize" else scores.min(axis=-1))
    mean = scores.mean(axis=-1)
    if how == "mean" or scores.shape[-1] < 2:
        return np.asarray(mean)
    deviation = scores.std(axis=-1, ddof=1)
    return np.asarray(mean + deviation if direction == "minimize" else mean - deviation)


def can_no_longer_win(scores: Mapping[int, float], best: Mapping[int, float], direction: Direction) -> bool:
    """Whether a trial is given up between seeds: by Optuna's WilcoxonPruner, with seeds as instances.

    It is when it is worse than the best trial under the same seeds, by Wilcoxon's signed-rank test (1945), and also in
    the mean.

    Args:
        scores: Scores of the trial by seed, so far.
        best: Scores of the best complete trial under the same seeds.
        direction: minimize or maximize.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=P_THRESHOLD)
    study = optuna.create_study(direction=direction)
    study.add_trial(create_trial(value=statistics.fmean(best.values()), intermediate_values=dict(best), **_no_params()))
    trial = create_trial(state=TrialState.RUNNING, intermediate_values=dict(scores), **_no_params())
    return bool(pruner.prune(study, trial))


def _no_params() -> dict[str, dict[str, float | FloatDistribution]]:
    return {"params": {}, "distributions": {}}


@dataclass(frozen=True)
class Verdict:
    """How sure it is that the best trial is the best.

    Attributes:
        best: Number of the best trial.
        probability: Share of the resamples in which it is the best of those that are compared.
        compared: Numbers of the trials that have as many seeds, with the best one.
        tied: Numbers of the others among them that cannot be distinguished from the best one.
        seeds: Number of seeds of each.
    """

    best: int
    probability: float
    compared: tuple[int, ...]
    tied: tuple[int, ...]
    seeds: int

    @property
    def text(self) -> str:
        """The verdict in words."""
        seeds, others = format_count(self.seeds, "seed"), len(self.compared) - 1
        if not others:
            return f"trial {self.best} is the only one with {seeds}"
        text = (
            f"trial {self.best} is the best of {len(self.compared)} trials with {seeds} with probability "
            f"{self.probability:.2f}"
        )
        if not self.tied:
            return f"{text}; no other trial is tied with it"
        names = join_words([str(number) for number in self.tied[:5]], "and")
        more = f" and {len(self.tied) - 5} more" if len(self.tied) > 5 else ""
        are = "trial {} is" if len(self.tied) == 1 else "trials {} are"
        return f"{text}; {are.format(names + more)} statistically tied with it"


def verdict(scores: Mapping[int, Sequence[float]], how: str, direction: Direction) -> Verdict | None:
    """Compare the trials that have the most seeds, by a paired bootstrap over the seeds (Efron 1979).

    Every resample draws seeds with replacement, the same ones for all trials, because they share their seeds.

    Args:
        scores: Scores of each trial by its number, in the order of the seeds.
        how: See `aggregate`.
        direction: minimize or maximize.

    Returns:
        None if there are no scores, or only those of one seed.
    """
    seeds = max((len(each) for each in scores.values()), default=0)
    if seeds < 2:
        return None
    numbers = sorted(number for number, each in scores.items() if len(each) == seeds)
    sign = 1 if direction == "minimize" else -1
    table = np.array([scores[number] for number in numbers], dtype=np.float64)  # [trials, seeds]
    best = int(np.argmin(sign * _aggregate(table, how, direction)))
    draws = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
    values = sign * _aggregate(table[:, draws], how, direction)  # [trials, resamples]; lower is better
    won = np.argmin(values, axis=0) == best
    tied = [
        number
        for index, number in enumerate(numbers)
        if index != best and float(np.mean(values[index] <= values[best])) >= TIED
    ]
    return Verdict(numbers[best], float(won.mean()), tuple(numbers), tuple(tied), seeds)
