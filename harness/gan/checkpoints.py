"""What a run needs to go on after a crash: one file, written whole or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import experiment as experiments
from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.files import atomic_write

FORMAT = 3


@dataclass(frozen=True)
class Checkpoint:
    """A training between two epochs.

    experiment: resolved, as it was trained. training: `Training.state_dict()`. threads: of the process that wrote it;
    on a CPU the same bits follow only with the same number. score: the lowest so far of those that rank, if any.
    like: `Images.like` of what it is trained on, so that its generator can be built where the data set is not; None in
    older files.
    """

    experiment: Experiment
    training: Mapping[str, Any]
    threads: int
    score: float | None = None
    like: Images | None = None

    @property
    def epoch(self) -> int:
        return int(self.training["epoch"])


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write beside `path`, flush to the disk, rename: a reader finds the old file or the new one, never half of one.

    Raises HarnessError when the disk is full or the folder cannot be written to; the old file then stands.
    """
    state = {
        "format": FORMAT,
        "experiment": checkpoint.experiment.to_yaml(),
        "training": dict(checkpoint.training),
        "threads": checkpoint.threads,
        "score": checkpoint.score,
        "images": None if checkpoint.like is None else _described(checkpoint.like),
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
    """Read a checkpoint, onto the CPU. Nothing in the file is executed.

    origin: what its experiment is of, for messages about the classes that it names. Raises HarnessError when it is
    absent, truncated, damaged, or not a checkpoint of ours.
    """
    if not path.is_file():
        raise HarnessError(f"there is no checkpoint {path}")
    try:
        _check(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT:
            raise HarnessError(
                f"{path} was written by another version of harness (format {state['format']}, expected {FORMAT}): "
                "train the run again, or use that version"
            )
        return Checkpoint(
            experiments.from_store(state["experiment"], origin or f"the experiment in {path}"),
            state["training"],
            state["threads"],
            state["score"],
            _like(state["images"]) if state.get("images") else None,
        )
    except HarnessError:
        raise
    except Exception as error:  # there is no telling what a damaged file makes zipfile, zlib and pickle raise
        raise HarnessError(
            f"{path} is not a readable checkpoint (truncated or damaged); delete it to go on from an older one"
        ) from error


def _described(images: Images) -> dict[str, Any]:
    labelled = images.labels is not None
    return {"name": images.name, "shape": list(images.shape), "classes": images.classes, "labelled": labelled}


def _like(described: Mapping[str, Any]) -> Images:
    pixels = torch.empty(0, *described["shape"], dtype=torch.uint8)
    labels = torch.empty(0, dtype=torch.int64) if described["labelled"] else None
    return Images(described["name"], pixels, labels, described["classes"])


def _check(path: Path) -> None:
    """Raise BadZipFile, or what else zipfile raises, for flipped bits: torch.load would return them."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
        for entry in archive.infolist():
            if entry.external_attr & 0x10:  # no checksum holds this bit, and torch leaves a folder's tensor unread
                raise zipfile.BadZipFile(f"{entry.filename} is marked as a folder")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself outlive a power cut; Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
