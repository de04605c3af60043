"""Custom networks (docs/networks.md): build them, and check them before anything is trained or tracked."""

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

EXAMPLE_BATCH = 2  # images, or packs of them, that a network is tried on


def build_custom(path: str, field: str, shape: tuple[int, ...], options: Mapping[str, Any]) -> nn.Module:
    """Build `Class(shape, **options)`.

    Args:
        path: `package.module:Class`.
        field: the field of the experiment that names it, for messages.
        shape: (C, H, W) of an image, or of a pack.
        options: keyword arguments of the class.

    Raises:
        HarnessError: the class cannot be imported, or building it fails.
    """
    kind = import_class(path, field)
    try:
        return kind(shape, **options)
    except Exception as error:  # the user's code may raise anything
        arguments = "".join(f", {name}={value!r}" for name, value in options.items())
        raise HarnessError(f"{field} {path}: {kind.__name__}({shape}{arguments}) failed: {brief(error)}") from error


def check_generator(network: nn.Module, what: str, inputs: int, shape: tuple[int, ...]) -> None:
    """Check that a generator maps [B, inputs] to [B, *shape] and keeps the contract.

    Raises:
        HarnessError: it does not.
    """
    _check_network(network, what, (EXAMPLE_BATCH, *shape), *example_generator_inputs(inputs))


def check_discriminator(
    network: nn.Module,
    what: str,
    shape: tuple[int, ...],
    masks: Sequence[tuple[int, ...]],
    *,
    conditional: bool,
    per_image: bool,
) -> None:
    """Check that a discriminator maps [B, *shape] to [B] and keeps the contract.

    Args:
        network: the discriminator.
        what: its name in messages.
        shape: (C, H, W) of an image, or of a pack.
        masks: shapes of the dropout masks of one image.
        conditional: it gets labels.
        per_image: the logit of an image must not depend on the rest of the batch.

    Raises:
        HarnessError: it does not.
    """
    images, *rest = example_discriminator_inputs(shape, masks, conditional=conditional)
    answer = _check_network(network, what, (EXAMPLE_BATCH,), images, *rest)
    others = torch.cat([images[:1], images[1:].flip(-1)])
    if per_image and not torch.allclose(_forward(network, others, *rest)[0], answer[0], rtol=1e-4, atol=1e-5):
        raise HarnessError(
            f"{what}: the logit of an image depends on the rest of the batch (as with batch norm), so a gradient "
            "penalty is not defined: remove that from the discriminator, or set the penalties of objective to 0"
        )


def example_generator_inputs(inputs: int) -> tuple[Tensor]:
    """Return inputs like those in training, for a batch of `EXAMPLE_BATCH`."""
    return (_random_input(EXAMPLE_BATCH, inputs),)


def example_discriminator_inputs(
    shape: tuple[int, ...], masks: Sequence[tuple[int, ...]], *, conditional: bool
) -> tuple[Tensor, list[Tensor] | None, Tensor | None]:
    """Return images, masks and labels like those in training, for a batch of `EXAMPLE_BATCH`."""
    labels = torch.zeros(EXAMPLE_BATCH, dtype=torch.int64) if conditional else None
    return _random_input(EXAMPLE_BATCH, *shape), [torch.ones(EXAMPLE_BATCH, *mask) for mask in masks] or None, labels


def depends_on_values(network: nn.Module, *inputs: Any) -> bool:
    """Return whether a network reads the values of its tensors (`.item()`, `if`, boolean indexing).

    Such a network cannot be recorded. It is found out with tensors that have shapes and no values.
    """
    copied = copy.deepcopy(network)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
            copied(*pytree.tree_map_only(Tensor, mode.from_tensor, inputs))
    except Exception:  # the user's code may raise anything
        return True
    return False


def _random_input(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


def _check_network(network: nn.Module, what: str, expected: tuple[int, ...], *inputs: Any) -> Tensor:
    """Return the output for inputs like those in training; buffers are left as they were.

    Checks that its shape is right, that it depends on every weight, and that a second call returns the same.
    """
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
                f"{what}: the output does not depend on the weight {unused[0]}: remove it, or set "
                "requires_grad to False"
            )
    if not torch.equal(_forward(network, *inputs), answer):
        raise HarnessError(
            f"{what} returned another output for the same inputs: it must be a pure function, without dropout or noise "
            "inside (docs/networks.md says how to use dropout masks)"
        )
    return answer


@torch.no_grad()
def _forward(network: nn.Module, *inputs: Any) -> Tensor:
    with preserve_buffers(network):
        answer: Tensor = network(*inputs)
    return answer
