"""The training step of a GAN: update D, update G, move the average of G's weights.

There is one step. The loop over epochs runs it, a CUDA graph records it, and batched training runs it for K members at
once: then every tensor below has a leading axis [K, ...], which `Model.evaluate` maps over with `torch.func.vmap`.

Shapes: B images a batch, C x H x W an image. D returns one logit an image, positive for real.
The formulas of the adversarial losses are in objectives.py, those of the penalties in penalties.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from harness.experiment import PENALTIES, Experiment
from harness.gan.augment import augment
from harness.gan.objectives import OBJECTIVES
from harness.gan.penalties import (
    interpolate,
    logits_and_input_gradients,
    one_centered_penalty,
    perturb,
    zero_centered_penalty,
)
from harness.gan.step_noise import StepNoise

Network = Callable[..., Tensor]
T = TypeVar("T")


class StepStats(NamedTuple, Generic[T]):
    """The statistics of one step, as tensors [] or [K] on the device; or their means over many steps, as floats.

    Losses are in the units of their objective. Gradients are the global L2 norms over all weights of a network. With
    several updates of D a step, its numbers are their means.
    """

    discriminator_loss: T
    generator_loss: T
    discriminator_gradient: T
    generator_gradient: T
    penalty: T


class Model(Protocol):
    """The networks that a step trains: those of one training, or those of K trainings, stacked."""

    @property
    def discriminator_steps(self) -> int:
        """Updates of D for one of G."""
        ...

    @property
    def penalty_weights(self) -> Tensor:
        """Weights of the penalties, [4] or [K, 4], in the order of PENALTIES."""
        ...

    def real_images(self, noise: StepNoise) -> tuple[Tensor, Tensor | None]:
        """Return the real images, [B, C, H, W] in [-1, 1], and their labels, [B]."""
        ...

    def evaluate(self, loss: Callable[..., Any], *inputs: object) -> Any:
        """Return loss(config, G, D, *inputs)."""
        ...

    def update_discriminator(self, loss: Tensor) -> Tensor:
        """Take one optimizer step of D and return the global L2 norm of its gradient."""
        ...

    def update_generator(self, loss: Tensor) -> Tensor:
        """Take one optimizer step of G and return the global L2 norm of its gradient."""
        ...

    def update_average(self) -> None:
        """Move the average of G's weights towards them."""
        ...


def training_step(model: Model, sample_noise: Callable[[], StepNoise]) -> StepStats[Tensor]:
    """Train D and G once. `sample_noise` returns all randomness of one update. The host never waits for the device."""
    # Update D, `discriminator_steps` times for one update of G, on new images and new noise each time.
    d_losses, penalties, d_norms = [], [], []
    for _ in range(model.discriminator_steps):
        noise = sample_noise()
        real, labels = model.real_images(noise)  # [B, C, H, W], [B]
        d_loss, penalty = model.evaluate(discriminator_loss, real, labels, noise, model.penalty_weights)
        d_norms.append(model.update_discriminator(d_loss + penalty))
        d_losses.append(d_loss.detach())
        penalties.append(penalty.detach())

    # Update G through the updated D, with the last real images.
    g_loss = model.evaluate(generator_loss, real, labels, noise)
    g_norm = model.update_generator(g_loss)

    # Update the moving average of G's weights, which generates the samples.
    model.update_average()
    return StepStats(_mean(d_losses), g_loss.detach(), _mean(d_norms), g_norm, _mean(penalties))


