"""What D and G minimise in an experiment: objective, penalties, augmentation and packing put together.

Pure functions of the networks and of what is handed in, so that they serve one training and, under
`torch.func.vmap`, many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from harness.experiment import PENALTIES, Experiment
from harness.gan.augment import augment
from harness.gan.objectives import OBJECTIVES
from harness.gan.penalties import logits_and_input_gradients, penalty
from harness.gan.randomness import StepNoise

Network = Callable[..., Tensor]


class Losses:
    """The losses of an experiment; dtype: what logits are turned to before they are compared."""

    def __init__(self, experiment: Experiment, dtype: torch.dtype) -> None:
        options = experiment.objective
        self.objective = OBJECTIVES[options.kind](options.label_smoothing)
        self.penalties = options.penalties
        self.paired = self.objective.paired or "gradient_penalty" in self.penalties  # one class for a pair of images
        self._pack, self._augment, self._dtype = experiment.discriminator.pack, experiment.augment, dtype

    def weights(self, experiment: Experiment) -> Tensor:
        """Of the penalties of an experiment like this one, in the order of PENALTIES."""
        return torch.tensor([getattr(experiment.objective, name) for name in PENALTIES], dtype=self._dtype)

    def discriminator(
        self,
        generator: Network,
        discriminator: Network,
        real: Tensor,
        labels: Tensor | None,
        draws: StepNoise,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """D's loss on real images [B, C, H, W] and generated ones, and its penalty; nothing flows back into G."""
        with torch.no_grad():
            fake = generator(draws.discriminator_noise).to(real.dtype)
        images, asked = torch.cat([real, fake]), _joined(labels, draws.discriminator_labels)
        distortions = draws.discriminator_augment
        judge = partial(
            self.logits, discriminator, masks=draws.discriminator_masks, labels=asked, distortions=distortions
        )
        if {"r1", "r2"} & set(self.penalties):
            logits, input_gradients = logits_and_input_gradients(judge, images)
        else:
            logits, input_gradients = judge(images), None
        loss = self.objective.discriminator(*logits.chunk(2))
        of_real = None if distortions is None else distortions[: len(real)]
        judge_as_real = partial(self.logits, discriminator, labels=labels, distortions=of_real)
        return loss, penalty(self.penalties, weights, real, fake, draws, input_gradients, judge_as_real)

    def generator(
        self, generator: Network, discriminator: Network, real: Tensor, labels: Tensor | None, draws: StepNoise
    ) -> Tensor:
        """G's loss, on noise of its own; beside the real images, where the objective compares."""
        images, asked = generator(draws.generator_noise), draws.generator_labels
        compared = self.objective.paired
        if compared:
            images, asked = torch.cat([real, images.to(real.dtype)]), _joined(labels, asked)
        logits = self.logits(discriminator, images, draws.generator_masks, asked, draws.generator_augment)
        if not compared:
            return self.objective.generator(logits)
        of_real, of_fake = logits.chunk(2)
        return self.objective.generator(of_fake, of_real)

    def logits(
        self,
        discriminator: Network,
        images: Tensor,
        masks: Sequence[Tensor] = (),
        labels: Tensor | None = None,
        distortions: Tensor | None = None,
    ) -> Tensor:
        """Logits [N / pack] of images [N, C, H, W] in [-1, 1], as D gets to see them."""
        seen, pack = augment(images, distortions, self._augment), self._pack
        if pack > 1:
            seen = seen.reshape(-1, pack * seen.shape[1], *seen.shape[2:])
        return discriminator(seen, masks, labels).to(self._dtype)


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])
