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
from harness.gan.losses import Losses
from harness.gan.networks import build, can_be_recorded, mask_shapes
from harness.gan.networks.layers import preserve_buffers
from harness.gan.networks.spectral import SpectralNorms
from harness.gan.randomness import NoiseShape, Randomness, StepNoise, concat_onehot, sample_noise, stream_generator

LOGIT_IMAGES = 1_000  # images of each sort whose logits are looked at when an epoch ends
SAMPLE_BATCH = 1_000

# What is summed over the steps of an epoch; losses as their objective has them, norms of gradients over all weights.
TOTALS = ("loss/discriminator", "loss/generator", "gradient/discriminator", "gradient/generator", "loss/penalty")


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
        capture: on a GPU, record the step as a CUDA graph; without it, and where networks of the user's own cannot be
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
        some = None if held_out is None else held_out.take(torch.arange(min(LOGIT_IMAGES, len(held_out))))
        self.held_out = None if some is None else some.to(self.device)
        generator, discriminator = build(experiment, images)
        self.capture = (
            capture and can_capture(self.device) and can_be_recorded(experiment, images, generator, discriminator)
        )
        self.generator = self._to_device(generator, experiment.generator.kind)
        self.discriminator = self._to_device(discriminator, experiment.discriminator.kind)
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if experiment.train.ema_half_life else None
        self.losses = Losses(experiment, dtype)
        self.penalty_weights = self.losses.weights(experiment).to(self.device)
        self.spectral_norms = SpectralNorms(self.discriminator)
        options = experiment.optimizer
        self.generator_optimizer = self._adam(self.generator, options.lr)
        self.discriminator_optimizer = self._adam(self.discriminator, options.discriminator_lr or options.lr)
        self.labels = self.images.labels if experiment.conditional else None
        self.epoch = 0
        self.steps = 0
        self.images_per_step = needed
        self.steps_per_epoch = len(images) // needed
        self.draws = Randomness(
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
                augment=experiment.augment.on,
                blend=bool(experiment.objective.gradient_penalty or experiment.objective.dragan),
                jitter=images.shape if experiment.objective.dragan else (),
                dtype=torch.bfloat16 if experiment.train.precision == "bf16" else dtype,
            ),
            labels=self.labels,
            paired=self.losses.paired,
            device=self.device,
        )
        self._totals = torch.zeros(len(TOTALS), device=self.device, dtype=dtype)
        self._work: Callable[[], None] | None = None

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

    # One step ----------------------------------------------------------------------------------------------------

    def step(self, real: Tensor, draws: StepNoise) -> Tensor:
        """Update D once, whatever `train.discriminator_steps` is, update G, keep the average.

        `real` is uint8 [B, C, H, W]. Returns `TOTALS` of the step.
        """
        self.schedule()
        labels = None if self.labels is None else self.labels[draws.indices]
        numbers = self.update_discriminator(real, labels, draws) + self.update_generator(real, labels, draws)
        self.update_average()
        return numbers

    def _draw_and_update(self) -> None:
        """The part of a step that is the same every time: on a GPU it is recorded once, and replayed."""
        several = self.experiment.train.discriminator_steps
        for _ in range(several):
            draws = self.draws.step()
            real = self.images.pixels[draws.indices]
            labels = None if self.labels is None else self.labels[draws.indices]
            self._totals += self.update_discriminator(real, labels, draws) / several
        self._totals += self.update_generator(real, labels, draws)

    def update_discriminator(self, real: Tensor, labels: Tensor | None, draws: StepNoise) -> Tensor:
        """Returns its part of `TOTALS`; the rest is 0."""
        inputs = from_uint8(real, self.dtype), labels, draws
        with self.autocast():
            loss, penalty = self.losses.discriminator(self.generator, self.discriminator, *inputs, self.penalty_weights)
        norm = optimizer_step(self.discriminator_optimizer, loss + penalty)
        self.spectral_norms.power_iteration()
        nothing = torch.zeros_like(norm)
        return torch.stack([loss.detach(), nothing, norm, nothing, penalty.detach()])

    def update_generator(self, real: Tensor, labels: Tensor | None, draws: StepNoise) -> Tensor:
        """Through the D just updated, whose weights get no gradient. Returns its part of `TOTALS`; the rest is 0."""
        inputs = from_uint8(real, self.dtype), labels, draws
        with self.autocast():
            loss = self.losses.generator(self.generator, self.discriminator, *inputs)
        norm = optimizer_step(self.generator_optimizer, loss)
        nothing = torch.zeros_like(norm)
        return torch.stack([nothing, loss.detach(), nothing, norm, nothing])

    def schedule(self) -> None:
        """Set the learning rates of this step; they are a function of the steps done, so nothing has to be stored."""
        options = self.experiment.optimizer
        if options.schedule == "constant":
            return
        share_done = self.steps / (self.experiment.train.epochs * self.steps_per_epoch)
        share_left = 1 - share_done if options.schedule == "linear" else (1 + math.cos(math.pi * share_done)) / 2
        _set_lr(self.generator_optimizer, options.lr * share_left)
        _set_lr(self.discriminator_optimizer, (options.discriminator_lr or options.lr) * share_left)

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average towards the generator; a difference halves in `ema_half_life` images.

        While few images were seen the half-life is 5 % of them, so that the first weights are soon forgotten
        (Karras et al. 2022, EDM, training_loop.py).
        """
        if self.average is None:
            return
        batch = self.images_per_step
        half_life = min(self.experiment.train.ema_half_life or 0, 0.05 * (self.steps + 1) * batch)
        weights: list[Tensor] = list(self.average.parameters())
        targets: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(weights, targets, 1 - 0.5 ** (batch / half_life))
        for buffer, target in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            buffer.copy_(target)

    def autocast(self) -> torch.autocast:
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
        if self._work is None:
            self._work = CudaGraphStep(self._draw_and_update, self) if self.capture else self._draw_and_update
        self.schedule()
        self._work()
        self.update_average()
        self.steps += 1

    def begin_epoch(self) -> None:
        self.draws.begin(self.epoch + 1)
        self._totals.zero_()

    def end_epoch(self, totals: Sequence[float], seconds: float) -> Report:
        """The report of an epoch that took so many seconds; totals: the sums of what `step` returned."""
        self.epoch += 1
        seen = self.steps_per_epoch * self.images_per_step
        means = {name: total / self.steps_per_epoch for name, total in zip(TOTALS, totals, strict=True)}
        if not self.losses.penalties:
            del means["loss/penalty"]
        metrics = {
            **means,
            **self.evaluate_logits(),
            "speed/images_per_second": seen / seconds,
        }
        return Report(self.epoch, metrics, seconds, self._diverged(metrics))

    def forget_recording(self) -> None:
        """Record the step anew: what it works on lies elsewhere now."""
        self._work = None

    def tensors(self) -> list[Tensor]:
        """What a step changes, the average left out, which is kept by the host's count of steps."""
        moments = [
            value
            for optimizer in (self.generator_optimizer, self.discriminator_optimizer)
            for state in optimizer.state.values()
            for value in state.values()
        ]
        networks = (self.generator, self.discriminator)
        weights = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
        return [*weights, *moments, *self.draws.tensors(), self._totals]

    def generators(self) -> tuple[torch.Generator, ...]:
        """What a step draws from."""
        return self.draws.generators

    @torch.no_grad()
    def evaluate_logits(self) -> dict[str, float]:
        """D's mean logits, and its share on the right side, of 1,000 images of each sort: real, generated, held out."""
        count = self._logit_count(self.images)
        inputs = sample_inputs(self.experiment, self.images, count, columns=False).to(self.device, self.dtype)
        asked = inputs[:, -self.images.classes :].argmax(1) if self.experiment.conditional else None
        with self.autocast(), preserve_buffers(self.generator), preserve_buffers(self.discriminator):
            logits = {"real": self._logits(self.images)}
            logits["fake"] = self.losses.logits(self.discriminator, self.generator(inputs), labels=asked)
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
        told = images.labels if self.experiment.conditional else None
        pixels = from_uint8(images.pixels[:count], self.dtype)
        return self.losses.logits(self.discriminator, pixels, labels=None if told is None else told[:count])

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
        """The generator that samples are drawn with: the average, where one is kept."""
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
    """Its state; what lies in memory shared with other members of a population is copied, lest theirs be saved too."""
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
