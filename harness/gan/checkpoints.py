"""Checkpoints: everything that a run needs to resume, in one file that is written completely or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment, from_store
from harness.files import atomic_write

FORMAT = 3


@dataclass(frozen=True)
class Checkpoint:
    """A training between two epochs.

    Attributes:
        experiment: resolved, as it was trained.
        training: `Training.state_dict()`.
        threads: number of CPU threads of the process; on a CPU only the same number gives the same bits.
        score: the lowest primary score so far, or None.
        empty_images: `Images.empty_like` of the training images, so that the generator can be built where the data set
            is not available; None in older files.
    """

    experiment: Experiment
    training: Mapping[str, Any]
    threads: int
    score: float | None = None
    empty_images: Images | None = None

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return int(self.training["epoch"])


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: a reader finds the old file or the new one, never a part of one.

    Raises:
        HarnessError: the disk is full or the folder is not writable; the old file is unchanged.
    """
    state = {
        "format": FORMAT,
        "experiment": checkpoint.experiment.to_yaml(),
        "training": dict(checkpoint.training),
        "threads": checkpoint.threads,
        "score": checkpoint.score,
        "images": None if checkpoint.empty_images is None else _describe_images(checkpoint.empty_images),
    }
    try:
        with atomic_write(path, parents=True, durable=True) as fresh, fresh.open("wb") as file:
            torch.save(state, file)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise HarnessError(
            f"cannot write the checkpoint {path}: {error}; free some space or check the folder"
        ) from error


def load(path: Path, origin: str | None = None) -> Checkpoint:
    """Read a checkpoint onto the CPU. Nothing in the file is executed.

    Args:
        path: the file.
        origin: names the experiment in messages about the classes that it names.

    Raises:
        HarnessError: the file is missing, truncated, damaged, or not a checkpoint of this version.
    """
    if not path.is_file():
        raise HarnessError(f"there is no checkpoint {path}")
    try:
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT:
            raise HarnessError(
                f"{path} was written by another version of harness (format {state['format']}, expected {FORMAT}): "
                "train the run again, or use that version"
            )
        return Checkpoint(
            from_store(state["experiment"], origin or f"the experiment in {path}"),
            state["training"],
            state["threads"],
            state["score"],
            _empty_images(state["images"]) if state.get("images") else None,
        )
    except HarnessError:
        raise
    except Exception as error:  # zipfile, zlib and pickle raise many types for damage
        raise HarnessError(
            f"{path} is not a readable checkpoint (truncated or damaged); delete it to resume from an older one"
        ) from error


def _describe_images(images: Images) -> dict[str, Any]:
    labelled = images.labels is not None
    return {"name": images.name, "shape": list(images.shape), "classes": images.classes, "labelled": labelled}


def _empty_images(description: Mapping[str, Any]) -> Images:
    pixels = torch.empty(0, *description["shape"], dtype=torch.uint8)
    labels = torch.empty(0, dtype=torch.int64) if description["labelled"] else None
    return Images(description["name"], pixels, labels, description["classes"])


def _check_archive(path: Path) -> None:
    """Raise BadZipFile, or another error of zipfile, if bits were flipped: torch.load would return them."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
        for entry in archive.infolist():
            if entry.external_attr & 0x10:  # no checksum holds this bit, and torch leaves a folder's tensor unread
                raise zipfile.BadZipFile(f"{entry.filename} is marked as a folder")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power failure; Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
