"""Sets of images as uint8 tensors, and the splits of an experiment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.data.registry import DATASETS
from harness.data.source import DataSource, Message, discard_message
from harness.errors import HarnessError

VALIDATION_SEED = 20_000  # the validation images are the same in every experiment


@dataclass(frozen=True)
class Images:
    """A set of images.

    Attributes:
        name: for messages, such as `mnist/train`.
        pixels: uint8 [N, C, H, W].
        labels: int64 [N], or None.
        classes: number of classes; 0 without labels.
    """

    name: str
    pixels: Tensor
    labels: Tensor | None
    classes: int

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        labels = "no labels" if self.labels is None else f"{self.classes} classes"
        return f"Images({self.name!r}, {len(self):,} of {size}, {labels}, {self.pixels.device})"

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of a SHA-256 over shape, pixels and labels: equal for equal content, on any device."""
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        for tensor in (self.pixels, self.labels):
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def empty_like(self) -> Images:
        """Return an empty set with the same name, shape and classes, which is enough to build networks."""
        return self.index_select(torch.arange(0))

    def index_select(self, indices: Tensor, name: str | None = None) -> Images:
        """Return the images with these indices, in this order. name: the name of the result. None: the same."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, name=name or self.name, pixels=self.pixels[indices], labels=labels)

    def to(self, device: str | torch.device) -> Images:
        """Return the images on a device; the same object if they are there already."""
        pixels = self.pixels.to(device)
        if pixels is self.pixels:
            return self
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, pixels=pixels, labels=labels)


@dataclass(frozen=True)
class Splits:
    """The images to train on, the validation images (None if none are held out) and the test images."""

    train: Images
    validation: Images | None
    test: Images


def class_balanced(images: Images, count: int, seed: int) -> Images:
    """Return a random subset of `count` images, with equal numbers of all classes if there are enough images.

    Images are ranked at random within their class, then selected by rank. Unlabelled images count as one class.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(images), generator=generator)
    labels = torch.zeros(len(images), dtype=torch.int64) if images.labels is None else images.labels.cpu()
    rank = torch.empty(len(images), dtype=torch.int64)
    for label in labels.bincount().nonzero().squeeze(1):
        members = shuffled[labels[shuffled] == label]
        rank[members] = torch.arange(len(members))
    by_rank = shuffled[torch.argsort(rank[shuffled], stable=True)]
    return images.index_select(by_rank[:count], f"{images.name}[{count}]")


def train_validation_split(
    images: Images, *, validation: int = 0, subset: int | None = None, seed: int = 0
) -> tuple[Images, Images | None]:
    """Split training images into those to train on and the validation images.

    Args:
        images: All training images.
        validation: Number of validation images. They are the same for all seeds and experiments.
        subset: Number of images to train on, class-balanced. None: all.
        seed: Seed of the subset.

    Returns:
        The images to train on, and the validation images; None if `validation` is 0.

    Raises:
        HarnessError: there are not enough images.
    """
    if validation >= len(images):
        raise HarnessError(
            f"data.validation is {validation:,}, but {images.name} has {len(images):,} training images: "
            f"set data.validation to {len(images) // 10} (a tenth), or to 0 to hold out none"
        )
    held_out = None
    if validation:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(VALIDATION_SEED))
        held_out = images.index_select(order[:validation], images.name.removesuffix("train") + "validation")
        images = images.index_select(order[validation:])
    if subset is not None:
        if subset > len(images):
            raise HarnessError(
                f"data.subset is {subset:,}, but there are {len(images):,} training images: use a smaller subset"
            )
        images = class_balanced(images, subset, seed)
    return images, held_out


def load_split(name: str, split: str, *, message: Message = discard_message, **options: Any) -> Images:
    """Return the whole `train` or `test` split of a data set of the registry.

    Args:
        name: Name of the data set.
        split: `train` or `test`.
        message: Receives one line before anything that takes a while.
        **options: Arguments of the data set. None: the default.

    Raises:
        HarnessError: As `load`.
    """
    return _read(prepare_source(name, message, options), name, split)


def load(
    name: str,
    *,
    validation: int = 0,
    subset: int | None = None,
    seed: int = 0,
    message: Message = discard_message,
    **options: Any,
) -> Splits:
    """Load the splits of a data set onto the CPU; the arguments are the fields of an experiment's `data` section.

    Args:
        name: Name of the data set.
        validation: Number of validation images.
        subset: Number of images to train on. None: all.
        seed: Seed of the subset.
        message: Receives one line before anything that takes a while, such as a download, and about converted images.
        **options: Arguments of the data set. None: the default.

    Raises:
        HarnessError: The data is missing or damaged, or there are not enough images.
    """
    source = prepare_source(name, message, options)
    train, held_out = train_validation_split(
        _read(source, name, "train"), validation=validation, subset=subset, seed=seed
    )
    return Splits(train, held_out, _read(source, name, "test"))


def create_source(name: str, **options: Any) -> DataSource:
    """Create a data set of the registry, with those options that are not None.

    Raises:
        HarnessError: The name is unknown, or the data set has no such option.
    """
    if name not in DATASETS:
        raise HarnessError(f"data.name is {name!r}; known data sets: {', '.join(DATASETS)}")
    kind = DATASETS[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in kind.options:
            owners = [each for each, other in DATASETS.items() if option in other.options]
            raise HarnessError(
                f"data.{option} is set, but data.name is {name}: "
                + (f"it belongs to {', '.join(owners)}; leave it out" if owners else "there is no such option")
            )
    return kind(**given)


def prepare_source(name: str, message: Message, options: dict[str, Any]) -> DataSource:
    """Create a data set of the registry, and download, unpack or decode its files."""
    source = create_source(name, **options)
    source.prepare(message)
    return source


def _read(source: DataSource, name: str, split: str) -> Images:
    pixels, labels = source.read(split)
    return Images(f"{source.title or name}/{split}", pixels, labels, source.classes)
