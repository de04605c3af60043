"""Generate images: the noise of samples, generation in batches, and the conversion of pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.data import Images
from harness.experiment import Experiment
from harness.gan.randomness import sample_noise, stream_generator
from harness.gan.step_noise import concat_onehot

SAMPLE_BATCH = 1_000  # images that are generated at once


def sample_inputs(
    experiment: Experiment, images: Images, count: int, *, seed: int | None = None, part: int = 0, columns: bool = True
) -> Tensor:
    """Return inputs of a generator for samples, [count, latent (+ classes)].

    Args:
        experiment: The experiment of the generator.
        images: The training images, for their classes.
        count: Number of samples.
        seed: Seed of the noise. None: that of the experiment.
        part: See `sample_noise`.
        columns: Classes of a conditional generator. True: in turn, so that a grid has one column per class. False: at
            random, with the frequencies of `images`.
    """
    seed = experiment.train.seed if seed is None else seed
    noise = sample_noise(seed, count, experiment.generator.latent, part)
    if not experiment.conditional or images.labels is None:
        return noise
    labels = torch.arange(count) % images.classes
    if not columns:
        drawn = torch.randint(len(images), (count,), generator=stream_generator(seed, "samples", -1 - part))
        labels = images.labels.cpu()[drawn]
    return concat_onehot(noise, labels, images.classes, experiment.generator.latent)


@torch.no_grad()
def generate(generator: nn.Module, inputs: Tensor) -> Tensor:
    """Return images uint8 [N, C, H, W], on the CPU, for inputs [N, ...] on any device. Computes in fp32."""
    weight = next(generator.parameters())
    was_training = generator.training
    generator.eval()
    batches = torch.split(inputs.to(weight.device, weight.dtype), SAMPLE_BATCH)
    images = torch.cat([to_uint8(generator(batch)).cpu() for batch in batches])
    generator.train(was_training)
    return images


def from_uint8(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert uint8 pixels to [-1, 1], the input range of the networks."""
    return pixels.to(dtype) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Convert images in [-1, 1] to uint8, rounded and clamped. NaN becomes mid-grey."""
    return ((images.float() + 1) * 127.5).nan_to_num(nan=127.5).round().clamp(0, 255).to(torch.uint8)
