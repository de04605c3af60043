"""Walks through latent space: interpolation of noise along closed great circles."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.data import Images
from harness.experiment import Experiment
from harness.gan.sampling import generate, sample_inputs

DIRECTION_PART = 3  # part of the stream `samples` for the second noise, which is independent of the first


def great_circle(start: Tensor, direction: Tensor, turn: float) -> Tensor:
    """Return cos(2 pi t) start + sin(2 pi t) direction.

    If both are independent standard normal noise, so is every point of the circle. Halfway along a straight line the
    norm is smaller by a factor of sqrt(2), which is noise that a generator was never trained on (White 2016, Sampling
    Generative Networks).

    Args:
        start: noise [N, latent]; the result, bit for bit, at every whole turn.
        direction: noise [N, latent].
        turn: t, in whole turns.
    """
    angle = 2 * math.pi * (turn % 1)
    return math.cos(angle) * start + math.sin(angle) * direction


def latent_walk(
    generator: nn.Module, experiment: Experiment, images: Images, count: int, frames: int, *, seed: int
) -> Iterator[Tensor]:
    """Generate `count` closed walks, frame by frame.

    The first frame is what `generate` returns for `sample_inputs` with the same count and seed. A conditional
    generator keeps the class of each walk.

    Yields:
        `frames` tensors uint8 [count, C, H, W], at the turns 0, 1 / frames, 2 / frames, ...
    """
    latent = experiment.generator.latent
    start, direction = (sample_inputs(experiment, images, count, seed=seed, part=part) for part in (0, DIRECTION_PART))
    for frame in range(frames):
        noise = great_circle(start[:, :latent], direction[:, :latent], frame / frames)
        yield generate(generator, torch.cat([noise, start[:, latent:]], dim=1))
