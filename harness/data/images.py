"""A set of images held as one uint8 tensor, and the splits that an experiment trains and is scored on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.data.base import Message, Source, silent
from harness.data.sources import DATASETS
from harness.errors import HarnessError

VALIDATION_SEED = 20_000  # the held-out images are the same ones in every experiment


@dataclass(frozen=True)
class Images:
    """Images at rest.

    name: what they are, for people: `mnist/train`.
    pixels: uint8 [N, C, H, W].
    labels: int64 [N], or None where there are none.
    classes: how many classes the labels count.
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
        """SHA-256 over shape, pixels and labels (first 16 hex digits): equal for equal content, whatever the device."""
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        for tensor in (self.pixels, self.labels):
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def empty_like(self) -> Images:
        """Return no images, with the same name, shape and classes: what building a network needs."""
        return self.index_select(torch.arange(0))

    def index_select(self, indices: Tensor, name: str | None = None) -> Images:
        """Those images, in that order."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, name=name or self.name, pixels=self.pixels[indices], labels=labels)

    def to(self, device: str | torch.device) -> Images:
        pixels = self.pixels.to(device)
        if pixels is self.pixels:
            return self
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, pixels=pixels, labels=labels)


@dataclass(frozen=True)
class Splits:
    """What is trained on, what is held out for choosing, and what is scored once at the end."""

    train: Images
    validation: Images | None
    test: Images


def class_balanced(images: Images, count: int, seed: int) -> Images:
    """A seeded subset with equal numbers of every class, as far as the rarer classes last.

    Images are ranked at random within their class, then taken rank by rank; unlabelled images form one class.
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


def use_images(
    images: Images, *, validation: int = 0, subset: int | None = None, seed: int = 0
) -> tuple[Images, Images | None]:
    """Split training images into those to train on and `validation` held-out ones, then cut the former to `subset`."""
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
                f"data.subset is {subset:,}, but only {len(images):,} training images are there: ask for fewer"
            )
        images = class_balanced(images, subset, seed)
    return images, held_out


def load_split(name: str, split: str, *, message: Message = silent, **options: Any) -> Images:
    """One whole split, `train` or `test`, of a data set of the registry."""
    return _read(prepared(name, message, options), name, split)


def load(
    name: str,
    *,
    validation: int = 0,
    subset: int | None = None,
    seed: int = 0,
    message: Message = silent,
    **options: Any,
) -> Splits:
    """The splits of a data set, on the CPU: what the leaves of an experiment's `data` section ask for.

    options: what else the section says; None where it says nothing. notice: told what takes a while, such as a
    download, and what became of images that had to be changed. Raises HarnessError when the data is absent, damaged, or
    smaller than what is asked of it.
    """
    origin = prepared(name, message, options)
    train, held_out = use_images(_read(origin, name, "train"), validation=validation, subset=subset, seed=seed)
    return Splits(train, held_out, _read(origin, name, "test"))


def source(name: str, **options: Any) -> Source:
    """A data set of the registry, made with those options that are not None.

    Raises HarnessError for an unknown name, and for an option that it does not have.
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


def prepared(name: str, message: Message, options: dict[str, Any]) -> Source:
    """`source`, with everything here that it reads."""
    origin = source(name, **options)
    origin.prepare(message)
    return origin


def _read(origin: Source, name: str, split: str) -> Images:
    pixels, labels = origin.read(split)
    return Images(f"{origin.title or name}/{split}", pixels, labels, origin.classes)
