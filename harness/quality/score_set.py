"""The scores of one set of images, and how they are computed from the functions of all scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from harness.experiment.scores import PrimaryScore, Score

Inputs = TypeVar("Inputs")
# Result of the function of a score: the value, or the value and its standard error; None if it is not known.
Value = float | tuple[float, float] | None


@dataclass(frozen=True)
class ScoreSet:
    """The scores of one set of images. `scores["kid"]` returns a known score.

    Attributes:
        primary: The score that sets of images are ranked by.
        values: The scores by key, with standard errors as `KEY_se`. None: the score is not known.
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
        """The value that epochs, trials and runs are ranked by; the lowest is the best."""
        return self[self.primary.key]

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return the known scores by metric name: `{prefix}/kid` and so on."""
        return {f"{prefix}/{key}": value for key, value in self.values.items() if value is not None}


def compute_scores(
    primary: PrimaryScore,
    functions: Mapping[str, Callable[[Inputs], Value]],
    inputs: Inputs,
    scores: Iterable[Score],
) -> ScoreSet:
    """Compute scores, each with the function in `functions` that has its key."""
    values: dict[str, float | None] = {}
    for score in scores:
        value = functions[score.key](inputs)
        if isinstance(value, tuple):
            values[score.key], values[f"{score.key}_se"] = value
        else:
            values[score.key] = value
    return ScoreSet(primary, values)
