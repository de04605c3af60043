"""Penalties on the gradient of the discriminator with respect to its input images.

They need a discriminator without dropout whose logit of an image (or pack of images) does not depend on the rest of
the batch. They are differentiated again, with respect to the discriminator's weights. `torch.func.grad` works under
`torch.func.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def logits_and_input_gradients(d: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Compute logits and their gradients with respect to the images, in one pass; both can be differentiated again.

    Args:
        d: the discriminator: images [N, C, H, W] to logits [packs].
        images: [N, C, H, W].

    Returns:
        Logits [packs], and the gradient of each with respect to its own images [packs, values].
    """

    def logit_sum(images: Tensor) -> tuple[Tensor, Tensor]:
        logits = d(images)
        return logits.sum(), logits

    input_gradients, logits = torch.func.grad(logit_sum, has_aux=True)(images)
    return logits, input_gradients.reshape(len(logits), -1)


def zero_centered_penalty(input_gradients: Tensor) -> Tensor:
    """Return E |grad D|^2 / 2 over input gradients [N, values]: R1 of real images, R2 of generated ones.

    Mescheder et al. 2018, eqs. 9 and 10.
    """
    return input_gradients.square().sum(1).mean() / 2


def one_centered_penalty(input_gradients: Tensor) -> Tensor:
    """Return E (|grad D| - 1)^2 over input gradients [N, values] (Gulrajani et al. 2017, eq. 3)."""
    norms = (input_gradients.square().sum(1) + 1e-12).sqrt()  # the gradient of the root is infinite at 0
    return (norms - 1).square().mean()


def interpolate(real: Tensor, other: Tensor, blend: Tensor) -> Tensor:
    """Return points [N, ...] on the lines from `other` to `real`, at the share `blend` [N] (Gulrajani et al. 2017)."""
    share = blend.to(real.dtype).view(-1, *[1] * (real.dim() - 1))
    return other + share * (real - other)


def perturb(real: Tensor, jitter: Tensor) -> Tensor:
    """Return real images [N, ...], each pixel brighter by up to half of the batch's standard deviation.

    Kodali et al. 2017, DRAGAN, with the noise of its authors' code, which evaluates the gradient between these images
    and the real ones.

    Args:
        real: [N, ...].
        jitter: [N, ...], uniform in [0, 1).
    """
    return real + 0.5 * real.std(correction=0) * jitter.to(real.dtype)
