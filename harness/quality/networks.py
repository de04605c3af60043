"""The two judge networks: small classifiers whose penultimate layer is the feature space of the scores.

Both map uint8 images of 8x8 or more to features and logits. The features are standardised (batch norm without scale
and shift): their unit is one standard deviation over the training images. So the polynomial kernel of KID, which
depends on the scale, means the same for both judges and every data set.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class JudgeNetwork(nn.Module):
    """A trunk, a standardised feature layer, and a linear classifier of the rectified features."""

    def __init__(self, trunk: nn.Module, width: int, features: int, classes: int) -> None:
        """Create the layers.

        Args:
            trunk: maps [N, channels, H, W] to [N, width].
            width: outputs of the trunk.
            features: size of the feature layer.
            classes: number of classes.
        """
        super().__init__()
        self.num_features = features  # the name that torchmetrics looks for
        self.trunk = trunk
        self.project = nn.Linear(width, features, bias=False)
        self.standardise = nn.BatchNorm1d(features, affine=False)
        # Without dropout the classifier would use a few directions only: features that merely separate the classes
        # do not show how the digits of one class differ.
        self.classify = nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(features, classes))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 [N, C, H, W] to features [N, d] and logits [N, classes]."""
        scaled = pixels.to(self.project.weight.dtype) / 127.5 - 1
        features = self.standardise(self.project(self.trunk(scaled.contiguous(memory_format=torch.channels_last))))
        return features, self.classify(features)


class First(JudgeNetwork):
    """Three convolutions with max pooling, 64 features."""

    seed = 1

    def __init__(self, channels: int, classes: int) -> None:
        """Create the layers for images of `channels` channels and `classes` classes."""
        trunk = nn.Sequential(
            *_convolution(channels, 32, kernel=5, pool=True),
            *_convolution(32, 64, pool=True),
            *_convolution(64, 64),
            nn.AdaptiveMaxPool2d(3),
            nn.Flatten(),
        )
        super().__init__(trunk, width=64 * 9, features=64, classes=classes)


class Second(JudgeNetwork):
    """Strided convolutions, residual blocks and average pooling, 96 features."""

    seed = 2

    def __init__(self, channels: int, classes: int) -> None:
        """Create the layers for images of `channels` channels and `classes` classes."""
        trunk = nn.Sequential(
            *_convolution(channels, 32, stride=2),
            Residual(32),
            *_convolution(32, 64, stride=2),
            Residual(64),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
        )
        super().__init__(trunk, width=64 * 9, features=96, classes=classes)


class Residual(nn.Module):
    """x plus two convolutions of x (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        """Create the convolutions of `width` channels."""
        super().__init__()
        self.body = nn.Sequential(*_convolution(width, width), *_convolution(width, width)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, width, H, W] to the same shape."""
        rectified: Tensor = torch.relu(x + self.body(x))
        return rectified


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, pool: bool = False) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    # Pooling first is cheaper: a quarter of the values is left to normalise.
    pooling = [nn.MaxPool2d(2)] if pool else []
    return [convolution, *pooling, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


NETWORKS: dict[str, type[First] | type[Second]] = {"first": First, "second": Second}
