"""Networks of the user's own (docs/networks.md): made, and tried before anything is trained or tracked."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from harness.errors import HarnessError, brief
from harness.experiment.custom import import_class
from harness.gan.networks.layers import preserve_buffers

TRIAL_BATCH = 2  # images, or packs of them, that a network is tried on


def build_custom(path: str, leaf: str, shape: tuple[int, ...], options: Mapping[str, Any]) -> nn.Module:
    """`Class(shape, **options)`; leaf: what names the class, for messages."""
    kind = import_class(path, leaf)
    try:
        return kind(shape, **options)
    except Exception as error:  # the user's code may raise anything
        told = "".join(f", {name}={value!r}" for name, value in options.items())
        raise HarnessError(f"{leaf} {path}: {kind.__name__}({shape}{told}) failed: {brief(error)}") from error


def try_generator(network: nn.Module, what: str, inputs: int, shape: tuple[int, ...]) -> None:
    """Raise HarnessError where a generator of [B, inputs] to [B, *shape] breaks the contract."""
    _try(network, what, (TRIAL_BATCH, *shape), *generator_inputs(inputs))


def try_discriminator(
    network: nn.Module, what: str, shape: tuple[int, ...], masks: Sequence[tuple[int, ...]], *, told: bool, alone: bool
) -> None:
    """Raise HarnessError where a discriminator of [B, *shape] to [B] breaks the contract.

    told: it is handed labels. alone: what it says of an image must not depend on the others of the batch.
    """
    images, *rest = discriminator_inputs(shape, masks, told=told)
    answer = _try(network, what, (TRIAL_BATCH,), images, *rest)
    others = torch.cat([images[:1], images[1:].flip(-1)])
    if alone and not torch.allclose(_again(network, others, *rest)[0], answer[0], rtol=1e-4, atol=1e-5):
        raise HarnessError(
            f"{what} judges an image by the others of its batch (batch norm does), so that no image has a slope of its "
            "own for a penalty: take that out of the discriminator, or set the penalties of objective to 0"
        )


def generator_inputs(inputs: int) -> tuple[Tensor]:
    """Such as training has, for a few images."""
    return (_some(TRIAL_BATCH, inputs),)


def discriminator_inputs(
    shape: tuple[int, ...], masks: Sequence[tuple[int, ...]], *, told: bool
) -> tuple[Tensor, list[Tensor] | None, Tensor | None]:
    labels = torch.zeros(TRIAL_BATCH, dtype=torch.int64) if told else None
    return _some(TRIAL_BATCH, *shape), [torch.ones(TRIAL_BATCH, *mask) for mask in masks] or None, labels


def depends_on_values(network: nn.Module, *inputs: Any) -> bool:
    """Whether it goes by what is in its tensors (`.item()`, `if`, boolean indexing), which no recorded step can.

    It is found out with tensors that have shapes and no values.
    """
    copied = copy.deepcopy(network)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
            copied(*pytree.tree_map_only(Tensor, mode.from_tensor, inputs))
    except Exception:  # the user's code may raise anything
        return True
    return False


def _some(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


def _try(network: nn.Module, what: str, expected: tuple[int, ...], *inputs: Any) -> Tensor:
    """The answer to inputs such as training has, which is seen to be of the right shape, of every weight, and the same
    when it is asked for again. Buffers are left as they were."""
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    if not weights:
        raise HarnessError(f"{what} has no weights to train")
    shapes = ", ".join(str(list(each.shape)) for each in inputs if isinstance(each, Tensor))
    with preserve_buffers(network):
        try:
            answer = network(*inputs)
        except Exception as error:  # the user's code may raise anything
            raise HarnessError(f"{what} failed on {shapes}: {brief(error)}") from error
        arrived = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        if arrived != list(expected):
            raise HarnessError(f"{what} returned {arrived} for {shapes}; expected {list(expected)}")
        assert isinstance(answer, Tensor)
        gradients: Sequence[Tensor | None] = [None] * len(weights)
        if answer.requires_grad:
            gradients = torch.autograd.grad(answer.sum(), list(weights.values()), allow_unused=True)
        unused = [name for name, gradient in zip(weights, gradients, strict=True) if gradient is None]
        if unused:
            raise HarnessError(
                f"{what}: what it returns does not depend on its weight {unused[0]}: "
                "take it out, or set requires_grad to False"
            )
    if not torch.equal(_again(network, *inputs), answer):
        raise HarnessError(
            f"{what} answers otherwise when it is asked again: it must be a pure function of its inputs, without "
            "dropout or noise of its own (docs/networks.md says how masks are handed in)"
        )
    return answer


@torch.no_grad()
def _again(network: nn.Module, *inputs: Any) -> Tensor:
    with preserve_buffers(network):
        answer: Tensor = network(*inputs)
    return answer
