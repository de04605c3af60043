"""Penalties on the gradient of D with respect to its input images.

They need a D without dropout whose logit of an image (or pack of images) does not depend on the rest of the batch. They
are differentiated again, with respect to D's weights. `torch.func.grad` works under `torch.func.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def logits_and_input_gradients(d: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [packs] of images [N, ...], and each one's gradient with respect to its images [packs, values].

    In one pass, and differentiable again.
    """

    def summed(images: Tensor) -> tuple[Tensor, Tensor]:
        logits = d(images)
        return logits.sum(), logits

    input_gradients, logits = torch.func.grad(summed, has_aux=True)(images)
    return logits, input_gradients.reshape(len(logits), -1)


def zero_centered_penalty(input_gradients: Tensor) -> Tensor:
    """E |grad D|^2 / 2 over input gradients [N, values]: R1 of real images, R2 of generated ones.

    Mescheder et al. 2018, eqs. 9 and 10.
    """
    return input_gradients.square().sum(1).mean() / 2


def one_centered_penalty(input_gradients: Tensor) -> Tensor:
    """E (|grad D| - 1)^2 over input gradients [N, values] (Gulrajani et al. 2017, eq. 3)."""
    norms = (input_gradients.square().sum(1) + 1e-12).sqrt()  # the root has no gradient at 0
    return (norms - 1).square().mean()


def interpolate(real: Tensor, other: Tensor, blend: Tensor) -> Tensor:
    """Points [N, ...] on the lines from other to real images, at the share `blend` [N] (Gulrajani et al. 2017)."""
    share = blend.to(real.dtype).view(-1, *[1] * (real.dim() - 1))
    return other + share * (real - other)


def perturb(real: Tensor, jitter: Tensor) -> Tensor:
    """Real images [N, ...], up to half of the batch's standard deviation brighter, each pixel by itself.

    Kodali et al. 2017, DRAGAN, with the noise of its authors' code, which looks between these and the real images;
    `jitter` [N, ...] is uniform in [0, 1).
    """
    return real + 0.5 * real.std(correction=0) * jitter.to(real.dtype)
