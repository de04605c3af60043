"""What several tests of the core use. Without conftest.py, so that the GPU's tests can have it too."""

from __future__ import annotations

import torch

from harness.gan import Training

CONV = {
    "generator.kind": "conv",
    "discriminator.kind": "conv",
    "generator.width": 4,
    "discriminator.width": 4,
}
EVERYTHING = {
    **CONV,
    "generator.batch_norm": True,
    "conditional": True,
    "optimizer.schedule": "linear",
    "train.ema_half_life": 50.0,
}


def weights(training: Training) -> list[torch.Tensor]:
    """Of both networks, and of the generator that draws."""
    networks = (training.generator, training.discriminator, training.sampler)
    return [value for network in networks for value in network.state_dict().values()]
