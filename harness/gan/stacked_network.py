"""One network of K trainings: weights with a leading axis [K, ...], forward passes under `torch.func.vmap`."""

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
    """One network of all members, its weights and buffers with a leading member axis.

    What has the same shape in all members lies in one piece of memory, which each member's own module looks into. A
    weight that depends on the latent size stays with its member, and is padded with zeros and stacked at every step:
    the noise beside it is zero too, so the padding changes nothing.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self._networks = networks
        self.shared: dict[str, Tensor] = {}
        self._ragged: dict[str, list[Tensor]] = {}
        parameters = networks[0].named_parameters() if networks else ()
        self._trained = [name for name, weight in parameters if weight.requires_grad]
        members = [{**dict(network.named_parameters()), **dict(network.named_buffers())} for network in networks]
        with torch.no_grad():
            for name in members[0] if members else ():
                self._add_tensor(name, [of[name] for of in members])

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
        """Everything by name, [K, ...]."""
        return {**self.shared, **{name: pad_and_stack(tensors) for name, tensors in self._ragged.items()}}

    def network(self, weights: Weights) -> Network:
        """The network as a function, of one member's weights."""

        def run(*inputs: object) -> Tensor:
            result: Tensor = functional_call(self._networks[0], dict(weights), inputs)
            return result

        return run

    def gradients(self, losses: Tensor) -> dict[str, Sequence[Tensor]]:
        """Each member's gradients of its own loss [K], by the name of the weight."""
        weights = {name: self._ragged.get(name) or [self.shared[name]] for name in self._trained}
        # Nothing joins the members, so the gradient of the sum holds each member's own.
        found = iter(torch.autograd.grad(losses.sum(), [weight for several in weights.values() for weight in several]))
        return {
            name: [next(found) for _ in several] if name in self._ragged else next(found).unbind()
            for name, several in weights.items()
        }

    def optimizer_step(self, losses: Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> Tensor:
        """One step of every member's own optimiser on its own loss [K]; returns the gradients' global L2 norms [K]."""
        gradients = self.gradients(losses)
        for index, optimizer in enumerate(optimizers):
            set_gradients(optimizer, [of[index] for of in gradients.values()])
            optimizer.step()
        norms = [torch.stack(torch._foreach_norm(list(of))) for of in gradients.values()]
        total: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        return total


def pad_and_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stacked to [K, ...], with zeros after the last input of those that have fewer. Gradients find their way back."""
    widest = max(tensor.shape[-1] for tensor in tensors)
    return torch.stack([F.pad(tensor, (0, widest - tensor.shape[-1])) for tensor in tensors])


def stack_present(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """[K, ...], or None where no member has any."""
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(there) if there else None


def vmap_members(function: Callable[..., Any], *arguments: object) -> Any:
    """The function of every member's own arguments: what is None is nobody's own."""
    axes = torch.utils._pytree.tree_map(lambda each: 0 if isinstance(each, Tensor) else None, arguments)
    return vmap(function, in_dims=axes)(*arguments)


def generate_all(generators: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """`generate` for several generators of the same kind: images uint8 [N, C, H, W] of each, on the CPU.

    Where a GPU has several to draw with, as one program.
    """
    device = next(generators[0].parameters()).device
    if device.type != "cuda" or len(generators) == 1 or len({len(each) for each in inputs}) > 1:
        return [generate(generator, each) for generator, each in zip(generators, inputs, strict=True)]
    return generate_batched(generators, inputs)


@torch.no_grad()
def generate_batched(generators: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """`generate_all` as one program, for as many inputs [N, ...] of each."""
    stack = StackedNetwork([copy.deepcopy(generator).eval() for generator in generators])
    weights = stack.weights()
    some = next(iter(weights.values()))
    stacked = pad_and_stack(inputs).to(some.device, some.dtype)

    def images(weights: Weights, inputs: Tensor) -> Tensor:
        return to_uint8(stack.network(weights)(inputs))

    parts = [vmap_members(images, weights, part) for part in torch.split(stacked, SAMPLE_BATCH, dim=1)]
    return list(torch.cat(parts, dim=1).cpu())
