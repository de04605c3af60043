"""The networks, by kind, and how an experiment's sections become modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan.draws import stream_seed
from harness.gan.networks import own, spectral
from harness.gan.networks.conv import ConvDiscriminator, ConvGenerator
from harness.gan.networks.mlp import MLPDiscriminator, MLPGenerator
from harness.gan.networks.residual import ResidualDiscriminator, ResidualGenerator

GENERATORS: dict[str, type[nn.Module]] = {"mlp": MLPGenerator, "conv": ConvGenerator, "residual": ResidualGenerator}
DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "mlp": MLPDiscriminator,
    "conv": ConvDiscriminator,
    "residual": ResidualDiscriminator,
}


def build(experiment: Experiment, images: Images) -> tuple[nn.Module, nn.Module]:
    """The experiment's generator and discriminator for images like these, on the CPU.

    A conditional generator takes latent + classes inputs (a one-hot label joined to the noise), a conditional
    discriminator the labels beside the images; one that judges packs sees their channels in one image. The weights are
    drawn from the stream `init`; the process's own random state is left as it was. Raises HarnessError for images that
    the networks cannot take, and for networks of the user's own that break the contract (docs/networks.md).
    """
    classes = images.classes if experiment.conditional else 0
    if experiment.conditional and images.labels is None:
        raise HarnessError(f"{images.name} has no labels, so `conditional: true` has nothing to go by: set it to false")
    shape = images.shape
    generator, discriminator = experiment.generator.model_dump(), experiment.discriminator.model_dump()
    kinds = [section.pop("kind") for section in (generator, discriminator)]
    for kind in kinds:
        if kind in ("conv", "residual") and (shape[1] % 4 or shape[2] % 4):
            raise HarnessError(
                f"{images.name} are {shape[1]}x{shape[2]}; networks of kind {kind} take sides divisible by 4"
            )
    normalised, pack = discriminator.pop("spectral_norm"), discriminator.pop("pack")
    generator["inputs"] = generator.pop("latent") + classes
    discriminator["classes"] = classes
    packed = (pack * shape[0], *shape[1:])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(experiment.train.seed, "init"))
        built = (
            _made(GENERATORS, kinds[0], "generator.kind", shape, generator),
            _made(DISCRIMINATORS, kinds[1], "discriminator.kind", packed, discriminator),
        )
        if ":" in kinds[0]:
            own.try_generator(built[0], f"generator.kind {kinds[0]}", generator["inputs"], shape)
        if ":" in kinds[1]:
            _try_discriminator(built[1], experiment, packed, told=bool(classes))
        if normalised:
            spectral.normalise(built[1])
    return built


def recordable(experiment: Experiment, images: Images, generator: nn.Module, discriminator: nn.Module) -> bool:
    """Whether a step of these networks, as `build` made them, never waits for the device. Harness's own never do."""
    classes = images.classes if experiment.conditional else 0
    looking = []
    if ":" in experiment.generator.kind:
        noise = own.generator_inputs(experiment.generator.latent + classes)
        looking.append(own.looks_at_values(generator, *noise))
    if ":" in experiment.discriminator.kind:
        shape = (experiment.discriminator.pack * images.shape[0], *images.shape[1:])
        judged = own.discriminator_inputs(shape, mask_shapes(discriminator), told=bool(classes))
        looking.append(own.looks_at_values(discriminator, *judged))
    return not any(looking)


def mask_shapes(discriminator: nn.Module) -> tuple[tuple[int, ...], ...]:
    """What the dropout masks of one image, or pack, look like; empty for a network without dropout."""
    return tuple(tuple(mask) for mask in getattr(discriminator, "mask_shapes", ()))


def _made(known: dict[str, type[nn.Module]], kind: str, leaf: str, shape: tuple[int, ...], options: Any) -> nn.Module:
    if ":" not in kind:
        return known[kind](shape, **options)
    # The rate of dropout comes as masks.
    return own.make(kind, leaf, shape, {name: value for name, value in options.items() if name != "dropout"})


def _try_discriminator(network: nn.Module, experiment: Experiment, shape: tuple[int, ...], *, told: bool) -> None:
    kind, dropout, masks = experiment.discriminator.kind, experiment.discriminator.dropout, mask_shapes(network)
    if dropout and not masks:
        raise HarnessError(
            f"discriminator.dropout is {dropout}, but {kind} names no mask_shapes for masks to be made of: "
            "set it to 0, or see docs/networks.md"
        )
    alone = bool(experiment.objective.penalties)
    own.try_discriminator(network, f"discriminator.kind {kind}", shape, masks, told=told, alone=alone)


__all__ = ["DISCRIMINATORS", "GENERATORS", "build", "mask_shapes", "recordable"]
