"""The networks by kind, and how the sections of an experiment become modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan.networks import custom, spectral
from harness.gan.networks.conv import ConvDiscriminator, ConvGenerator
from harness.gan.networks.mlp import MLPDiscriminator, MLPGenerator
from harness.gan.networks.residual import ResidualDiscriminator, ResidualGenerator
from harness.gan.randomness import stream_seed

GENERATORS: dict[str, type[nn.Module]] = {"mlp": MLPGenerator, "conv": ConvGenerator, "residual": ResidualGenerator}
DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "mlp": MLPDiscriminator,
    "conv": ConvDiscriminator,
    "residual": ResidualDiscriminator,
}


def build(experiment: Experiment, images: Images) -> tuple[nn.Module, nn.Module]:
    """Build the experiment's generator and discriminator for images like these, on the CPU.

    A conditional generator takes latent + classes inputs (the one-hot label appended to the noise), a conditional
    discriminator the labels with the images. A discriminator of packs sees the channels of all images of a pack in one
    image. Weights are initialised from the stream `init`; the global random state is unchanged.

    Returns:
        The generator and the discriminator.

    Raises:
        HarnessError: the networks cannot take such images, or a custom network breaks the contract (docs/networks.md).
    """
    kinds = experiment.generator.kind, experiment.discriminator.kind
    for kind in kinds:
        _check_sides(kind, images)
    classes = _classes(experiment, images)
    discriminator = experiment.discriminator.model_dump(exclude={"kind"})
    normalised, pack = discriminator.pop("spectral_norm"), discriminator.pop("pack")
    discriminator["classes"] = classes
    packed = (pack * images.shape[0], *images.shape[1:])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(experiment.train.seed, "init"))
        built = (
            _generator(experiment, images),
            _build_network(DISCRIMINATORS, kinds[1], "discriminator.kind", packed, discriminator),
        )
        if ":" in kinds[0]:
            inputs = experiment.generator.latent + classes
            custom.check_generator(built[0], f"generator.kind {kinds[0]}", inputs, images.shape)
        if ":" in kinds[1]:
            _check_discriminator(built[1], experiment, packed, conditional=bool(classes))
        if normalised:
            spectral.apply_spectral_norm(built[1])
    return built


def build_generator(experiment: Experiment, images: Images) -> nn.Module:
    """Build the generator only: a custom discriminator is not imported.

    Raises:
        HarnessError: as `build` does for a generator.
    """
    kind = experiment.generator.kind
    _check_sides(kind, images)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(experiment.train.seed, "init"))
        built = _generator(experiment, images)
        if ":" in kind:
            inputs = experiment.generator.latent + _classes(experiment, images)
            custom.check_generator(built, f"generator.kind {kind}", inputs, images.shape)
    return built


@contextmanager
def readable_load_errors(what: str) -> Iterator[None]:
    """Turn the error of a state dict that does not fit its module into a HarnessError of one line.

    Args:
        what: The loaded values in the message, in the plural.
    """
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__
        raise HarnessError(f"{what} do not fit the networks as they are now: {reason[:300]}") from error


def _classes(experiment: Experiment, images: Images) -> int:
    """Number of classes of a conditional experiment; 0 otherwise."""
    if experiment.conditional and images.labels is None:
        raise HarnessError(f"{images.name} has no labels, but `conditional: true` needs them: set it to false")
    return images.classes if experiment.conditional else 0


def _check_sides(kind: str, images: Images) -> None:
    _, height, width = images.shape
    if kind in ("conv", "residual") and (height % 4 or width % 4):
        raise HarnessError(f"{images.name} are {height}x{width}; networks of kind {kind} take sides divisible by 4")


def _generator(experiment: Experiment, images: Images) -> nn.Module:
    options = experiment.generator.model_dump(exclude={"kind", "latent"})
    options["inputs"] = experiment.generator.latent + _classes(experiment, images)
    return _build_network(GENERATORS, experiment.generator.kind, "generator.kind", images.shape, options)


def can_be_recorded(experiment: Experiment, images: Images, generator: nn.Module, discriminator: nn.Module) -> bool:
    """Return whether a step of these networks never waits for the device. Only custom networks may do so."""
    classes = images.classes if experiment.conditional else 0
    waits = []
    if ":" in experiment.generator.kind:
        noise = custom.example_generator_inputs(experiment.generator.latent + classes)
        waits.append(custom.depends_on_values(generator, *noise))
    if ":" in experiment.discriminator.kind:
        shape = (experiment.discriminator.pack * images.shape[0], *images.shape[1:])
        inputs = custom.example_discriminator_inputs(shape, mask_shapes(discriminator), conditional=bool(classes))
        waits.append(custom.depends_on_values(discriminator, *inputs))
    return not any(waits)


def mask_shapes(discriminator: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the dropout masks of one image or pack; empty for a network without dropout."""
    return tuple(tuple(mask) for mask in getattr(discriminator, "mask_shapes", ()))


def _build_network(
    known: dict[str, type[nn.Module]], kind: str, field: str, shape: tuple[int, ...], options: Any
) -> nn.Module:
    options.pop("dropout", None)  # dropout masks are inputs of the network
    return known[kind](shape, **options) if ":" not in kind else custom.build_custom(kind, field, shape, options)


def _check_discriminator(
    network: nn.Module, experiment: Experiment, shape: tuple[int, ...], *, conditional: bool
) -> None:
    kind, masks = experiment.discriminator.kind, mask_shapes(network)
    scheduled = experiment.schedule.get("discriminator.dropout", {})
    dropout = max(experiment.discriminator.dropout, *scheduled.values(), 0)
    if dropout and not masks:
        raise HarnessError(
            f"discriminator.dropout is {dropout}, but {kind} has no attribute mask_shapes: "
            "set it to 0, or see docs/networks.md"
        )
    per_image = bool(experiment.objective.penalties)
    custom.check_discriminator(
        network, f"discriminator.kind {kind}", shape, masks, conditional=conditional, per_image=per_image
    )


__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "build",
    "build_generator",
    "can_be_recorded",
    "mask_shapes",
    "readable_load_errors",
]
