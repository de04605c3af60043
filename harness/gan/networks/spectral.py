"""Spectral normalisation: divide every weight by its largest singular value (Miyato et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

INITIAL_ITERATIONS = 15  # power iterations before training; one more after every update of the discriminator


class SpectralNorm(nn.Module):
    """The parametrization `weight -> weight / sigma`. A forward pass changes nothing; `power_iteration` updates `u`.

    `torch.nn.utils.parametrizations.spectral_norm` updates its vectors in every forward pass of training. Then a step
    is not a function of its inputs, and several passes of one update see several weights.
    """

    u: Tensor

    def __init__(self, weight: Tensor) -> None:
        """Start with a random vector and `INITIAL_ITERATIONS` power iterations."""
        super().__init__()
        self.register_buffer("u", F.normalize(torch.randn(weight.shape[0]).to(weight), dim=0))
        for _ in range(INITIAL_ITERATIONS):
            self.power_iteration(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Return weight / sigma, with the estimate u W v of the largest singular value sigma."""
        matrix = weight.flatten(1)
        v = self._v(matrix.detach())
        # Products and sums, not `@`: autocast would make them coarse.
        sigma = (self.u * (matrix * v).sum(1)).sum()
        return weight / sigma

    @torch.no_grad()
    def power_iteration(self, weight: Tensor) -> None:
        """Run one power iteration on the present weight."""
        matrix = weight.flatten(1)
        self.u.copy_(F.normalize((matrix * self._v(matrix)).sum(1), dim=0))

    def _v(self, matrix: Tensor) -> Tensor:
        return F.normalize((matrix * self.u[:, None]).sum(0), dim=0)


def apply_spectral_norm(network: nn.Module) -> None:
    """Normalise every weight of two or more dimensions, at any depth."""
    for module in list(network.modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.dim() > 1:
                parametrize.register_parametrization(module, name, SpectralNorm(weight.detach()))


class SpectralNorms:
    """All spectral norms of a network; there may be none."""

    def __init__(self, network: nn.Module) -> None:
        """Find the spectral norms of the network."""
        self._all = [
            (module[0], module.original)
            for module in network.modules()
            if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], SpectralNorm)
        ]

    def power_iteration(self) -> None:
        """Run one power iteration on each; call it after an update of the weights."""
        for normalisation, weight in self._all:
            normalisation.power_iteration(weight)
