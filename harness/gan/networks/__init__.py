"""The networks, by kind, and how an experiment's sections become modules."""

from __future__ import annotations

import torch
from torch import nn

from harness.experiment import Experiment
from harness.gan.draws import stream_seed
from harness.gan.networks.mlp import MLPDiscriminator, MLPGenerator

GENERATORS: dict[str, type[nn.Module]] = {"mlp": MLPGenerator}
DISCRIMINATORS: dict[str, type[nn.Module]] = {"mlp": MLPDiscriminator}


def build(experiment: Experiment, shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
    """The experiment's generator and discriminator for images of `shape` (C, H, W), on the CPU.

    The weights are drawn from the stream `init`; the process's own random state is left as it was.
    """
    generator, discriminator = experiment.generator.model_dump(), experiment.discriminator.model_dump()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(experiment.train.seed, "init"))
        return (
            GENERATORS[generator.pop("kind")](shape, **generator),
            DISCRIMINATORS[discriminator.pop("kind")](shape, **discriminator),
        )


__all__ = ["DISCRIMINATORS", "GENERATORS", "build"]
