"""The notebook's networks: fully connected, LeakyReLU, dropout in the discriminator, no normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.gan.networks.layers import Projection


class MLPGenerator(nn.Module):
    """Noise [B, inputs] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, shape: tuple[int, int, int], *, inputs: int, widths: Sequence[int], slope: float) -> None:
        super().__init__()
        self.shape, self.slope = tuple(shape), slope
        sizes = [inputs, *widths, math.prod(shape)]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    def forward(self, noise: Tensor) -> Tensor:
        *hidden_layers, last = self.layers
        hidden = noise
        for layer in hidden_layers:
            hidden = F.leaky_relu(layer(hidden), self.slope)  # [B, width]
        return torch.tanh(last(hidden)).view(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to logits [B]: positive for real.

    mask_shapes: shapes of one image's dropout masks, one a hidden layer. The rate is in the masks.
    Masks are handed in and multiplied with (harness/gan/randomness.py): the network is a pure function of its inputs.
    classes: of a conditional discriminator, else 0.
    """

    def __init__(self, shape: tuple[int, int, int], *, classes: int, widths: Sequence[int], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.mask_shapes = tuple((width,) for width in widths)
        sizes = [math.prod(shape), *widths, 1]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.projection = Projection(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, masks: Sequence[Tensor] | None = None, labels: Tensor | None = None) -> Tensor:
        *hidden_layers, last = self.layers
        hidden = images.flatten(1)  # [B, C*H*W]
        for index, layer in enumerate(hidden_layers):
            hidden = F.leaky_relu(layer(hidden), self.slope)  # [B, width]
            if masks:
                hidden = hidden * masks[index]
        logits: Tensor = last(hidden).squeeze(1)
        return logits if self.projection is None else logits + self.projection(hidden, labels)
