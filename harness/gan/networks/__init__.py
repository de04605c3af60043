"""The networks, by kind, and how an experiment's sections become modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan.draws import stream_seed
from harness.gan.networks import spectral
from harness.gan.networks.conv import ConvDiscriminator, ConvGenerator
from harness.gan.networks.mlp import MLPDiscriminator, MLPGenerator
from harness.gan.networks.residual import ResidualDiscriminator, ResidualGenerator
from harness.own import find_module

GENERATORS: dict[str, type[nn.Module]] = {"mlp": MLPGenerator, "conv": ConvGenerator, "residual": ResidualGenerator}
DISCRIMINATORS: dict[str, type[nn.Module]] = {
    "mlp": MLPDiscriminator,
    "conv": ConvDiscriminator,
    "residual": ResidualDiscriminator,
}
_TRIED = 2  # images, or packs of them, that networks of the user's own are tried on


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
        torch.manual_seed(stream_seed(experiment.train.seed, "init"))
        built = (
            _made(GENERATORS, kinds[0], "generator", shape, generator),
            _made(DISCRIMINATORS, kinds[1], "discriminator", packed, discriminator),
        )
        if normalised:
            spectral.normalise(built[1])
    if ":" in kinds[0]:
        _try(built[0], f"generator.kind {kinds[0]}", (_TRIED, *shape), torch.zeros(_TRIED, generator["inputs"]))
    if ":" in kinds[1]:
        labels = torch.zeros(_TRIED, dtype=torch.int64) if classes else None
        masks = [torch.ones(_TRIED, *mask) for mask in mask_shapes(built[1])] or None
        if experiment.discriminator.dropout and not masks:
            raise HarnessError(
                f"discriminator.dropout is {experiment.discriminator.dropout}, but {kinds[1]} names no mask_shapes for "
                "masks to be made of: set it to 0, or see docs/networks.md"
            )
        _try(built[1], f"discriminator.kind {kinds[1]}", (_TRIED,), torch.zeros(_TRIED, *packed), masks, labels)
    batch_norm = nn.modules.batchnorm._BatchNorm
    if experiment.objective.penalties and any(isinstance(part, batch_norm) for part in built[1].modules()):
        (on, *_) = experiment.objective.penalties
        raise HarnessError(
            f"objective.{on} is {getattr(experiment.objective, on)}, but {kinds[1]} normalises over the batch, so that "
            "no image has a slope of its own: set it to 0, or take the batch norm out of the discriminator"
        )
    return built


def mask_shapes(discriminator: nn.Module) -> tuple[tuple[int, ...], ...]:
    """What the dropout masks of one image, or pack, look like; empty for a network without dropout."""
    return tuple(tuple(mask) for mask in getattr(discriminator, "mask_shapes", ()))


def _made(known: dict[str, type[nn.Module]], kind: str, section: str, shape: Sequence[int], options: Any) -> nn.Module:
    if ":" not in kind:
        return known[kind](tuple(shape), **options)
    own = find_module(kind, f"{section}.kind")
    options = {name: value for name, value in options.items() if name != "dropout"}  # it comes as masks
    try:
        return own(tuple(shape), **options)
    except Exception as error:  # the user's code may raise anything
        told = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise HarnessError(f"{section}.kind {kind}: making it of {tuple(shape)}, {told} failed: {error}") from error


@torch.no_grad()
def _try(network: nn.Module, what: str, expected: tuple[int, ...], *inputs: Any) -> None:
    """That it returns what it should for inputs such as training has. Its buffers are left as they were."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    shapes = ", ".join(str(list(each.shape)) for each in inputs if isinstance(each, Tensor))
    try:
        answer = network(*inputs)
    except Exception as error:  # the user's code may raise anything
        raise HarnessError(f"{what} failed on {shapes}: {error}") from error
    for name, buffer in network.named_buffers():
        buffer.copy_(before[name])
    arrived = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    if arrived != list(expected):
        raise HarnessError(f"{what} returned {arrived} for {shapes}; expected {list(expected)}")


__all__ = ["DISCRIMINATORS", "GENERATORS", "build", "mask_shapes"]
