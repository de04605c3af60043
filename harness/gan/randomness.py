"""Randomness as data: noise, order and masks are functions of (seed, stream, epoch), sampled before a step.

So a crash loses no state of a random generator, and a training step is a pure function of weights, images and noise.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from harness.gan.step_noise import NoiseShape, RandomNumbers, StepNoise, build_step_noise

Stream = Literal["init", "order", "noise", "dropout", "augment", "penalty", "samples"]
DISTORTIONS = 6  # random numbers for each augmented image (augment.py)


def stream_seed(seed: int, stream: Stream, epoch: int = 0) -> int:
    """Return the 63-bit seed of one stream in one epoch: the first bytes of a SHA-256, so streams are unrelated."""
    digest = hashlib.sha256(f"{seed}/{stream}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream_generator(seed: int, stream: Stream, epoch: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a random generator with the seed of one stream in one epoch."""
    return torch.Generator(device).manual_seed(stream_seed(seed, stream, epoch))


def sample_noise(seed: int, count: int, latent: int, part: int = 0) -> Tensor:
    """Return noise [count, latent] of the stream `samples`, sampled on the CPU: the same on every device.

    From 16 values on, all but the last 16 are the same for every `count`: torch samples the last 16 again if their
    number is not a multiple of 16.

    Args:
        seed: of the training.
        count: number of samples.
        latent: size of the noise vector.
        part: parts are independent. 0 is rendered while training, 1 is scored on the validation split, 2 on the test
            split, and 3 gives the second noise of latent walks.
    """
    return torch.randn(count, latent, generator=stream_generator(seed, "samples", part))


class Randomness:
    """The random numbers of one training: `begin` an epoch, then call `step` for each of its steps.

    The generators are seeded again for every epoch. They, and the memory of the order, never move, so a CUDA graph can
    use them.
    """

    def __init__(
        self,
        *,
        seed: int,
        images: int,
        shape: NoiseShape,
        labels: Tensor | None = None,
        paired: bool = False,
        device: torch.device,
    ) -> None:
        """Create the generators of the streams that are needed.

        Args:
            seed: of the training.
            images: number of training images.
            shape: which random numbers a step needs, and how many.
            labels: int64 [N] of the training images, if classes are sampled: as often as they occur among them.
            paired: every generated image gets the class of the real image that it is compared with.
            device: of the tensors.
        """
        # Apple's GPU has no 64-bit random integers: sample them on the CPU.
        self._source = torch.device("cpu") if device.type == "mps" else device
        self._seed, self._images, self._labels, self._paired = seed, images, labels, paired
        self._device = device
        self.shape = shape
        self.steps = images // shape.batch
        self._order = torch.empty(self.steps, shape.batch, dtype=torch.int64, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._streams: dict[Stream, torch.Generator] = {"noise": torch.Generator(self._source)}
        for stream, needed in (
            ("dropout", shape.dropout),
            ("augment", shape.augment),
            ("penalty", shape.blend or shape.jitter),
        ):
            if needed:
                self._streams[stream] = torch.Generator(self._source)  # type: ignore[index]

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """The random generators that the steps of an epoch use."""
        return tuple(self._streams.values())

    def tensors(self) -> list[Tensor]:
        """Return the tensors that a step changes."""
        return [self._step]

    def set_dropout(self, rate: float) -> None:
        """Change the dropout rate, between epochs."""
        self.shape = replace(self.shape, dropout=rate)
        if rate and "dropout" not in self._streams:
            self._streams["dropout"] = torch.Generator(self._source)

    def begin(self, epoch: int, *, skip: int = 0) -> None:
        """Seed epoch `epoch`, counted from 1, and shuffle the images. A last, partial batch is dropped.

        Args:
            epoch: The epoch.
            skip: Number of updates of D whose random numbers are thrown away, because they were trained before.
        """
        for stream, generator in self._streams.items():
            generator.manual_seed(stream_seed(self._seed, stream, epoch))
        order = stream_generator(self._seed, "order", epoch, self._source)
        shuffled = torch.randperm(self._images, generator=order, device=self._source)
        self._order.copy_(shuffled[: self._order.numel()].view_as(self._order))
        self._step.zero_()
        for _ in range(skip):
            self.raw()

    def raw(self) -> RandomNumbers:
        """Return the random numbers of the next step."""
        indices = self._order.index_select(0, self._step).squeeze(0)
        self._step += 1
        shape, source, noise_stream = self.shape, self._source, self._streams["noise"]
        noise = torch.randn(2, shape.batch, shape.latent, generator=noise_stream, device=source)
        classes = bits = None
        if self._labels is not None and self._paired:
            classes = self._labels[indices].expand(2, -1)
        elif self._labels is not None:
            chosen = torch.randint(self._images, (2, shape.batch), generator=noise_stream, device=source)
            classes = self._labels[chosen.to(self._device)]
        if shape.dropout:
            bits = torch.empty(shape.words, dtype=torch.int64, device=source)
            bits = bits.random_(-(2**63), None, generator=self._streams["dropout"]).to(self._device)
        return RandomNumbers(
            indices,
            noise.to(self._device),
            bits,
            classes,
            augment=self._uniform("augment", sum(shape.seen), DISTORTIONS) if shape.augment else None,
            blend=self._uniform("penalty", shape.batch) if shape.blend else None,
            jitter=self._uniform("penalty", shape.batch, *shape.jitter) if shape.jitter else None,
        )

    def _uniform(self, stream: Stream, *size: int) -> Tensor:
        return torch.rand(size, generator=self._streams[stream], device=self._source).to(self._device)

    def step(self) -> StepNoise:
        """Return the noise of the next step."""
        return build_step_noise(self.raw(), self.shape, self.shape.latent, self.shape.dropout)
