"""Spectral normalisation: every weight divided by its largest singular value (Miyato et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

AT_FIRST = 15  # power iterations before training; one more after every update of the discriminator


class Spectral(nn.Module):
    """The parametrization `weight -> weight / sigma`. A forward pass changes nothing: `advance` does.

    PyTorch's own moves its vectors in every forward pass in training, by which a step is no function of its inputs, and
    several passes of one update see several weights.
    """

    left: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("left", F.normalize(torch.randn(weight.shape[0]), dim=0))
        for _ in range(AT_FIRST):
            self.advance(weight)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        right = self._right(matrix.detach())
        # Products and sums, not `@`: autocast would make them coarse.
        sigma = (self.left * (matrix * right).sum(1)).sum()
        return weight / sigma

    @torch.no_grad()
    def advance(self, weight: Tensor) -> None:
        """One power iteration on the weight as it is now."""
        matrix = weight.flatten(1)
        self.left.copy_(F.normalize((matrix * self._right(matrix)).sum(1), dim=0))

    def _right(self, matrix: Tensor) -> Tensor:
        return F.normalize((matrix * self.left[:, None]).sum(0), dim=0)


def normalise(network: nn.Module) -> None:
    """Put every weight of two dimensions and more, at any depth, under spectral normalisation."""
    for module in list(network.modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.dim() > 1:
                parametrize.register_parametrization(module, name, Spectral(weight.detach()))


class Iterations:
    """The power iterations of a network: none where no weight is normalised."""

    def __init__(self, network: nn.Module) -> None:
        self._all = [
            (module[0], module.original)
            for module in network.modules()
            if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], Spectral)
        ]

    def advance(self) -> None:
        """After an update of the weights."""
        for normalisation, weight in self._all:
            normalisation.advance(weight)
