"""Penalties on the slope of D: its gradient with respect to the images that it judges.

All need a D that judges every image (or pack of images) by itself, and no units dropped. They are differentiated
again, with respect to D's weights; `torch.func.grad` goes under `torch.func.vmap` too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.experiment import PENALTIES
from harness.gan.randomness import StepNoise

Judge = Callable[[Tensor], Tensor]


def logits_and_input_gradients(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [packs] of images [N, ...], and each one's gradient with respect to its images [packs, values].

    In one pass, and differentiable again.
    """

    def summed(images: Tensor) -> tuple[Tensor, Tensor]:
        logits = judge(images)
        return logits.sum(), logits

    input_gradients, logits = torch.func.grad(summed, has_aux=True)(images)
    return logits, input_gradients.reshape(len(logits), -1)


def penalty(
    on: Sequence[str],
    weights: Tensor,
    real: Tensor,
    fake: Tensor,
    draws: StepNoise,
    input_gradients: Tensor | None,
    judge: Judge,
) -> Tensor:
    """The weighted sum of the penalties that are on; weights are in the order of PENALTIES.

    slopes: of real images and then of generated ones, where R1 or R2 asks for them.
    judge: for images [B, C, H, W] that are told as the real ones are.
    """
    total = torch.zeros_like(weights[0])
    for name, weight in zip(PENALTIES, weights.unbind(), strict=True):
        if name not in on:
            continue
        if name == "gradient_penalty" and draws.blend is not None:
            term = one_centered_penalty(logits_and_input_gradients(judge, interpolate(real, fake, draws.blend))[1])
        elif name == "dragan" and draws.blend is not None and draws.jitter is not None:
            near = interpolate(real, perturb(real, draws.jitter), draws.blend)
            term = one_centered_penalty(logits_and_input_gradients(judge, near)[1])
        elif input_gradients is not None:
            term = zero_centered_penalty(input_gradients.chunk(2)[0 if name == "r1" else 1])
        else:
            raise ValueError(f"the penalty {name} has nothing to look at")
        total = total + weight * term
    return total


def zero_centered_penalty(input_gradients: Tensor) -> Tensor:
    """E |grad D|^2 / 2 over slopes [N, values]: R1 of real images, R2 of generated ones.

    Mescheder et al. 2018, eqs. 9 and 10.
    """
    return input_gradients.square().sum(1).mean() / 2


def one_centered_penalty(input_gradients: Tensor) -> Tensor:
    """E (|grad D| - 1)^2 over slopes [N, values] (Gulrajani et al. 2017, eq. 3)."""
    norms = (input_gradients.square().sum(1) + 1e-12).sqrt()  # a slope of zero has a gradient too
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
