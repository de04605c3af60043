"""By which score runs are ranked: KID, or the KL of the modes hit where a data set has modes to count. Needs no torch.

Whatever chooses, sorts or says how good a run is asks here: the best epoch, the best trial, `compare`, the UI's charts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.experiment.tags import Tag


@dataclass(frozen=True)
class Ranking:
    """metric: the score that ranks, lowest first, as it is named below `test/` and the like; label: the same in print.

    beside, beside_label: the score that stands beside it; beside_digits: how many decimals that is worth;
    beside_scale: of the axis that its curve is drawn on.
    better: which way, in words. against_real: samples are compared with real images, which therefore must be held out,
    and which have neighbours. searchable: the scores that can be searched by.
    """

    metric: str
    label: str
    beside: str
    beside_label: str
    beside_digits: int
    beside_scale: Literal["log", "linear"]
    better: str
    against_real: bool
    searchable: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The tag of a run that holds its best score while training."""
        return f"{Tag.BEST_}{self.metric}"

    def shown(self, scores: Mapping[str, float], prefix: str, *, error: bool = True) -> str:
        """`KID 0.0163 ± 0.0023  Frechet 0.53`, of scores whose names begin with `prefix`; error: with its ±."""
        spread = scores.get(f"{prefix}/{self.metric}_se") if error else None
        said = "" if spread is None else f" ± {spread:.4f}"
        beside = f"{self.beside_label} {scores[f'{prefix}/{self.beside}']:.{self.beside_digits}f}"
        return f"{self.label} {scores[f'{prefix}/{self.metric}']:.4f}{said}  {beside}"


KID = Ranking(
    metric="kid",
    label="KID",
    beside="frechet",
    beside_label="Frechet",
    beside_digits=2,
    beside_scale="log",
    better="lower is better",
    against_real=True,
    searchable=("kid", "frechet", "density", "coverage", "class_kl"),
)
MODE_KL = Ranking(
    metric="mode_kl",
    label="mode KL",
    beside="modes",
    beside_label="modes",
    beside_digits=0,
    beside_scale="linear",
    better="a lower KL is better, and more modes",
    against_real=False,
    searchable=("mode_kl", "modes"),
)
RANKINGS = (KID, MODE_KL)

# Data sets whose modes are counted, and the one whose classes each of their channels shows.
CHANNELS: Mapping[str, str] = {"stacked-mnist": "mnist"}


def ranking_of(dataset: str | None) -> Ranking:
    """Of the runs that are trained on a data set, by its name in the registry."""
    return MODE_KL if dataset in CHANNELS else KID


def of_params(params: Mapping[str, str]) -> Ranking:
    """Of a run, by its params."""
    return ranking_of(params.get("data.name"))


def among(metrics: Iterable[str]) -> list[Ranking]:
    """Those whose scores are among these metrics (`test/kid`); KID where none is."""
    found = {name.rpartition("/")[2] for name in metrics}
    return [ranking for ranking in RANKINGS if ranking.metric in found] or [KID]
