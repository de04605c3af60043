"""A pair of networks as a user may write them, named by its dotted path: views, normalisation, dropout by masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Generator(nn.Module):
    def __init__(self, shape: tuple[int, int, int], *, inputs: int, width: int = 8) -> None:
        super().__init__()
        self.shape = shape
        self.first = nn.Linear(inputs, width * shape[1] * shape[2] // 4)
        self.norm = nn.GroupNorm(1, width)
        self.last = nn.ConvTranspose2d(width, shape[0], 4, stride=2, padding=1)

    def forward(self, noise: Tensor) -> Tensor:
        hidden = self.first(noise).view(len(noise), -1, self.shape[1] // 2, self.shape[2] // 2)
        return torch.tanh(self.last(F.leaky_relu(self.norm(hidden), 0.2)))


class Discriminator(nn.Module):
    def __init__(self, shape: tuple[int, int, int], *, classes: int, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], width, 4, stride=2, padding=1)
        hidden = (width, shape[1] // 2, shape[2] // 2)
        self.mask_shapes = (hidden,)
        self.head = nn.Linear(math.prod(hidden), 1 + classes)

    def forward(self, images: Tensor, masks: Sequence[Tensor] | None, labels: Tensor | None) -> Tensor:
        hidden = F.leaky_relu(self.conv1(images), 0.2)
        if masks:
            hidden = hidden * masks[0]
        answers: Tensor = self.head(hidden.view(len(images), -1))
        if labels is None:
            return answers[:, 0]
        return answers[:, 0] + answers[:, 1:].gather(1, labels[:, None]).squeeze(1)


class Branching(Discriminator):
    """It looks at a value before it goes on, which no program of many members can."""

    def forward(self, images: Tensor, masks: Sequence[Tensor] | None, labels: Tensor | None) -> Tensor:
        logits = super().forward(images, masks, labels)
        return logits if logits.mean().item() > 1e9 else logits * 2


class BranchingGenerator(Generator):
    """The same of a generator: torch.export cannot take it either."""

    def forward(self, noise: Tensor) -> Tensor:
        images = super().forward(noise)
        return images if images.mean().item() > 1e9 else images / 2
