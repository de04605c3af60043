"""Fully connected networks, as in the notebook: LeakyReLU, dropout in the discriminator, no normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.gan.networks.layers import Projection


class MLPGenerator(nn.Module):
    """Map noise [B, inputs] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, shape: tuple[int, int, int], *, inputs: int, widths: Sequence[int], slope: float) -> None:
        """Create the layers.

        Args:
            shape: (C, H, W) of an image.
            inputs: size of the noise vector, plus the number of classes if conditional.
            widths: units of the hidden layers, input side first.
            slope: negative slope of the LeakyReLU.
        """
        super().__init__()
        self.shape, self.slope = tuple(shape), slope
        sizes = [inputs, *widths, math.prod(shape)]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    def forward(self, noise: Tensor) -> Tensor:
        """Map noise [B, inputs] to images [B, C, H, W] in [-1, 1]."""
        *hidden_layers, last = self.layers
        hidden = noise
        for layer in hidden_layers:
            hidden = F.leaky_relu(layer(hidden), self.slope)  # [B, width]
        return torch.tanh(last(hidden)).view(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """Map images [B, C, H, W] in [-1, 1] to logits [B], positive for real.

    Dropout masks are inputs, and are multiplied with (harness/gan/randomness.py): the network is a pure function.

    Attributes:
        mask_shapes: shape of the dropout mask of one image, for each hidden layer.
    """

    def __init__(self, shape: tuple[int, int, int], *, classes: int, widths: Sequence[int], slope: float) -> None:
        """Create the layers.

        Args:
            shape: (C, H, W) of an image.
            classes: number of classes if conditional, else 0.
            widths: units of the hidden layers, input side first.
            slope: negative slope of the LeakyReLU.
        """
        super().__init__()
        self.slope = slope
        self.mask_shapes = tuple((width,) for width in widths)
        sizes = [math.prod(shape), *widths, 1]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.projection = Projection(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, masks: Sequence[Tensor] | None = None, labels: Tensor | None = None) -> Tensor:
        """Map images [B, C, H, W] in [-1, 1] to logits [B].

        Args:
            images: [B, C, H, W].
            masks: one dropout mask [B, width] for each hidden layer; 0 or 1 / (1 - rate). None or empty: no dropout.
            labels: int64 [B], if conditional.
        """
        *hidden_layers, last = self.layers
        hidden = images.flatten(1)  # [B, C*H*W]
        for index, layer in enumerate(hidden_layers):
            hidden = F.leaky_relu(layer(hidden), self.slope)  # [B, width]
            if masks:
                hidden = hidden * masks[index]
        logits: Tensor = last(hidden).squeeze(1)
        return logits if self.projection is None else logits + self.projection(hidden, labels)
