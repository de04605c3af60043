"""The two judge networks: small classifiers whose penultimate layer is the feature space that images are compared in.

Both take uint8 images of any size from 8x8 on and return features and logits. The features are standardised
(batch norm without scale and shift), so that their unit is one standard deviation over the training images and the
polynomial kernel of KID, which is not free of scale, means the same for either judge and for every data set.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class JudgeNetwork(nn.Module):
    """A trunk, a standardised feature layer, and a classifier that sees its rectified part.

    channels, classes: of the images judged.
    trunk: [N, channels, H, W] -> [N, width].
    features: how many the penultimate layer has.
    """

    def __init__(self, trunk: nn.Module, width: int, features: int, classes: int) -> None:
        super().__init__()
        self.num_features = features  # the name that torchmetrics looks for
        self.trunk = trunk
        self.project = nn.Linear(width, features, bias=False)
        self.standardise = nn.BatchNorm1d(features, affine=False)
        # Dropout keeps the classifier from leaning on a few directions: features that only separate the classes
        # would be blind to how the digits of one class differ.
        self.classify = nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(features, classes))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, C, H, W] -> features [N, d], logits [N, classes]."""
        scaled = pixels.to(self.project.weight.dtype) / 127.5 - 1
        features = self.standardise(self.project(self.trunk(scaled.contiguous(memory_format=torch.channels_last))))
        return features, self.classify(features)


class First(JudgeNetwork):
    """Plain: three convolutions with max pooling, 64 features."""

    seed = 1

    def __init__(self, channels: int, classes: int) -> None:
        trunk = nn.Sequential(
            *_convolution(channels, 32, kernel=5, pool=True),
            *_convolution(32, 64, pool=True),
            *_convolution(64, 64),
            nn.AdaptiveMaxPool2d(3),
            nn.Flatten(),
        )
        super().__init__(trunk, width=64 * 9, features=64, classes=classes)


class Second(JudgeNetwork):
    """Another shape: strided convolutions, residual blocks and average pooling, 96 features."""

    seed = 2

    def __init__(self, channels: int, classes: int) -> None:
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
    """x + two convolutions of x (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(width, width), *_convolution(width, width)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        rectified: Tensor = torch.relu(x + self.body(x))
        return rectified


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, pool: bool = False) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    # Pooling comes first because it is the cheaper order: a quarter of the values is left to normalise.
    pooling = [nn.MaxPool2d(2)] if pool else []
    return [convolution, *pooling, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


NETWORKS: dict[str, type[First] | type[Second]] = {"first": First, "second": Second}
