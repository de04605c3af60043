"""K networks as one: weights with a leading axis [K, ...], forward passes under `torch.func.vmap`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from harness.gan.optimizers import set_gradients
from harness.gan.sampling import SAMPLE_BATCH, generate, to_uint8
from harness.gan.step import Network

Weights = Mapping[str, Tensor]


class StackedNetwork:
    """The networks of all members, with weights and buffers that have a leading member axis.

    A tensor with the same shape in all members is stored once, [K, ...], and the tensor of each member is a view of it.
    A weight that depends on the latent size is stored by its member, and is padded with zeros and stacked at every
    step. The noise is padded with zeros too, so the padding changes no result.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self._networks = networks
        self.shared: dict[str, Tensor] = {}
        self._ragged: dict[str, list[Tensor]] = {}
        parameters = networks[0].named_parameters() if networks else ()
        self._trainable = [name for name, weight in parameters if weight.requires_grad]
        members = [{**dict(network.named_parameters()), **dict(network.named_buffers())} for network in networks]
        with torch.no_grad():
            for name in members[0] if members else ():
                self._add_tensor(name, [member[name] for member in members])

    def _add_tensor(self, name: str, tensors: list[Tensor]) -> None:
        if len({tensor.shape for tensor in tensors}) > 1:
            self._ragged[name] = tensors
            return
        stacked = torch.stack([tensor.detach() for tensor in tensors])
        if tensors[0].dim() == 4 and tensors[0].is_contiguous(memory_format=torch.channels_last):
            stacked = stacked.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        for tensor, part in zip(tensors, stacked, strict=True):
            tensor.data = part
        self.shared[name] = stacked.requires_grad_(tensors[0].requires_grad)

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers by name, [K, ...]."""
        return {**self.shared, **{name: pad_and_stack(tensors) for name, tensors in self._ragged.items()}}

    def network(self, weights: Weights) -> Network:
        """Return the network of one member as a function of its inputs."""

        def run(*inputs: object) -> Tensor:
            result: Tensor = functional_call(self._networks[0], dict(weights), inputs)
            return result

        return run

    def gradients(self, losses: Tensor) -> dict[str, Sequence[Tensor]]:
        """Return the gradients of each member's loss [K], by the name of the weight."""
        weights = {name: self._ragged.get(name) or [self.shared[name]] for name in self._trainable}
        # No loss depends on the weights of another member, so the gradient of the sum has the gradients of all.
        found = iter(torch.autograd.grad(losses.sum(), [weight for several in weights.values() for weight in several]))
        return {
            name: [next(found) for _ in several] if name in self._ragged else next(found).unbind()
            for name, several in weights.items()
        }

    def optimizer_step(self, losses: Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> Tensor:
        """Take one optimizer step of every member on its loss [K]. Returns the global L2 norms of the gradients [K]."""
        gradients = self.gradients(losses)
        for index, optimizer in enumerate(optimizers):
            set_gradients(optimizer, [tensors[index] for tensors in gradients.values()])
            optimizer.step()
        norms = [torch.stack(torch._foreach_norm(list(tensors))) for tensors in gradients.values()]
        total: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        return total


def pad_and_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors to [K, ...], padded with zeros to the largest last dimension. It is differentiable."""
    widest = max(tensor.shape[-1] for tensor in tensors)
    return torch.stack([F.pad(tensor, (0, widest - tensor.shape[-1])) for tensor in tensors])


def stack_present(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """Stack tensors to [K, ...], without those that are None. Returns None if all are."""
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present) if present else None


def vmap_members(function: Callable[..., Any], *arguments: object) -> Any:
    """Map a function over the member axis of all tensors among its arguments."""
    axes = torch.utils._pytree.tree_map(lambda each: 0 if isinstance(each, Tensor) else None, arguments)
    return vmap(function, in_dims=axes)(*arguments)


def generate_all(generators: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run `generate` for several generators of the same kind. Returns images uint8 [N, C, H, W] of each, on the CPU.

    On a GPU, they are generated as a batch.
    """
    device = next(generators[0].parameters()).device
    if device.type != "cuda" or len(generators) == 1 or len({len(each) for each in inputs}) > 1:
        return [generate(generator, each) for generator, each in zip(generators, inputs, strict=True)]
    return generate_batched(generators, inputs)


@torch.no_grad()
def generate_batched(generators: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run `generate_all` as a batch, for inputs [N, ...] of the same N for each generator."""
    stack = StackedNetwork([copy.deepcopy(generator).eval() for generator in generators])
    weights = stack.weights()
    first = next(iter(weights.values()))
    stacked = pad_and_stack(inputs).to(first.device, first.dtype)

    def images(weights: Weights, inputs: Tensor) -> Tensor:
        return to_uint8(stack.network(weights)(inputs))

    parts = [vmap_members(images, weights, part) for part in torch.split(stacked, SAMPLE_BATCH, dim=1)]
    return list(torch.cat(parts, dim=1).cpu())