def discriminator_loss(
    config: LossConfig,
    generator: Network,
    discriminator: Network,
    real: Tensor,
    labels: Tensor | None,
    noise: StepNoise,
    penalty_weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the adversarial loss of D and its penalty, [] each. The optimizer minimises their sum."""
    # Generate as many images as there are real ones. No gradient reaches G.
    with torch.no_grad():
        fake = generator(noise.discriminator_noise).to(real.dtype)  # [B, C, H, W]

    # One pass of D over real and generated images: faster than two.
    images = torch.cat([real, fake])  # [2B, C, H, W]
    d = partial(
        discriminator_logits,
        config,
        discriminator,
        masks=noise.discriminator_masks,
        labels=_concat(labels, noise.discriminator_labels),
        distortions=noise.discriminator_augment,
    )
    input_gradients = None
    if "r1" in config.penalties or "r2" in config.penalties:
        logits, input_gradients = logits_and_input_gradients(d, images)  # [2B], [2B, C*H*W]
    else:
        logits = d(images)
    real_logits, fake_logits = logits.chunk(2)  # [B] each

    # For example -log D(real) - log(1 - D(fake)).
    adversarial = config.objective.discriminator(real_logits, fake_logits)

    # Penalties at other points use the labels and distortions of the real images, and no dropout.
    d_as_real = partial(
        discriminator_logits,
        config,
        discriminator,
        labels=labels,
        distortions=None if noise.discriminator_augment is None else noise.discriminator_augment[: len(real)],
    )
    penalty = gradient_penalties(config.penalties, penalty_weights, real, fake, noise, input_gradients, d_as_real)
    return adversarial, penalty


def gradient_penalties(
    enabled: Sequence[str],
    weights: Tensor,
    real: Tensor,
    fake: Tensor,
    noise: StepNoise,
    input_gradients: Tensor | None,
    d: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the weighted sum of the enabled penalties, [].

    Args:
        enabled: Names of the penalties.
        weights: [4], in the order of PENALTIES.
        real: Real images [B, C, H, W].
        fake: Generated images [B, C, H, W].
        noise: The noise of the step.
        input_gradients: [2B, C*H*W] of D at the real images and then at the generated ones. R1 and R2 need them.
        d: Maps images to logits.
    """
    weight = dict(zip(PENALTIES, weights.unbind(), strict=True))
    total = torch.zeros_like(weights[0])
    if "gradient_penalty" in enabled:  # E (|grad D| - 1)^2 between real and generated images
        points = interpolate(real, fake, _present(noise.blend))
        total = total + weight["gradient_penalty"] * one_centered_penalty(logits_and_input_gradients(d, points)[1])
    if "dragan" in enabled:  # the same around real images
        points = interpolate(real, perturb(real, _present(noise.jitter)), _present(noise.blend))
        total = total + weight["dragan"] * one_centered_penalty(logits_and_input_gradients(d, points)[1])
    if "r1" in enabled:  # E |grad D|^2 / 2 at real images
        total = total + weight["r1"] * zero_centered_penalty(_present(input_gradients).chunk(2)[0])
    if "r2" in enabled:  # the same at generated images
        total = total + weight["r2"] * zero_centered_penalty(_present(input_gradients).chunk(2)[1])
    return total


def generator_loss(
    config: LossConfig,
    generator: Network,
    discriminator: Network,
    real: Tensor,
    labels: Tensor | None,
    noise: StepNoise,
) -> Tensor:
    """Return the loss of G, [], for example -log D(G(z)). Its noise is not that of the update of D."""
    fake = generator(noise.generator_noise)  # [B, C, H, W]
    d = partial(
        discriminator_logits,
        config,
        discriminator,
        masks=noise.generator_masks,
        distortions=noise.generator_augment,
    )
    if not config.objective.paired:
        return config.objective.generator(d(fake, labels=noise.generator_labels))

    # A relativistic loss compares each generated image with a real one.
    images = torch.cat([real, fake.to(real.dtype)])  # [2B, C, H, W]
    real_logits, fake_logits = d(images, labels=_concat(labels, noise.generator_labels)).chunk(2)
    return config.objective.generator(fake_logits, real_logits)


def discriminator_logits(
    config: LossConfig,
    discriminator: Network,
    images: Tensor,
    masks: Sequence[Tensor] = (),
    labels: Tensor | None = None,
    distortions: Tensor | None = None,
) -> Tensor:
    """Return logits [N / pack] of images [N, C, H, W], which are augmented (DiffAugment) and packed (PacGAN)."""
    images = augment(images, distortions, config.augment)
    if config.pack > 1:
        images = images.reshape(-1, config.pack * images.shape[1], *images.shape[2:])
    return discriminator(images, masks, labels).to(config.dtype)


class LossConfig:
    """The configuration of the losses of an experiment.

    Attributes:
        objective: The adversarial losses.
        penalties: Names of the enabled penalties.
        paired: A generated image gets the class of the real image that it is compared with.
        pack: Images per pack (PacGAN).
        augment: Strength of the augmentations.
        dtype: Type of the logits in the losses.
    """

    def __init__(self, experiment: Experiment, dtype: torch.dtype) -> None:
        options = experiment.objective
        self.objective = OBJECTIVES[options.kind](options.label_smoothing)
        self.penalties = options.penalties
        self.paired = self.objective.paired or "gradient_penalty" in self.penalties
        self.pack, self.augment, self.dtype = experiment.discriminator.pack, experiment.augment, dtype

    def penalty_weights(self, experiment: Experiment) -> Tensor:
        """Return the weights [4] of the penalties of an experiment, in the order of PENALTIES."""
        return torch.tensor([getattr(experiment.objective, name) for name in PENALTIES], dtype=self.dtype)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(0)


def _concat(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError("a penalty lacks the noise or the gradients that it needs")
    return tensor
