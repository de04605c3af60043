"""What all kinds of scores have in common: names as metrics, and one number that ranks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from harness.experiment.scores import Ranking


@dataclass(frozen=True)
class ScoreSet:
    """Scores of one set of images. ranked_by: which of them ranks, and how it is spoken of."""

    ranked_by: ClassVar[Ranking]

    @property
    def ranking(self) -> float:
        """The number that the best epoch, the best trial and the best run are chosen by; the lowest is best."""
        return float(getattr(self, self.ranked_by.metric))

    def metrics(self, prefix: str) -> dict[str, float]:
        """`{prefix}/kid` and so on, without those that are None."""
        values = {f"{prefix}/{field.name}": getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
