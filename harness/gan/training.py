"""The training core: an iterator of reports, one an epoch.

    for report in Training(experiment, images): ...

Whoever loops decides what happens between epochs. The core knows no tracker, no trial and no display.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.data import Images
from harness.experiment import Experiment
from harness.gan.batch_images import check_image_count, images_per_step
from harness.gan.cuda_graph import CudaGraphStep, can_capture
from harness.gan.logits import LOGIT_IMAGES, evaluate_logits
from harness.gan.networks import build, can_be_recorded, mask_shapes
from harness.gan.networks.spectral import SpectralNorms
from harness.gan.optimizers import SCHEDULES, backward, build_adam, load_moments, moments_of, set_lr, unshared_state
from harness.gan.randomness import Randomness
from harness.gan.report import Report, epoch_metrics, find_divergence
from harness.gan.sampling import from_uint8, generate, sample_inputs
from harness.gan.scheduled_values import ScheduledValues
from harness.gan.step import LossConfig, StepStats, training_step
from harness.gan.step_noise import StepNoise, noise_shape


class Training:
    """A generator and a discriminator in training on one device.

    Attributes:
        epoch: epochs done.
        schedule: the values that change between epochs.
        steps: steps done, in all epochs; it grows while an epoch runs, for a display to read.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: Images,
        validation: Images | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        capture: bool = True,
    ) -> None:
        """`experiment` has its device and precision resolved; `dtype` is that of the weights.

        validation: images that nothing is trained on; D's logits of them are charted beside the others.
        capture: on a GPU, record the step as a CUDA graph; without it, and where custom networks cannot be
        recorded, every operation is launched by itself.
        """
        check_image_count(experiment, images)
        self.experiment, self.dtype, self.device = experiment, dtype, torch.device(experiment.train.device)
        self.schedule = ScheduledValues(experiment)
        first = self.schedule.current  # the values of the first epoch
        self.images = images.to(self.device)
        some = None if validation is None else validation.index_select(torch.arange(min(LOGIT_IMAGES, len(validation))))
        self.validation = None if some is None else some.to(self.device)
        self.labels = self.images.labels if experiment.conditional else None

        generator, discriminator = build(experiment, images)
        can_be_captured = can_capture(self.device) and can_be_recorded(experiment, images, generator, discriminator)
        self.capture = capture and can_be_captured
        self.generator = self._to_device(generator, experiment.generator.kind)
        self.discriminator = self._to_device(discriminator, experiment.discriminator.kind)
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if experiment.train.ema_half_life else None
        self.spectral_norms = SpectralNorms(self.discriminator)

        self.losses = LossConfig(experiment, dtype)
        self.penalty_weights = self.losses.penalty_weights(first).to(self.device)
        self.discriminator_steps = experiment.train.discriminator_steps
        options, adam = first.optimizer, partial(build_adam, device=self.device, capturable=self.capture)
        self.generator_optimizer = adam(self.generator, options, options.lr)
        self.discriminator_optimizer = adam(self.discriminator, options, options.discriminator_lr or options.lr)

        self.epoch = self.steps = 0
        self.images_per_step = images_per_step(experiment)
        self.steps_per_epoch = len(images) // self.images_per_step
        self.randomness = Randomness(
            seed=experiment.train.seed,
            images=len(images),
            shape=noise_shape(first, images, mask_shapes(discriminator), self.losses.objective.paired, dtype),
            labels=self.labels,
            paired=self.losses.paired,
            device=self.device,
        )
        self._totals = torch.zeros(len(StepStats._fields), device=self.device, dtype=dtype)
        self._average_rate = torch.zeros((), device=self.device, dtype=dtype)
        self._has_begun, self._seconds, self._timed_steps = False, 0.0, 0  # of the epoch that is trained now
        self._restored_steps = 0  # of an epoch that `load_state_dict` has restored in its middle
        self._step: Callable[[], None] | None = None  # `_add_step`, or its CUDA graph

    def _to_device(self, network: nn.Module, kind: str) -> nn.Module:
        network = network.to(self.device, self.dtype)
        # Convolutions are faster with the channels last. A custom network may take views that this would break.
        return network if ":" in kind else network.to(memory_format=torch.channels_last)

    # What the training step works with (see `harness.gan.step.Model`) ----------------------------------------------

    def real_images(self, noise: StepNoise) -> tuple[Tensor, Tensor | None]:
        """The real images of a step, [B, C, H, W] in [-1, 1], and their labels, [B], in a conditional experiment."""
        labels = None if self.labels is None else self.labels[noise.indices]
        return from_uint8(self.images.pixels[noise.indices], self.dtype), labels

    def evaluate(self, loss: Callable[..., Any], *inputs: object) -> Any:
        """A loss of this training's networks, in its precision."""
        with self.autocast():
            return loss(self.losses, self.generator, self.discriminator, *inputs)

    def update_discriminator(self, loss: Tensor) -> Tensor:
        """Take one optimizer step. Returns the gradient's global L2 norm, []."""
        norm = backward(self.discriminator_optimizer, loss)
        self.discriminator_optimizer.step()
        self.spectral_norms.power_iteration()
        return norm

    def update_generator(self, loss: Tensor) -> Tensor:
        """Take one optimizer step; the loss goes through D, whose weights get no gradient. Returns the norm, []."""
        norm = backward(self.generator_optimizer, loss)
        self.generator_optimizer.step()
        return norm

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average of G's weights towards them; buffers are copied."""
        if self.average is None:
            return
        for average, weight in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            average.lerp_(weight, self._average_rate)
        for buffer, target in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            buffer.copy_(target)

    def set_schedule(self) -> None:
        """Set the learning rates and the rate of the average: functions of the steps done, so nothing is stored.

        A difference between average and weights halves in `ema_half_life` images. While few images were seen, the
        half-life is 5 % of them: the first weights are soon forgotten (Karras et al. 2022, EDM, training_loop.py).
        """
        kind, batch = self.experiment.optimizer.schedule, self.images_per_step
        if kind != "constant":
            self._set_lr(SCHEDULES[kind](self.steps / (self.experiment.train.epochs * self.steps_per_epoch)))
        if self.average is not None:
            half_life = min(self.schedule.current.train.ema_half_life or 0, 0.05 * (self.steps + 1) * batch)
            self._average_rate.fill_(1 - 0.5 ** (batch / half_life))

    def _set_lr(self, factor: float) -> None:
        options = self.schedule.current.optimizer
        set_lr(self.generator_optimizer, options.lr * factor)
        set_lr(self.discriminator_optimizer, (options.discriminator_lr or options.lr) * factor)

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass: bf16 if the experiment asks for it."""
        # Without the cache, which holds casts of weights from one replay of a CUDA graph to the next.
        enabled = self.experiment.train.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)

    # One epoch ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Training:
        return self

    def __next__(self) -> Report:
        if self.epoch >= self.experiment.train.epochs:
            raise StopIteration
        return self.train_epoch()

    def train_epoch(self) -> Report:
        """Train one pass over the training images, in a new order, or the rest of the pass that has begun."""
        report = self.train_steps(self.steps_per_epoch)
        assert report is not None
        return report

    def train_steps(self, count: int) -> Report | None:
        """Train up to `count` steps of an epoch.

        Returns:
            The report of the epoch if it has ended; None in the middle of it, where `state_dict` can be saved, too.
        """
        started = time.perf_counter()
        if not self._has_begun:
            self.begin_epoch()
        count = min(count, self.steps_per_epoch - self.steps_in_epoch)
        for _ in range(count):
            self.train_step()
        totals = self._totals.tolist()  # the host waits for the device here, once an epoch
        self._seconds += time.perf_counter() - started
        self._timed_steps += count
        if self.steps_in_epoch < self.steps_per_epoch:
            return None
        return self.end_epoch(totals, self._seconds * self.steps_per_epoch / self._timed_steps)

    def train_step(self) -> None:
        """The next step of an epoch that has begun. The host does not wait for the device."""
        if self._step is None:
            self._step = CudaGraphStep(self._add_step, self) if self.capture else self._add_step
        self.set_schedule()
        self._step()
        self.steps += 1

    def _add_step(self) -> None:
        """Train one step and add its numbers to the epoch's. It is the same every time: a CUDA graph can record it."""
        self._totals += torch.stack(training_step(self, self.randomness.step))

    @property
    def steps_in_epoch(self) -> int:
        """Steps done of the epoch that is trained now; 0 between epochs."""
        return self.steps - self.epoch * self.steps_per_epoch

    def _apply_schedule(self) -> None:
        """Set the scheduled values of the next epoch."""
        if not self.schedule.begin(self.epoch + 1):
            return
        current = self.schedule.current
        self._set_lr(1.0)
        self.penalty_weights.copy_(self.losses.penalty_weights(current))
        self.randomness.set_dropout(current.discriminator.dropout)
        self.forget_recording()  # a recorded step has the old dropout rate

    def begin_epoch(self) -> None:
        """Seed and shuffle the next epoch, and reset its statistics; or continue the one that was restored."""
        self._apply_schedule()
        self.randomness.begin(self.epoch + 1, skip=self._restored_steps * self.discriminator_steps)
        if not self._restored_steps:
            self._totals.zero_()
        self._restored_steps = 0
        self._has_begun, self._seconds, self._timed_steps = True, 0.0, 0

    def end_epoch(self, totals: Sequence[float], seconds: float) -> Report:
        """The report of an epoch that took `seconds`; totals: the sums of its steps, in the order of `StepStats`."""
        self.epoch += 1
        self._has_begun = False
        mean: StepStats[float] = StepStats(*(total / self.steps_per_epoch for total in totals))
        logits = evaluate_logits(self)
        images_per_second = self.steps_per_epoch * self.images_per_step / seconds
        metrics = epoch_metrics(mean, logits, images_per_second, penalty=bool(self.losses.penalties))
        metrics |= self.schedule.metrics(self.epoch)
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        return Report(self.epoch, metrics, seconds, find_divergence(metrics, networks))

    def forget_recording(self) -> None:
        """Record the CUDA graph again at the next step: its tensors were replaced."""
        self._step = None

    def tensors(self) -> list[Tensor]:
        """What a step changes."""
        moments = [*moments_of(self.generator_optimizer), *moments_of(self.discriminator_optimizer)]
        networks = (self.generator, self.discriminator, *([] if self.average is None else [self.average]))
        weights = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
        return [*weights, *moments, *self.randomness.tensors(), self._totals]

    def generators(self) -> tuple[torch.Generator, ...]:
        """Return the random generators that a step uses."""
        return self.randomness.generators

    @property
    def generator_ema(self) -> nn.Module:
        """The generator that samples come from: the average of the weights, if there is one."""
        return self.generator if self.average is None else self.average

    def sample(self, count: int) -> Tensor:
        """Images uint8 [count, C, H, W], on the CPU, from the same noise every time; a class a column of ten."""
        return generate(self.generator_ema, sample_inputs(self.experiment, self.images, count))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, besides the experiment and the images."""
        return {
            "epoch": self.epoch,
            # In the middle of an epoch, also the sums of its steps so far.
            **({"steps": self.steps_in_epoch, "totals": self._totals.clone()} if self.steps_in_epoch else {}),
            "generator": unshared_state(self.generator),
            "average": None if self.average is None else unshared_state(self.average),
            "discriminator": unshared_state(self.discriminator),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            **self.schedule.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, on any device."""
        self.generator.load_state_dict(state["generator"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.discriminator.load_state_dict(state["discriminator"])
        load_moments(self.generator_optimizer, state["generator_optimizer"])
        load_moments(self.discriminator_optimizer, state["discriminator_optimizer"])
        self.forget_recording()  # it knows the old moments
        self.schedule.load(state)
        self.epoch = state["epoch"]
        self._restored_steps = state.get("steps", 0)
        self.steps = self.epoch * self.steps_per_epoch + self._restored_steps
        self._has_begun = False
        if self._restored_steps:
            self._totals.copy_(state["totals"])
