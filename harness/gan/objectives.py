"""The adversarial losses: one loss for each network, on raw logits, as means over the batch."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


class Objective:
    """A pair of losses. Logits are [B], positive for real; a loss is a mean over the batch, [].

    Attributes:
        paired: a generated image is compared with a real one, so the generator's loss needs the logits of both.
        real_target: 1 - smoothing, where there is a target to smooth (Salimans et al. 2016, one-sided).
    """

    paired: ClassVar[bool] = False

    def __init__(self, smoothing: float = 0.0) -> None:
        """Set the label smoothing, in [0, 0.5)."""
        self.real_target = 1 - smoothing

    def decision_threshold(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the logit, [], above which the discriminator takes an image for real."""
        return torch.zeros_like(real[0])

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, [], for logits of real and of generated images, [B] each."""
        raise NotImplementedError

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss, [], for logits of generated images, [B], and of real ones if `paired`."""
        raise NotImplementedError


class NonSaturating(Objective):
    """Goodfellow et al. 2014, section 3, the form used for training: G maximises log D(G(z)). In nats.

    Binary cross-entropy of sigmoid(logit), computed from the logit: equal to it, but precise at both ends. Real and
    generated images are summed, not averaged: a discriminator that cannot tell them apart has the loss 2 ln 2 = 1.386,
    and its generator ln 2 = 0.693.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return -E log D(x) - E log(1 - D(G(z)))."""
        return _cross_entropy(real, self.real_target) + _cross_entropy(fake, 0.0)

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return -E log D(G(z))."""
        return _cross_entropy(fake, 1.0)


class Minimax(NonSaturating):
    """Goodfellow et al. 2014, eq. 1: G minimises log(1 - D(G(z))), which saturates where D is certain. In nats."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return E log(1 - D(G(z)))."""
        return -F.softplus(fake).mean()  # log(1 - sigmoid(x)) = -softplus(x)


class LeastSquares(Objective):
    """Mao et al. 2017, LSGAN, eq. 9: targets 1 for real, 0 for generated and 1 for G, with a factor 1/2."""

    def decision_threshold(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the logit halfway between the two targets."""
        return torch.full_like(real[0], self.real_target / 2)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return (E (D(x) - 1)^2 + E D(G(z))^2) / 2."""
        return ((real - self.real_target).square().mean() + fake.square().mean()) / 2

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return E (D(G(z)) - 1)^2 / 2."""
        return (fake - 1).square().mean() / 2


class Hinge(Objective):
    """Lim and Ye 2017; Miyato et al. 2018, eqs. 16 and 17: D has no gradient where it is right by a margin of 1."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return -E D(G(z))."""
        return -fake.mean()


class _LogitDifference(Objective):
    """Only differences of logits matter, so the decision threshold is halfway between the two means."""

    def decision_threshold(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the middle of the mean logits of real and generated images."""
        return (real.mean() + fake.mean()) / 2


class Wasserstein(_LogitDifference):
    """Arjovsky et al. 2017, eq. 2: a difference of means. Needs a D of bounded slope, that is a gradient penalty."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E D(G(z)) - E D(x)."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return -E D(G(z))."""
        return -fake.mean()


class Relativistic(_LogitDifference):
    """RpGAN: Jolicoeur-Martineau 2019; Huang et al. 2024 (R3GAN), eq. 2, with f(t) = -log(1 + exp(-t)). In nats.

    If D cannot tell real from generated images, both losses are ln 2 = 0.693.
    """

    paired = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return -E f(D(x) - D(G(z))), that is E log(1 + exp(D(G(z)) - D(x)))."""
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return E log(1 + exp(D(x) - D(G(z))))."""
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
