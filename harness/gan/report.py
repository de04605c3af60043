"""What training reports of an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Report:
    """One epoch's numbers.

    Attributes:
        epoch: counted from 1.
        metrics: by the names of MLflow's charts; losses as their objective has them, means over the epoch.
        seconds: of training alone.
        diverged: what became NaN or infinite, or that no gradient is left to train with; None while all is well.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    diverged: str | None = None


def find_divergence(metrics: Mapping[str, float], networks: Mapping[str, nn.Module]) -> str | None:
    """Return what makes further training useless, in words; None while all is well.

    The metrics must have the global norms of both gradients. The host waits for the device.
    """
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        return f"{broken[0]} is {metrics[broken[0]]}"
    if metrics["gradient/discriminator"] == metrics["gradient/generator"] == 0:
        return "every gradient of both networks is exactly 0, so nothing trains any more"
    for name, network in networks.items():
        if not all(bool(torch.isfinite(weights).all()) for weights in network.parameters()):
            return f"the {name} has weights that are not finite"
    return None
