"""Optimizers and their learning rates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.experiment import Optimizer
from harness.gan.cuda_graph import can_capture

# Factor of the learning rates, by the share of the run's steps that are done.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def build_adam(
    network: nn.Module, options: Optimizer, lr: float, device: torch.device, *, capturable: bool
) -> torch.optim.Adam:
    """Return fused Adam for the weights of a network that require gradients.

    `capturable` says whether a CUDA graph may record its steps.
    """
    on_device = can_capture(device)  # the rate is a tensor on the device: a recorded step reads its present value
    return torch.optim.Adam(
        [weight for weight in network.parameters() if weight.requires_grad],
        lr=torch.tensor(lr, device=device) if on_device else lr,
        betas=options.betas,
        eps=options.eps,
        fused=True,
        capturable=capturable,
    )


def backward(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """Compute the gradients of the optimizer's weights only. Returns their global L2 norm, []."""
    gradients = torch.autograd.grad(loss, _parameters(optimizer))
    set_gradients(optimizer, gradients)
    return torch.nn.utils.get_total_norm(gradients)


def set_gradients(optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor]) -> None:
    """Set the gradients of the optimizer's weights; `gradients` in their order."""
    for weight, gradient in zip(_parameters(optimizer), gradients, strict=True):
        # Fused Adam works on memory in order, so a gradient must have the strides of its weight.
        same_strides = gradient.stride() == weight.stride()
        weight.grad = gradient if same_strides else torch.empty_like(weight).copy_(gradient)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate, on the device where it is a tensor."""
    (group,) = optimizer.param_groups
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def load_moments(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the moments of a saved optimizer. Rates and options stay those of this optimizer.

    The moments are copied: PyTorch would train on those of `state`.
    """
    optimizer.load_state_dict({**optimizer.state_dict(), "state": copy.deepcopy(state["state"])})


def moments_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors of an optimizer's state."""
    return [value for state in optimizer.state.values() for value in state.values()]


def unshared_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network. Tensors in memory that is shared with other members of a batch are copied."""
    return {
        name: tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
        for name, tensor in network.state_dict().items()
    }
