"""Evaluate the discriminator at the end of an epoch: mean logits and accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.data import Images
from harness.gan.networks.layers import preserve_buffers
from harness.gan.sampling import from_uint8, sample_inputs
from harness.gan.step import discriminator_logits

if TYPE_CHECKING:
    from harness.gan.training import Training

LOGIT_IMAGES = 1_000  # images of each kind


@torch.no_grad()
def evaluate_logits(training: Training) -> dict[str, float]:
    """Evaluate D, without dropout, on 1,000 images of each kind: real, generated, and held-out ones if there are any.

    Returns:
        `logit/KIND`, the mean logits, and `accuracy/KIND`, the share of images on the right side of the decision
        threshold. The host waits for the device once.
    """
    experiment, images, validation = training.experiment, training.images, training.validation
    inputs = sample_inputs(experiment, images, _count(training, images), columns=False)
    inputs = inputs.to(training.device, training.dtype)
    labels = inputs[:, -images.classes :].argmax(1) if experiment.conditional else None
    with training.autocast(), preserve_buffers(training.generator), preserve_buffers(training.discriminator):
        logits = {"real": _logits(training, images)}
        fake = training.generator(inputs)
        logits["fake"] = discriminator_logits(training.losses, training.discriminator, fake, labels=labels)
        if validation is not None and _count(training, validation):
            logits["held_out"] = _logits(training, validation)
    threshold = training.losses.objective.decision_threshold(logits["real"], logits["fake"])
    numbers = {f"logit/{sort}": values.mean() for sort, values in logits.items()}
    for sort, values in logits.items():
        right = values < threshold if sort == "fake" else values > threshold
        numbers[f"accuracy/{sort}"] = right.to(training.dtype).mean()
    return dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))


def _logits(training: Training, images: Images) -> Tensor:
    count = _count(training, images)
    labels = images.labels[:count] if training.experiment.conditional and images.labels is not None else None
    pixels = from_uint8(images.pixels[:count], training.dtype)
    return discriminator_logits(training.losses, training.discriminator, pixels, labels=labels)


def _count(training: Training, images: Images) -> int:
    """Return the number of images to evaluate, which is a multiple of the pack size."""
    count = min(LOGIT_IMAGES, len(images))
    return count - count % training.experiment.discriminator.pack
