"""The report of an epoch, and the detection of divergence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from harness.gan.step import StepStats


@dataclass(frozen=True)
class Report:
    """The metrics of one epoch.

    Attributes:
        epoch: The number of the epoch, from 1.
        metrics: Metrics by their names in MLflow, as means over the epoch. Losses are in the units of the objective.
        seconds: Time of the training steps.
        diverged: Why further training is useless: NaN, infinity, or gradients of 0. None: training can continue.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    diverged: str | None = None


def epoch_metrics(
    mean: StepStats[float], logits: Mapping[str, float], images_per_second: float, *, penalty: bool
) -> dict[str, float]:
    """Return the metrics of an epoch by their names in MLflow.

    Args:
        mean: Means over the steps of the epoch.
        logits: Metrics of `evaluate_logits`.
        images_per_second: Real images that the discriminator has seen.
        penalty: Whether there is a penalty.
    """
    return {
        "loss/discriminator": mean.discriminator_loss,
        "loss/generator": mean.generator_loss,
        "gradient/discriminator": mean.discriminator_gradient,
        "gradient/generator": mean.generator_gradient,
        **({"loss/penalty": mean.penalty} if penalty else {}),
        **logits,
        "speed/images_per_second": images_per_second,
    }


def find_divergence(metrics: Mapping[str, float], networks: Mapping[str, nn.Module]) -> str | None:
    """Return why further training is useless, in words; None if it can continue.

    The metrics must include the global norms of both gradients. The host waits for the device.
    """
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        return f"{broken[0]} is {metrics[broken[0]]}"
    if metrics["gradient/discriminator"] == metrics["gradient/generator"] == 0:
        return "every gradient of both networks is exactly 0, so training has stopped"
    for name, network in networks.items():
        if not all(bool(torch.isfinite(weights).all()) for weights in network.parameters()):
            return f"the {name} has weights that are not finite"
    return None
