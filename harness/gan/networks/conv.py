"""A small convolutional pair in the manner of DCGAN (Radford et al. 2016); image sides are divisible by 4.

Between its layers an image lies in memory with the channels last, which is what convolutions are quickest with; the
views below are made so that nothing has to be copied for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.gan.networks.layers import BatchNorm2d, Projection, upsample_conv


class ConvGenerator(nn.Module):
    """Noise [B, inputs] to images [B, C, H, W] in [-1, 1]: linear to a quarter of the size, twice doubled."""

    def __init__(self, shape: tuple[int, int, int], *, inputs: int, width: int, slope: float, batch_norm: bool) -> None:
        super().__init__()
        channels, height, columns = shape[0], shape[1] // 4, shape[2] // 4
        self.slope = slope
        self.fc = nn.Linear(inputs, height * columns * 4 * width)
        self.deconv1 = nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(2 * width, channels, 4, stride=2, padding=1)
        self.quarter = (height, columns, 4 * width)
        self.norms = nn.ModuleList([BatchNorm2d(4 * width), BatchNorm2d(2 * width)] if batch_norm else [])

    def forward(self, noise: Tensor) -> Tensor:
        hidden = self.fc(noise).unflatten(1, self.quarter).permute(0, 3, 1, 2)  # [B, 4w, H/4, W/4]
        hidden = self.deconv1(self._hidden(hidden, 0))  # [B, 2w, H/2, W/2]
        return torch.tanh(upsample_conv(self._hidden(hidden, 1), self.deconv2.weight, self.deconv2.bias))

    def _hidden(self, hidden: Tensor, index: int) -> Tensor:
        """What is done after the first layer, and after the second."""
        return F.leaky_relu(self.norms[index](hidden) if self.norms else hidden, self.slope)


class ConvDiscriminator(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to logits [B]: twice halved, then linear; the generator's mirror.

    mask_shapes: as those of MLPDiscriminator.
    classes: of a conditional discriminator, else 0.
    """

    def __init__(self, shape: tuple[int, int, int], *, classes: int, width: int, slope: float) -> None:
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
        hidden = self._hidden(self.conv1(images), 0, masks)  # [B, 2w, H/2, W/2]
        hidden = self._hidden(self.conv2(hidden), 1, masks)  # [B, 4w, H/4, W/4]
        features = hidden.permute(0, 2, 3, 1).flatten(1)
        logits: Tensor = self.head(features).squeeze(1)
        return logits if self.projection is None else logits + self.projection(features, labels)

    def _hidden(self, hidden: Tensor, index: int, masks: Sequence[Tensor] | None) -> Tensor:
        """What is done after the first layer, and after the second."""
        hidden = F.leaky_relu(hidden, self.slope)
        return hidden * masks[index] if masks else hidden
