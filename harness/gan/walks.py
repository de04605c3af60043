"""Walks through latent space: closed great circles, every point of which is a draw like any other."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.data import Images
from harness.experiment import Experiment
from harness.gan.training import generate, sample_inputs

TURNS_TO = 3  # the part of the stream `samples` that a walk turns to, so that where it begins knows nothing of it


def great_circle(start: Tensor, side: Tensor, turn: float) -> Tensor:
    """cos(2 pi t) start + sin(2 pi t) side, all [N, latent]: `start` at every whole turn t, to the bit.

    Of independent standard normal ends every point is standard normal. Halfway along a straight line the norm would be
    smaller by sqrt(2): noise that a generator is never trained on (White 2016, Sampling Generative Networks).
    """
    angle = 2 * math.pi * (turn % 1)
    return math.cos(angle) * start + math.sin(angle) * side


def walk(
    generator: nn.Module, experiment: Experiment, images: Images, count: int, frames: int, *, seed: int
) -> Iterator[Tensor]:
    """`count` walks, frame by frame: uint8 [count, C, H, W] at the turns 0, 1 / frames, 2 / frames, ... below 1.

    The first frame is what `generate` draws from `sample_inputs` of the same count and seed. A conditional generator
    keeps the class of each walk.
    """
    latent = experiment.generator.latent
    start, side = (sample_inputs(experiment, images, count, seed=seed, part=part) for part in (0, TURNS_TO))
    for frame in range(frames):
        noise = great_circle(start[:, :latent], side[:, :latent], frame / frames)
        yield generate(generator, torch.cat([noise, start[:, latent:]], dim=1))
