"""The networks, by kind, and how an experiment's sections become modules."""

from __future__ import annotations

import torch
from torch import nn

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan.draws import stream_seed
from harness.gan.networks.conv import ConvDiscriminator, ConvGenerator
from harness.gan.networks.mlp import MLPDiscriminator, MLPGenerator

GENERATORS: dict[str, type[nn.Module]] = {"mlp": MLPGenerator, "conv": ConvGenerator}
DISCRIMINATORS: dict[str, type[nn.Module]] = {"mlp": MLPDiscriminator, "conv": ConvDiscriminator}


def build(experiment: Experiment, images: Images) -> tuple[nn.Module, nn.Module]:
    """The experiment's generator and discriminator for images like these, on the CPU.

    A conditional generator takes latent + classes inputs (a one-hot label joined to the noise), a conditional
    discriminator the labels beside the images. The weights are drawn from the stream `init`; the process's own random
    state is left as it was. Raises HarnessError for images that the networks cannot take.
    """
    classes = images.classes if experiment.conditional else 0
    if experiment.conditional and images.labels is None:
        raise HarnessError(f"{images.name} has no labels, so `conditional: true` has nothing to go by: set it to false")
    shape = images.shape
    generator, discriminator = experiment.generator.model_dump(), experiment.discriminator.model_dump()
    if "conv" in (generator["kind"], discriminator["kind"]) and (shape[1] % 4 or shape[2] % 4):
        raise HarnessError(f"{images.name} are {shape[1]}x{shape[2]}; networks of kind conv take sides divisible by 4")
    generator["inputs"] = generator.pop("latent") + classes
    discriminator["classes"] = classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(experiment.train.seed, "init"))
        return (
            GENERATORS[generator.pop("kind")](shape, **generator),
            DISCRIMINATORS[discriminator.pop("kind")](shape, **discriminator),
        )


__all__ = ["DISCRIMINATORS", "GENERATORS", "build"]
