"""The registry of data sets: `data.name` of an experiment, and the class that reads it."""

from __future__ import annotations

from harness.data.digits import Digits
from harness.data.folder import Folder
from harness.data.mnist import MNIST
from harness.data.source import DataSource
from harness.data.stacked_mnist import StackedMNIST
from harness.data.torchvision_sets import TORCHVISION_DATASETS

DATASETS: dict[str, type[DataSource]] = {
    "mnist": MNIST,
    "digits": Digits,
    **TORCHVISION_DATASETS,
    "stacked-mnist": StackedMNIST,
    "folder": Folder,
}
