"""The training core: an iterator of reports, one an epoch.

    for report in Training(experiment, images):
        ...

Whoever loops decides what happens between epochs. The core knows no tracker, no trial and no display.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan.cuda_graph import CudaGraphStep, can_capture
from harness.gan.networks import build, can_be_recorded, mask_shapes
from harness.gan.networks.layers import preserve_buffers
from harness.gan.networks.spectral import SpectralNorms
from harness.gan.randomness import NoiseShape, Randomness, StepNoise, concat_onehot, sample_noise, stream_generator
from harness.gan.step import LossConfig, StepStats, discriminator_logits, training_step

LOGIT_IMAGES = 1_000  # images of each sort whose logits are computed when an epoch ends
SAMPLE_BATCH = 1_000

# Factor of the learning rates, by the share of the run's steps that are done.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


@dataclass(frozen=True)
class Report:
    """One epoch's numbers.

    epoch: counted from 1.
    metrics: by the names of MLflow's charts; losses as their objective has them, means over the epoch.
    seconds: training alone.
    diverged: what became NaN or infinite, or that no gradient is left to train with; None while all is well.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    diverged: str | None = None


class Training:
    """A generator and a discriminator in training on one device.

    epoch: epochs done. steps: steps done; it grows while an epoch runs, for a display to read.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: Images,
        held_out: Images | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        capture: bool = True,
    ) -> None:
        """`experiment` has its device and precision resolved; `dtype` is that of the weights.

        held_out: images that nothing is trained on; what D makes of them is charted beside the others.
        capture: on a GPU, record the step as a CUDA graph; without it, and where custom networks cannot be
        recorded, every operation is launched by itself.
        """
        batch = experiment.train.batch_size
        needed = batch * experiment.train.discriminator_steps
        if len(images) < needed:
            several = "" if needed == batch else f" for each of train.discriminator_steps {needed // batch}"
            raise HarnessError(
                f"{images.name} has {len(images)} images to train on, less than one batch "
                f"(train.batch_size {batch}){several}: take a smaller batch"
            )
        self.experiment = experiment
        self.device = torch.device(experiment.train.device)
        self.dtype = dtype
        self.images = images.to(self.device)
        some = None if held_out is None else held_out.index_select(torch.arange(min(LOGIT_IMAGES, len(held_out))))
        self.held_out = None if some is None else some.to(self.device)
        generator, discriminator = build(experiment, images)
        self.capture = (
            capture and can_capture(self.device) and can_be_recorded(experiment, images, generator, discriminator)
        )
        self.generator = self._to_device(generator, experiment.generator.kind)
        self.discriminator = self._to_device(discriminator, experiment.discriminator.kind)
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if experiment.train.ema_half_life else None
        self.losses = LossConfig(experiment, dtype)
        self.penalty_weights = self.losses.penalty_weights(experiment).to(self.device)
        self.discriminator_steps = experiment.train.discriminator_steps
        self.spectral_norms = SpectralNorms(self.discriminator)
        options = experiment.optimizer
        self.generator_optimizer = self._adam(self.generator, options.lr)
        self.discriminator_optimizer = self._adam(self.discriminator, options.discriminator_lr or options.lr)
        self.labels = self.images.labels if experiment.conditional else None
        self.epoch = 0
        self.steps = 0
        self.images_per_step = needed
        self.steps_per_epoch = len(images) // needed
        self.randomness = Randomness(
            seed=experiment.train.seed,
            images=len(images),
            shape=NoiseShape(
                latent=experiment.generator.latent,
                batch=batch,
                classes=images.classes if experiment.conditional else 0,
                masks=mask_shapes(discriminator),
                dropout=experiment.discriminator.dropout,
                pack=experiment.discriminator.pack,
                paired=self.losses.objective.paired,
                augment=experiment.augment.enabled,
                blend=bool(experiment.objective.gradient_penalty or experiment.objective.dragan),
                jitter=images.shape if experiment.objective.dragan else (),
                dtype=torch.bfloat16 if experiment.train.precision == "bf16" else dtype,
            ),
            labels=self.labels,
            paired=self.losses.paired,
            device=self.device,
        )
        self._totals = torch.zeros(len(StepStats._fields), device=self.device, dtype=dtype)
        self._average_rate = torch.zeros((), device=self.device, dtype=dtype)
        self._step: Callable[[], None] | None = None  # `_add_step`, or its CUDA graph

    def _to_device(self, network: nn.Module, kind: str) -> nn.Module:
        network = network.to(self.device, self.dtype)
        # Convolutions are faster with the channels last; other weights are left as they are. A network of the user's
        # own may take views that this would break.
        return network if ":" in kind else network.to(memory_format=torch.channels_last)

    def _adam(self, network: nn.Module, lr: float) -> torch.optim.Adam:
        options = self.experiment.optimizer
        on_device = can_capture(self.device)  # then the rate is read on the device, where a recorded step can see it
        return torch.optim.Adam(
            [weight for weight in network.parameters() if weight.requires_grad],
            lr=torch.tensor(lr, device=self.device) if on_device else lr,
            betas=options.betas,
            eps=options.eps,
            fused=True,
            capturable=self.capture,
        )

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
        norm = optimizer_step(self.discriminator_optimizer, loss)
        self.spectral_norms.power_iteration()
        return norm

    def update_generator(self, loss: Tensor) -> Tensor:
        """The same for G, through D, whose weights get no gradient."""
        return optimizer_step(self.generator_optimizer, loss)

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
        half-life is 5 % of them, so that the first weights are soon forgotten (Karras et al. 2022, EDM,
        training_loop.py).
        """
        options, batch = self.experiment.optimizer, self.images_per_step
        if options.schedule != "constant":
            done = self.steps / (self.experiment.train.epochs * self.steps_per_epoch)
            factor = SCHEDULES[options.schedule](done)
            _set_lr(self.generator_optimizer, options.lr * factor)
            _set_lr(self.discriminator_optimizer, (options.discriminator_lr or options.lr) * factor)
        if self.average is not None:
            half_life = min(self.experiment.train.ema_half_life or 0, 0.05 * (self.steps + 1) * batch)
            self._average_rate.fill_(1 - 0.5 ** (batch / half_life))

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass: bf16 if the experiment asks for it."""
        # Without the cache, which holds casts of weights from one replay of a CUDA graph to the next.
        enabled = self.experiment.train.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)

    # One epoch ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Report]:
        while self.epoch < self.experiment.train.epochs:
            yield self.train_epoch()

    def train_epoch(self) -> Report:
        """One pass over the training images, in a new order."""
        started = time.perf_counter()
        self.begin_epoch()
        for _ in range(self.steps_per_epoch):
            self.train_step()
        totals = self._totals.tolist()  # the host waits for the device here, once an epoch
        return self.end_epoch(totals, time.perf_counter() - started)

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

    def begin_epoch(self) -> None:
        """Seed and shuffle the next epoch, and reset its statistics."""
        self.randomness.begin(self.epoch + 1)
        self._totals.zero_()

    def end_epoch(self, totals: Sequence[float], seconds: float) -> Report:
        """The report of an epoch that took `seconds`; totals: the sums of its steps, in the order of `StepStats`."""
        self.epoch += 1
        mean: StepStats[float] = StepStats(*(total / self.steps_per_epoch for total in totals))
        metrics: dict[str, float] = {
            "loss/discriminator": mean.discriminator_loss,
            "loss/generator": mean.generator_loss,
            "gradient/discriminator": mean.discriminator_gradient,
            "gradient/generator": mean.generator_gradient,
            **({"loss/penalty": mean.penalty} if self.losses.penalties else {}),
            **self.evaluate_logits(),
            "speed/images_per_second": self.steps_per_epoch * self.images_per_step / seconds,
        }
        return Report(self.epoch, metrics, seconds, self._diverged(metrics))

    def forget_recording(self) -> None:
        """Record the CUDA graph again at the next step: its tensors were replaced."""
        self._step = None

    def tensors(self) -> list[Tensor]:
        """What a step changes."""
        moments = [
            value
            for optimizer in (self.generator_optimizer, self.discriminator_optimizer)
            for state in optimizer.state.values()
            for value in state.values()
        ]
        networks = (self.generator, self.discriminator, *([] if self.average is None else [self.average]))
        weights = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
        return [*weights, *moments, *self.randomness.tensors(), self._totals]

    def generators(self) -> tuple[torch.Generator, ...]:
        """Return the random generators that a step uses."""
        return self.randomness.generators

    @torch.no_grad()
    def evaluate_logits(self) -> dict[str, float]:
        """D's mean logits, and its share on the right side, of 1,000 images of each sort: real, generated, held out."""
        count = self._logit_count(self.images)
        inputs = sample_inputs(self.experiment, self.images, count, columns=False).to(self.device, self.dtype)
        asked = inputs[:, -self.images.classes :].argmax(1) if self.experiment.conditional else None
        with self.autocast(), preserve_buffers(self.generator), preserve_buffers(self.discriminator):
            logits = {"real": self._logits(self.images)}
            logits["fake"] = discriminator_logits(self.losses, self.discriminator, self.generator(inputs), labels=asked)
            if self.held_out is not None and self._logit_count(self.held_out):
                logits["held_out"] = self._logits(self.held_out)
        decision_threshold = self.losses.objective.decision_threshold(logits["real"], logits["fake"])
        numbers = {f"logit/{sort}": values.mean() for sort, values in logits.items()}
        for sort, values in logits.items():
            right = values < decision_threshold if sort == "fake" else values > decision_threshold
            numbers[f"accuracy/{sort}"] = right.to(self.dtype).mean()
        return dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))

    def _logits(self, images: Images) -> Tensor:
        """D's logits of the first of these images, dropout off."""
        count = self._logit_count(images)
        labels = images.labels if self.experiment.conditional else None
        pixels = from_uint8(images.pixels[:count], self.dtype)
        return discriminator_logits(
            self.losses, self.discriminator, pixels, labels=None if labels is None else labels[:count]
        )

    def _logit_count(self, images: Images) -> int:
        """How many of these images D is asked about: whole packs."""
        count = min(LOGIT_IMAGES, len(images))
        return count - count % self.experiment.discriminator.pack

    def _diverged(self, metrics: Mapping[str, float]) -> str | None:
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            return f"{broken[0]} is {metrics[broken[0]]}"
        if metrics["gradient/discriminator"] == metrics["gradient/generator"] == 0:
            return "every gradient of both networks is exactly 0, so nothing trains any more"
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if not all(bool(torch.isfinite(weights).all()) for weights in network.parameters()):
                return f"the {name} has weights that are not finite"
        return None

    # Between epochs ----------------------------------------------------------------------------------------------

    @property
    def generator_ema(self) -> nn.Module:
        """The generator that samples come from: the average of the weights, if there is one."""
        return self.generator if self.average is None else self.average

    def sample(self, count: int) -> Tensor:
        """Images uint8 [count, C, H, W], on the CPU, from the same noise every time; a class a column of ten."""
        return generate(self.generator_ema, sample_inputs(self.experiment, self.images, count))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, besides the experiment and the images."""
        return {
            "epoch": self.epoch,
            "generator": _weights(self.generator),
            "average": None if self.average is None else _weights(self.average),
            "discriminator": _weights(self.discriminator),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, on any device."""
        self.generator.load_state_dict(state["generator"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.discriminator.load_state_dict(state["discriminator"])
        for name in ("generator_optimizer", "discriminator_optimizer"):
            optimizer: torch.optim.Optimizer = getattr(self, name)
            # The moments alone, and copies of them, which PyTorch would train on in the state's own place: rates and
            # options are the experiment's, and where they lie is this device's matter.
            moments = copy.deepcopy(state[name]["state"])
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        self.forget_recording()  # it knows the old moments
        self.epoch = state["epoch"]
        self.steps = self.epoch * self.steps_per_epoch


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Its state; what lies in memory shared with other members of a batch is copied, lest theirs be saved too."""
    return {
        name: tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
        for name, tensor in network.state_dict().items()
    }


def optimizer_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """One optimiser step on `loss`; gradients of its own weights only. Returns their global L2 norm."""
    gradients = torch.autograd.grad(loss, _parameters(optimizer))
    apply_gradients(optimizer, gradients)
    return torch.nn.utils.get_total_norm(gradients)


def apply_gradients(optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor]) -> None:
    """One optimiser step; `gradients` in the order of the optimiser's weights."""
    for weight, gradient in zip(_parameters(optimizer), gradients, strict=True):
        # Fused Adam walks through memory, so a gradient must lie there as its weight does.
        alike = gradient.stride() == weight.stride()
        weight.grad = gradient if alike else torch.empty_like(weight).copy_(gradient)
    optimizer.step()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _set_lr(optimizer: torch.optim.Optimizer, rate: float) -> None:
    (group,) = optimizer.param_groups
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


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
    return concat_onehot(noise, labels, images.classes, experiment.generator.latent)


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
