"""Batched training: train several small experiments at once, as one program.

    for reports in BatchedTraining([Training(first, images), Training(second, images)]):
        for training, report in reports:
            ...

Each member remains a `Training` that is sampled, saved, resumed and scored alone. Only the training step is shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.errors import HarnessError, brief
from harness.experiment import PENALTIES, Experiment
from harness.gan.cuda_graph import CudaGraphStep
from harness.gan.report import Report
from harness.gan.stacked_network import StackedNetwork, Weights, pad_and_stack, stack_present, vmap_members
from harness.gan.step import StepStats, discriminator_loss, generator_loss, training_step
from harness.gan.step_noise import RandomNumbers, StepNoise, build_step_noise
from harness.gan.training import Training

# Fields that may differ between members. All other fields must be equal.
MEMBER_FIELDS = (
    "name",
    "description",
    "generator.latent",
    "discriminator.dropout",
    "train.epochs",
    "train.seed",
    "train.ema_half_life",
    *(f"objective.{name}" for name in PENALTIES),  # the weights; the same penalties must be enabled in all members
)
MEMBER_SECTIONS = ("optimizer.", "track.", "schedule.")


class BatchedTraining:
    """Trains K experiments with networks of the same shape at once. Each ends as it would alone, up to rounding.

    Weights get a leading member axis [K, ...], and the networks run under `torch.func.vmap`. Members may differ in
    learning rate, betas, dropout rate, latent size, seed and number of epochs.
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        """Stack the weights of the members. Raises HarnessError if they cannot be batched."""
        check_batchable(trainings)
        if len(trainings) > 1 and any(training.steps_in_epoch for training in trainings):
            raise HarnessError("a training that was resumed in the middle of an epoch cannot be batched with others")
        self.members = list(trainings)
        self.stack_weights()
        kinds = [section.kind for section in (trainings[0].experiment.generator, trainings[0].experiment.discriminator)]
        custom = [kind for kind in kinds if ":" in kind]
        if custom and len(trainings) > 1:
            self.check_vmap(" and ".join(custom))

    def __iter__(self) -> Iterator[list[tuple[Training, Report]]]:
        """Train epoch by epoch, and yield the reports of all members. Members leave after their last epoch."""
        while True:
            self.keep_only([member for member in self.members if member.epoch < member.experiment.train.epochs])
            if not self.members:
                return
            yield self.train_epoch()

    def keep_only(self, members: Sequence[Training]) -> None:
        """Continue with these members only, from the next epoch on. The others keep their state and release memory."""
        if list(members) == self.members:
            return
        for member in self.members:
            unshare_memory(member)
        self.members = list(members)
        self.stack_weights()

    def stack_weights(self) -> None:
        """Stack the present weights of the members. Call it after the weights of a member were loaded."""
        self._step: Callable[[], None] | None = None  # `_add_step`, or its CUDA graph
        members = self.members if len(self.members) > 1 else []  # a single member trains without batching
        self._generator = StackedNetwork([member.generator for member in members])
        self._discriminator = StackedNetwork([member.discriminator for member in members])
        if not members:
            return
        device, dtype = members[0].device, members[0].dtype
        for member in members:
            member.forget_recording()
        shapes = [member.randomness.shape for member in members]
        exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPU has no float64
        self._latents = torch.tensor([shape.latent for shape in shapes], device=device)
        self._rates = torch.tensor([shape.dropout for shape in shapes], device=device, dtype=exact)
        self.penalty_weights = torch.stack([member.penalty_weights for member in members])
        self._totals = torch.zeros(len(StepStats._fields), len(members), device=device, dtype=dtype)

    def train_epoch(self) -> list[tuple[Training, Report]]:
        """Train one epoch of every member."""
        if len(self.members) == 1:
            return [(self.members[0], self.members[0].train_epoch())]
        started = time.perf_counter()
        self.begin_epoch()
        for _ in range(self.steps_per_epoch):
            self.train_step()
        totals = self._totals.T.tolist()  # the host waits for the device here, once an epoch
        seconds = time.perf_counter() - started
        return [(member, member.end_epoch(each, seconds)) for member, each in zip(self.members, totals, strict=True)]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.members[0].device

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch, the same for all members."""
        return self.members[0].steps_per_epoch

    def begin_epoch(self) -> None:
        """Prepare the next epoch of two or more members."""
        self._totals.zero_()
        generators = len(self.generators())
        for member in self.members:
            member.begin_epoch()
        if len(self.generators()) != generators:  # dropout was switched on
            self._step = None
        # A schedule may have changed these. A recorded step reads them where they are.
        self._rates.copy_(self._rates.new_tensor([member.randomness.shape.dropout for member in self.members]))
        self.penalty_weights.copy_(torch.stack([member.penalty_weights for member in self.members]))

    def train_step(self) -> None:
        """Train one step of two or more members, after `begin_epoch`."""
        if self._step is None:
            self._step = CudaGraphStep(self._add_step, self) if self.members[0].capture else self._add_step
        for member in self.members:
            member.set_schedule()
        self._step()
        for member in self.members:
            member.steps += 1

    def _add_step(self) -> None:
        self._totals += torch.stack(training_step(self, self.step_noise))  # [5, K]

    # What the training step works with (see `harness.gan.step.Model`) ----------------------------------------------

    @property
    def discriminator_steps(self) -> int:
        """Updates of D for one of G, the same for all members."""
        return self.members[0].discriminator_steps

    def real_images(self, noise: StepNoise) -> tuple[Tensor, Tensor | None]:
        """Return real images [K, B, C, H, W] in [-1, 1], and labels [K, B]. All members share the training images."""
        return self.members[0].real_images(noise)

    def evaluate(self, loss: Callable[..., Any], *inputs: object) -> Any:
        """Return the loss of every member, [K]: the loss of one, mapped over the member axis of all tensors."""
        first = self.members[0]

        def of_member(g: Weights, d: Weights, *inputs: object) -> Any:
            return loss(first.losses, self._generator.network(g), self._discriminator.network(d), *inputs)

        with first.autocast():
            return vmap_members(of_member, self._generator.weights(), self._discriminator.weights(), *inputs)

    def update_discriminator(self, loss: Tensor) -> Tensor:
        """Take one optimizer step of every D on its loss [K]. Returns the norms of the gradients [K]."""
        norms = self._discriminator.optimizer_step(loss, [member.discriminator_optimizer for member in self.members])
        for member in self.members:
            member.spectral_norms.power_iteration()
        return norms

    def update_generator(self, loss: Tensor) -> Tensor:
        """Take one optimizer step of every G on its loss [K]. Returns the norms of the gradients [K]."""
        return self._generator.optimizer_step(loss, [member.generator_optimizer for member in self.members])

    def update_average(self) -> None:
        """Update the moving average of every generator."""
        for member in self.members:
            member.update_average()

    def step_noise(self) -> StepNoise:
        """Return the noise [K, ...] of the next update. Each member uses its random streams."""
        raws = [member.randomness.raw() for member in self.members]
        words = max((raw.bits.numel() for raw in raws if raw.bits is not None), default=0)
        stacked = RandomNumbers(
            indices=torch.stack([raw.indices for raw in raws]),
            noise=pad_and_stack([raw.noise for raw in raws]),
            bits=torch.stack([raw.indices.new_zeros(words) if raw.bits is None else raw.bits for raw in raws])
            if words
            else None,
            classes=stack_present([raw.classes for raw in raws]),
            augment=stack_present([raw.augment for raw in raws]),
            blend=stack_present([raw.blend for raw in raws]),
            jitter=stack_present([raw.jitter for raw in raws]),
        )
        return build_step_noise(stacked, self.members[0].randomness.shape, self._latents, self._rates)

    def check_vmap(self, kinds: str) -> None:
        """Raise HarnessError if `torch.func.vmap` cannot map the custom networks `kinds`. Nothing is trained."""
        tensors = self.tensors()
        before = [tensor.detach().clone() for tensor in tensors]
        for member in self.members:
            member.randomness.begin(1)  # as at the start of an epoch
        try:
            noise = self.step_noise()
            real, labels = self.real_images(noise)
            loss, penalty = self.evaluate(discriminator_loss, real, labels, noise, self.penalty_weights)
            self._discriminator.gradients(loss + penalty)
            self._generator.gradients(self.evaluate(generator_loss, real, labels, noise))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise HarnessError(
                f"torch.func.vmap, which batched training needs, cannot map {kinds}: {brief(error)}; "
                "train these one after the other"
            ) from error
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    tensor.copy_(value)

    # Memory of the weights ---------------------------------------------------------------------------------------

    def tensors(self) -> list[Tensor]:
        """Return the tensors that a step changes, for a CUDA graph of it."""
        stacked = [*self._generator.shared.values(), *self._discriminator.shared.values()]
        return [self._totals, *stacked, *(tensor for member in self.members for tensor in member.tensors())]

    def generators(self) -> list[torch.Generator]:
        """Return the random generators that a step uses."""
        return [generator for member in self.members for generator in member.generators()]


def unshare_memory(member: Training) -> None:
    """Give a member that leaves copies of its weights."""
    member.forget_recording()
    for network in (member.generator, member.discriminator):
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)


def batch_key(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """Return a key that is equal for experiments that can be batched."""
    return tuple((path, str(value)) for path, value in _shared_fields(experiment).items())


def _shared_fields(experiment: Experiment) -> dict[str, Any]:
    fields = experiment.flatten()
    shared = {
        path: value
        for path, value in fields.items()
        if path not in MEMBER_FIELDS and not path.startswith(MEMBER_SECTIONS)
    }
    if ":" in experiment.generator.kind:  # a custom network may not map padded noise to the same images
        shared["generator.latent"] = experiment.generator.latent
    return {**shared, "penalties": ", ".join(experiment.objective.penalties) or "none"}


def check_batchable(trainings: Sequence[Training]) -> None:
    """Raise HarnessError if trainings cannot be batched. The message names the field that differs."""
    first = _shared_fields(trainings[0].experiment)
    for other in trainings[1:]:
        fields = _shared_fields(other.experiment)
        for path in dict.fromkeys([*first, *fields]):
            if first.get(path) != fields.get(path):
                raise HarnessError(
                    f"batched training needs the same {path} in all members, but it is {first.get(path)} in one and "
                    f"{fields.get(path)} in another: train these one after the other"
                )
        if other.images.fingerprint != trainings[0].images.fingerprint:
            raise HarnessError(
                "batched training needs the same training images in all members, but two have different ones"
            )
