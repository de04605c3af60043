"""A small residual pair without normalisation, for the recipe of R3GAN (Huang et al. 2024); sides divisible by 4.

The convolutional pair with residual blocks at a quarter and at half of the size in G, at half and at a quarter in D.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from harness.gan.networks.conv import ConvDiscriminator, ConvGenerator


class Block(nn.Module):
    """x plus a bottleneck of x at half of the channels: 1x1, 3x3 and 1x1 convolutions, an activation before each.

    Without normalisation, blocks keep the scale because each begins as the identity: the last convolution is zero, the
    others are initialised as by He et al., times total^(-1/4) (Zhang et al. 2019, Fixup, section 4, three layers a
    block).
    """

    def __init__(self, channels: int, slope: float, total: int) -> None:
        """Create the convolutions.

        Args:
            channels: Channels of the input and the output.
            slope: negative slope of the LeakyReLU.
            total: number of blocks in the network.
        """
        super().__init__()
        inner = max(1, channels // 2)
        self.slope = slope
        self.narrow = nn.Conv2d(channels, inner, 1)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1)
        self.widen = nn.Conv2d(inner, channels, 1)
        for layer in (self.narrow, self.mix):
            he_(layer, slope, layer.weight[0].numel(), total**-0.25)
        nn.init.zeros_(self.widen.weight)
        nn.init.zeros_(self.widen.bias)  # type: ignore[arg-type]

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [B, channels, H, W] to the same shape."""
        inside = hidden
        for layer in (self.narrow, self.mix, self.widen):
            inside = layer(F.leaky_relu(inside, self.slope))
        return hidden + inside


def he_(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, slope: float, inputs: int, scale: float = 1.0) -> None:
    """Initialise a layer as He et al. 2015, eq. 15, with zero bias.

    Args:
        layer: The layer, which is changed in place.
        slope: negative slope of the activation before it.
        inputs: number of values that each output sums over.
        scale: factor of the standard deviation.
    """
    nn.init.normal_(layer.weight, std=scale * (2 / (1 + slope**2) / inputs) ** 0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class ResidualGenerator(ConvGenerator):
    """Map noise [B, inputs] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, shape: tuple[int, int, int], *, inputs: int, width: int, blocks: int, slope: float) -> None:
        """Create the layers; `blocks` residual blocks at each size, other arguments as for `ConvGenerator`."""
        super().__init__(shape, inputs=inputs, width=width, slope=slope, batch_norm=False)
        self.at_quarter = nn.Sequential(*[Block(4 * width, slope, 2 * blocks) for _ in range(blocks)])
        self.at_half = nn.Sequential(*[Block(2 * width, slope, 2 * blocks) for _ in range(blocks)])
        he_(self.fc, 1.0, inputs)
        for layer in (self.deconv1, self.deconv2):  # 2 x 2 inputs contribute to each output pixel
            he_(layer, slope, 4 * layer.in_channels)

    def _hidden(self, hidden: Tensor, index: int) -> Tensor:
        return F.leaky_relu((self.at_quarter, self.at_half)[index](hidden), self.slope)


class ResidualDiscriminator(ConvDiscriminator):
    """Map images [B, C, H, W] in [-1, 1] to logits [B]."""

    def __init__(self, shape: tuple[int, int, int], *, classes: int, width: int, blocks: int, slope: float) -> None:
        """Create the layers; `blocks` residual blocks at each size, other arguments as for `ConvDiscriminator`."""
        super().__init__(shape, classes=classes, width=width, slope=slope)
        self.at_half = nn.Sequential(*[Block(2 * width, slope, 2 * blocks) for _ in range(blocks)])
        self.at_quarter = nn.Sequential(*[Block(4 * width, slope, 2 * blocks) for _ in range(blocks)])
        for layer in (self.conv1, self.conv2):
            he_(layer, slope, layer.weight[0].numel())

    def _hidden(self, hidden: Tensor, index: int, masks: Sequence[Tensor] | None) -> Tensor:
        return super()._hidden((self.at_half, self.at_quarter)[index](hidden), index, masks)
