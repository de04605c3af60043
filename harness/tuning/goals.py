"""What a study searches by: one metric or several, and constraints on them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.scores import SCORES, Direction

if TYPE_CHECKING:
    from harness.data import Images

# Metrics of a trial that are no scores. Lower is better.
COSTS: Mapping[str, str] = {
    "seconds": "time of the run of a trial: training, scores, pictures",
    "images": "images that it has trained on, each as often as it was seen",
    "parameters": "weights of both networks",
}
_CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(\S+)\s*")


def direction_of(metric: str) -> Direction:
    """Return the direction of a metric: that of the score; a cost is minimized."""
    return SCORES[metric].direction if metric in SCORES else "minimize"


def check_metric(experiment: Experiment, metric: str, option: str) -> None:
    """Raise HarnessError if an experiment does not have this score, and it is no cost."""
    known = [*experiment.primary.searchable, *COSTS]
    if metric not in known:
        raise HarnessError(
            f"{option}: {experiment.data.name} is not scored by that; expected one of {', '.join(known)}"
        )


@dataclass(frozen=True)
class Constraint:
    """A limit on a metric: trials beyond it are no candidates for the best one."""

    metric: str
    operator: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Parse `parameters<=2e6`. Raises HarnessError if the text has another form."""
        match = _CONSTRAINT.fullmatch(text)
        try:
            if match is None or not math.isfinite(float(match[3])):
                raise ValueError
            return cls(match[1], match[2], float(match[3]))
        except ValueError:
            raise HarnessError(
                f"--constraint {text!r}: expected METRIC<=NUMBER or METRIC>=NUMBER, for example 'parameters<=2e6'"
            ) from None

    def __str__(self) -> str:
        short = f"{self.bound:g}"
        bound = short if float(short) == self.bound else repr(self.bound)  # the text is what is stored
        return f"{self.metric}{self.operator}{bound}"

    def violation(self, value: float) -> float:
        """Return by how much a value is beyond the limit: 0 or less if it is within, as Optuna counts it."""
        return value - self.bound if self.operator == "<=" else self.bound - value


def measure(
    names: Collection[str],
    experiment: Experiment,
    metrics: Mapping[str, float],
    *,
    images: Images,
    epochs: int,
    seconds: Callable[[], float],
) -> dict[str, float]:
    """Return the metrics of a trial that has ended, by name.

    Args:
        names: Scores and costs.
        experiment: The experiment of the trial.
        metrics: The metrics of its run, with `validation/SCORE`.
        images: Its training images.
        epochs: Number of epochs that it has trained.
        seconds: Returns the duration of its run.
    """
    costs: Mapping[str, Callable[[], float]] = {
        "seconds": seconds,
        "images": lambda: float(epochs * _images_per_epoch(experiment, images)),
        "parameters": lambda: float(_count_parameters(experiment, images)),
    }
    return {name: costs[name]() if name in costs else metrics[f"validation/{name}"] for name in names}


def _images_per_epoch(experiment: Experiment, images: Images) -> int:
    from harness.gan.batch_images import images_per_step

    step = images_per_step(experiment)
    return len(images) // step * step


def _count_parameters(experiment: Experiment, images: Images) -> int:
    from harness.gan.networks import build

    return sum(weight.numel() for network in build(experiment, images) for weight in network.parameters())
