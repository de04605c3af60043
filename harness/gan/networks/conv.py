"""A small convolutional pair in the style of DCGAN (Radford et al. 2016); image sides must be divisible by 4.

Between layers, images are channels-last in memory, which is fastest for convolutions; the views below avoid copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.gan.networks.layers import BatchNorm2d, Projection, upsample_conv


class ConvGenerator(nn.Module):
    """Map noise [B, inputs] to images [B, C, H, W] in [-1, 1]: linear to a quarter of the size, upsampled twice."""

    def __init__(self, shape: tuple[int, int, int], *, inputs: int, width: int, slope: float, batch_norm: bool) -> None:
        """Create the layers.

        Args:
            shape: (C, H, W) of an image.
            inputs: size of the noise vector, plus the number of classes if conditional.
            width: a quarter of the channels at a quarter of the size.
            slope: negative slope of the LeakyReLU.
            batch_norm: normalise before every hidden activation.
        """
        super().__init__()
        channels, height, columns = shape[0], shape[1] // 4, shape[2] // 4
        self.slope = slope
        self.fc = nn.Linear(inputs, height * columns * 4 * width)
        self.deconv1 = nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(2 * width, channels, 4, stride=2, padding=1)
        self.quarter = (height, columns, 4 * width)
        self.norms = nn.ModuleList([BatchNorm2d(4 * width), BatchNorm2d(2 * width)] if batch_norm else [])

    def forward(self, noise: Tensor) -> Tensor:
        """Map noise [B, inputs] to images [B, C, H, W] in [-1, 1]."""
        hidden = self.fc(noise).unflatten(1, self.quarter).permute(0, 3, 1, 2)  # [B, 4w, H/4, W/4]
        hidden = self.deconv1(self._hidden(hidden, 0))  # [B, 2w, H/2, W/2]
        return torch.tanh(upsample_conv(self._hidden(hidden, 1), self.deconv2.weight, self.deconv2.bias))

    def _hidden(self, hidden: Tensor, index: int) -> Tensor:
        """Apply what follows the first layer (index 0) and the second (index 1)."""
        return F.leaky_relu(self.norms[index](hidden) if self.norms else hidden, self.slope)


class ConvDiscriminator(nn.Module):
    """Map images [B, C, H, W] in [-1, 1] to logits [B]: downsampled twice, then linear; mirrors the generator.

    Attributes:
        mask_shapes: shape of the dropout mask of one image, for each hidden layer.
    """

    def __init__(self, shape: tuple[int, int, int], *, classes: int, width: int, slope: float) -> None:
        """Create the layers.

        Args:
            shape: (C, H, W) of an image.
            classes: number of classes if conditional, else 0.
            width: a quarter of the channels at a quarter of the size.
            slope: negative slope of the LeakyReLU.
        """
        super().__init__()
        channels, height, columns = shape
        self.slope = slope
        self.conv1 = nn.Conv2d(channels, 2 * width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)
        features = 4 * width * (height // 4) * (columns // 4)
        self.head = nn.Linear(features, 1)
        self.projection = Projection(classes, features) if classes else None
        self.mask_shapes = ((2 * width, height // 2, columns // 2), (4 * width, height // 4, columns // 4))

    def forward(self, images: Tensor, masks: Sequence[Tensor] | None = None, labels: Tensor | None = None) -> Tensor:
        """Map images [B, C, H, W] in [-1, 1] to logits [B].

        Args:
            images: [B, C, H, W].
            masks: one dropout mask [B, *mask_shape] for each hidden layer; 0 or 1 / (1 - rate). None or empty: no
                dropout.
            labels: int64 [B], if conditional.
        """
        hidden = self._hidden(self.conv1(images), 0, masks)  # [B, 2w, H/2, W/2]
        hidden = self._hidden(self.conv2(hidden), 1, masks)  # [B, 4w, H/4, W/4]
        features = hidden.permute(0, 2, 3, 1).flatten(1)
        logits: Tensor = self.head(features).squeeze(1)
        return logits if self.projection is None else logits + self.projection(features, labels)

    def _hidden(self, hidden: Tensor, index: int, masks: Sequence[Tensor] | None) -> Tensor:
        """Apply what follows the first layer (index 0) and the second (index 1)."""
        hidden = F.leaky_relu(hidden, self.slope)
        return hidden * masks[index] if masks else hidden
