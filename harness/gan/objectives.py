"""What the two networks minimise: pairs of losses on raw logits, as means over the batch."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


class Objective:
    """A loss for each network. Logits are [B], positive for real; all losses are means over the batch.

    smoothing: real images count as 1 - smoothing, where there is a target to smooth (Salimans et al. 2016, one-sided).
    paired: a generated image is judged against a real one, so that G's loss needs the logits of both.
    """

    paired: ClassVar[bool] = False

    def __init__(self, smoothing: float = 0.0) -> None:
        self.real_target = 1 - smoothing

    def decision_threshold(self, real: Tensor, fake: Tensor) -> Tensor:
        """The logit above which D takes an image for real."""
        return torch.zeros_like(real[0])

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        raise NotImplementedError

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class NonSaturating(Objective):
    """Goodfellow et al. 2014, section 3, the form that they train with: G maximises log D(G(z)). In nats.

    Binary cross-entropy of sigmoid(logit), computed on the logit: the same sums without the sigmoid, which would lose
    its precision at the ends. Real and fake are summed, not averaged: where D can tell nothing, its loss is
    2 ln 2 = 1.386 and G's is ln 2 = 0.693.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return _cross_entropy(real, self.real_target) + _cross_entropy(fake, 0.0)

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return _cross_entropy(fake, 1.0)


class Minimax(NonSaturating):
    """Goodfellow et al. 2014, eq. 1, to the letter: G minimises log(1 - D(G(z))), which saturates where D is sure."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -F.softplus(fake).mean()  # log(1 - sigmoid(x)) = -softplus(x)


class LeastSquares(Objective):
    """Mao et al. 2017, LSGAN, eq. 9: targets 1 for real, 0 for generated and 1 for G, a half before every square."""

    def decision_threshold(self, real: Tensor, fake: Tensor) -> Tensor:
        return torch.full_like(real[0], self.real_target / 2)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((real - self.real_target).square().mean() + fake.square().mean()) / 2

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return (fake - 1).square().mean() / 2


class Hinge(Objective):
    """Lim and Ye 2017; Miyato et al. 2018, eqs. 16 and 17: D is left alone where it is right by a margin of 1."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class _Difference(Objective):
    """Only the difference of logits counts: where one stands means nothing, and the boundary is halfway."""

    def decision_threshold(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real.mean() + fake.mean()) / 2


class Wasserstein(_Difference):
    """Arjovsky et al. 2017, eq. 2: a difference of means. It needs a D of bounded slope: a gradient penalty."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Relativistic(_Difference):
    """RpGAN: Jolicoeur-Martineau 2019; Huang et al. 2024 (R3GAN), eq. 2, with f(t) = -log(1 + exp(-t)). In nats.

    Where D can tell nothing, both losses are ln 2 = 0.693.
    """

    paired = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        if real is None:
            raise ValueError("a relativistic generator loss needs the logits of real images too")
        return F.softplus(real - fake).mean()


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


OBJECTIVES: dict[str, type[Objective]] = {
    "non-saturating": NonSaturating,
    "minimax": Minimax,
    "lsgan": LeastSquares,
    "hinge": Hinge,
    "wasserstein": Wasserstein,
    "relativistic": Relativistic,
}
