"""The scores of one set of images, and how they are computed from the functions of all scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from harness.experiment.scores import PrimaryScore, Score

Inputs = TypeVar("Inputs")
# What the function of a score returns: its value, or that and its standard error; None where it is not known.
Value = float | tuple[float, float] | None


@dataclass(frozen=True)
class ScoreSet:
    """Scores of one set of images; `scores["kid"]` is one that is known.

    Attributes:
        primary: Which of them ranks the images.
        values: The scores by key, with standard errors as `KEY_se`. None where a score is not known.
    """

    primary: PrimaryScore
    values: Mapping[str, float | None]

    def __getitem__(self, key: str) -> float:
        value = self.values[key]
        if value is None:
            raise KeyError(key)
        return value

    @property
    def primary_score(self) -> float:
        """The number that the best epoch, the best trial and the best run are chosen by; the lowest is best."""
        return self[self.primary.key]

    def metrics(self, prefix: str) -> dict[str, float]:
        """`{prefix}/kid` and so on, of the scores that are known."""
        return {f"{prefix}/{key}": value for key, value in self.values.items() if value is not None}


def compute(
    primary: PrimaryScore,
    functions: Mapping[str, Callable[[Inputs], Value]],
    inputs: Inputs,
    scores: Iterable[Score],
) -> ScoreSet:
    """The set of these scores, each from its function in `functions`, by key."""
    values: dict[str, float | None] = {}
    for score in scores:
        value = functions[score.key](inputs)
        if isinstance(value, tuple):
            values[score.key], values[f"{score.key}_se"] = value
        else:
            values[score.key] = value
    return ScoreSet(primary, values)
