"""The training core: an iterator of reports, one an epoch.

    for report in Training(experiment, images):
        ...

Whoever loops decides what happens between epochs. The core knows no tracker, no trial and no display.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan.draws import StepDraws, epoch_draws, sample_noise, stream_generator
from harness.gan.networks import build
from harness.gan.objectives import OBJECTIVES

PROBES = 1_000  # images of each sort whose logits are looked at when an epoch ends
SAMPLE_BATCH = 1_000


@dataclass(frozen=True)
class Report:
    """One epoch's numbers.

    epoch: counted from 1.
    metrics: by the names of MLflow's charts; losses in nats, means over the epoch.
    seconds: training alone.
    diverged: what became NaN or infinite, or None.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    diverged: str | None = None


class Training:
    """A generator and a discriminator in training on one device.

    epoch: epochs done. steps: steps done; it grows while an epoch runs, for a display to read.
    """

    def __init__(self, experiment: Experiment, images: Images, *, dtype: torch.dtype = torch.float32) -> None:
        """`experiment` has its device and precision resolved; `dtype` is that of the weights."""
        batch = experiment.train.batch_size
        if len(images) < batch:
            raise HarnessError(
                f"{images.name} has {len(images)} images to train on, less than one batch "
                f"(train.batch_size {batch}): take a smaller batch"
            )
        self.experiment = experiment
        self.device = torch.device(experiment.train.device)
        self.dtype = dtype
        self.images = images.to(self.device)
        generator, discriminator = build(experiment, images)
        self.generator = generator.to(self.device, dtype)
        self.discriminator = discriminator.to(self.device, dtype)
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if experiment.train.ema_half_life else None
        self.mask_shapes: Sequence[tuple[int, ...]] = discriminator.mask_shapes  # type: ignore[assignment]
        self.objective = OBJECTIVES[experiment.objective.kind]()
        options = experiment.optimizer
        self.generator_optimizer = self._adam(self.generator, options.lr)
        self.discriminator_optimizer = self._adam(self.discriminator, options.discriminator_lr or options.lr)
        self.labels = self.images.labels if experiment.conditional else None
        self.epoch = 0
        self.steps = 0
        self.steps_per_epoch = len(images) // batch

    def _adam(self, network: nn.Module, lr: float) -> torch.optim.Adam:
        options = self.experiment.optimizer
        return torch.optim.Adam(network.parameters(), lr=lr, betas=options.betas, eps=options.eps, fused=True)

    # One step ----------------------------------------------------------------------------------------------------

    def step(self, real: Tensor, draws: StepDraws) -> Tensor:
        """Update D, update G, keep the average. `real` is uint8 [B, C, H, W].

        Returns [loss of D, loss of G, gradient norm of D, gradient norm of G], on the device.
        """
        self._schedule()
        labels = None if self.labels is None else self.labels[draws.indices]

        # Update D on real and generated images; nothing flows back into G.
        with torch.no_grad(), self._autocast():
            fake = self.generator(self._told(draws.discriminator_noise, draws.discriminator_labels))
        with self._autocast():
            real_logits = self.discriminator(from_uint8(real, self.dtype), draws.real_masks, labels)
            fake_logits = self.discriminator(fake, draws.fake_masks, draws.discriminator_labels)
        discriminator_loss = self.objective.discriminator(real_logits.to(self.dtype), fake_logits.to(self.dtype))
        discriminator_norm = _update(self.discriminator_optimizer, discriminator_loss)

        # Update G with fresh noise, through the D just updated, whose weights get no gradient.
        with self._autocast():
            fake = self.generator(self._told(draws.generator_noise, draws.generator_labels))
            fake_logits = self.discriminator(fake, draws.generator_masks, draws.generator_labels)
        generator_loss = self.objective.generator(fake_logits.to(self.dtype))
        generator_norm = _update(self.generator_optimizer, generator_loss)

        if self.average is not None:
            self._keep_average(self.average)
        return torch.stack([discriminator_loss.detach(), generator_loss.detach(), discriminator_norm, generator_norm])

    def _told(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """The generator's inputs: the noise [B, latent], with the one-hot label joined to it where there is one."""
        return noise if labels is None else torch.cat([noise, one_hot(labels, self.images.classes, noise.dtype)], dim=1)

    def _schedule(self) -> None:
        """Set the learning rates of this step; they are a function of the steps done, so nothing has to be stored."""
        options = self.experiment.optimizer
        if options.schedule == "constant":
            return
        share_left = 1 - self.steps / (self.experiment.train.epochs * self.steps_per_epoch)
        self.generator_optimizer.param_groups[0]["lr"] = options.lr * share_left
        self.discriminator_optimizer.param_groups[0]["lr"] = (options.discriminator_lr or options.lr) * share_left

    @torch.no_grad()
    def _keep_average(self, average: nn.Module) -> None:
        """Move the average towards the generator; a difference halves in `ema_half_life` images.

        While few images were seen the half-life is 5 % of them, so that the first weights are soon forgotten
        (Karras et al. 2022, EDM, training_loop.py).
        """
        batch = self.experiment.train.batch_size
        half_life = min(self.experiment.train.ema_half_life or 0, 0.05 * (self.steps + 1) * batch)
        weights, targets = _tensors(average), _tensors(self.generator)
        torch._foreach_lerp_(weights, targets, 1 - 0.5 ** (batch / half_life))
        for buffer, target in zip(average.buffers(), self.generator.buffers(), strict=True):
            buffer.copy_(target)

    def _autocast(self) -> torch.autocast:
        enabled = self.experiment.train.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    # One epoch ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Report]:
        while self.epoch < self.experiment.train.epochs:
            yield self.train_epoch()

    def train_epoch(self) -> Report:
        """One pass over the training images, in a new order."""
        started = time.perf_counter()
        totals = torch.zeros(4, device=self.device, dtype=self.dtype)
        for draws in self.draws(self.epoch + 1):
            totals += self.step(self.images.pixels[draws.indices], draws)
            self.steps += 1
        losses = (totals / self.steps_per_epoch).tolist()  # the host waits for the device here, once an epoch
        seconds = time.perf_counter() - started
        self.epoch += 1
        seen = self.steps_per_epoch * self.experiment.train.batch_size
        names = ("loss/discriminator", "loss/generator", "gradient/discriminator", "gradient/generator")
        metrics = {
            **dict(zip(names, losses, strict=True)),
            **self._probe(),
            "speed/images_per_second": seen / seconds,
        }
        return Report(self.epoch, metrics, seconds, self._diverged(metrics))

    def draws(self, epoch: int) -> Iterator[StepDraws]:
        """What an epoch (counted from 1) leaves to chance, step by step."""
        return epoch_draws(
            seed=self.experiment.train.seed,
            epoch=epoch,
            images=len(self.images),
            batch=self.experiment.train.batch_size,
            latent=self.experiment.generator.latent,
            mask_shapes=self.mask_shapes,
            dropout=self.experiment.discriminator.dropout,
            labels=self.labels,
            device=self.device,
            dtype=self.dtype,
        )

    @torch.no_grad()
    def _probe(self) -> dict[str, float]:
        """Mean logits, and the share on the right side, of 1,000 real and 1,000 generated images; dropout off."""
        count = min(PROBES, len(self.images))
        inputs = sample_inputs(self.experiment, self.images, count, columns=False).to(self.device, self.dtype)
        labels = None if self.labels is None else self.labels[:count]
        asked = None if self.labels is None else inputs[:, -self.images.classes :].argmax(1)
        with self._autocast():
            real = self.discriminator(from_uint8(self.images.pixels[:count], self.dtype), None, labels).to(self.dtype)
            fake = self.discriminator(self.generator(inputs), None, asked).to(self.dtype)
        numbers = torch.stack(
            [real.mean(), fake.mean(), (real > 0).to(self.dtype).mean(), (fake < 0).to(self.dtype).mean()]
        )
        return dict(zip(("logit/real", "logit/fake", "accuracy/real", "accuracy/fake"), numbers.tolist(), strict=True))

    def _diverged(self, metrics: Mapping[str, float]) -> str | None:
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            return f"{broken[0]} is {metrics[broken[0]]}"
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if not all(bool(torch.isfinite(weights).all()) for weights in network.parameters()):
                return f"the {name} has weights that are not finite"
        return None

    # Between epochs ----------------------------------------------------------------------------------------------

    @property
    def sampler(self) -> nn.Module:
        """The generator that samples are drawn with: the average, where one is kept."""
        return self.generator if self.average is None else self.average

    def sample(self, count: int) -> Tensor:
        """Images uint8 [count, C, H, W], on the CPU, from the same noise every time; a class a column of ten."""
        return generate(self.sampler, sample_inputs(self.experiment, self.images, count))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, besides the experiment and the images."""
        return {
            "epoch": self.epoch,
            "generator": self.generator.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        self.epoch = state["epoch"]
        self.steps = self.epoch * self.steps_per_epoch


def _tensors(network: nn.Module) -> list[Tensor]:
    return list(network.parameters())


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """One optimiser step on `loss`; gradients of its own weights only. Returns their global L2 norm."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    gradients = torch.autograd.grad(loss, weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimizer.step()
    return torch.nn.utils.get_total_norm(gradients)


def sample_inputs(
    experiment: Experiment, images: Images, count: int, *, seed: int | None = None, part: int = 0, columns: bool = True
) -> Tensor:
    """Inputs [count, latent (+ classes)] of the experiment's generator, for samples; `seed`: its own, or another.

    columns: a conditional generator is asked for the classes in turn, so that a grid shows one a column; else for
    classes drawn as often as they occur among `images`. part: see `sample_noise`.
    """
    seed = experiment.train.seed if seed is None else seed
    noise = sample_noise(seed, count, experiment.generator.latent, part)
    if not experiment.conditional or images.labels is None:
        return noise
    labels = torch.arange(count) % images.classes
    if not columns:
        drawn = torch.randint(len(images), (count,), generator=stream_generator(seed, "samples", -1 - part))
        labels = images.labels.cpu()[drawn]
    return torch.cat([noise, one_hot(labels, images.classes, noise.dtype)], dim=1)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """int64 [B] to [B, classes]."""
    return F.one_hot(labels, classes).to(dtype)


@torch.no_grad()
def generate(generator: nn.Module, inputs: Tensor) -> Tensor:
    """Images uint8 [N, C, H, W], on the CPU, for inputs [N, ...] from anywhere; in fp32, a thousand at a time."""
    weight = next(generator.parameters())
    was_training = generator.training
    generator.eval()
    batches = torch.split(inputs.to(weight.device, weight.dtype), SAMPLE_BATCH)
    images = torch.cat([to_uint8(generator(batch)).cpu() for batch in batches])
    generator.train(was_training)
    return images


def from_uint8(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bytes as the networks see them: in [-1, 1]."""
    return pixels.to(dtype) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as bytes, rounded and clamped; NaN becomes mid-grey."""
    return ((images.float() + 1) * 127.5).nan_to_num(nan=127.5).round().clamp(0, 255).to(torch.uint8)
