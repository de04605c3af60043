"""A folder of the user's images: decoded once to one size and mode, into an array in the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.data.decoding import decode_image
from harness.data.progress import progress_messages
from harness.data.source import (
    Counts,
    DataSource,
    Message,
    cache_folder,
    cache_write_error,
    discard_message,
    preparation_lock,
    random_test_split,
    write_cache_file,
)
from harness.errors import HarnessError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLITS = ("train", "test")
TEST_FRACTION, MAX_TEST = (
    10,
    10_000,
)  # one image in ten is for the test, at most so many
VERSION = 1  # increase it when the same files would give other pixels
REPORTED_COUNT = 2_000  # images; the progress of larger folders is reported
THREADS = 8


class Folder(DataSource):
    """Images below `path`, each cropped to a square about its centre, resized, and converted to grey or colour.

    Subfolders are the classes, in the order of their names. Folders `train` and `test` below `path` are the splits;
    without them a random tenth of the images is the test split, always the same.
    """

    options = ("path", "size", "channels", "unreadable", "test")

    def __init__(
        self,
        path: str | None = None,
        size: int = 28,
        channels: int = 1,
        unreadable: Literal["refuse", "skip"] = "refuse",
        test: int | None = None,
    ) -> None:
        """List the images.

        Args:
            path: the folder.
            size: side of the decoded images, in pixels.
            channels: 1 for grey, 3 for colour.
            unreadable: what to do with images that cannot be decoded.
            test: number of test images, if they are chosen at random; None for a tenth.

        Raises:
            HarnessError: it is not a folder of images.
        """
        if path is None:
            raise HarnessError("data.name is folder, but data.path is not set: set it to the folder of your images")
        self.path = Path(path).expanduser().absolute()
        self.title = f"folder-{self.path.name}"  # never the name of another data set: that may have a judge
        self.size, self.channels, self.unreadable = size, channels, unreadable
        self._listing = _list_images(self.path)
        self._listing = replace(self._listing, test=test)
        if test is not None and self._listing.splits is not None:
            raise HarnessError(f"data.test is {test}, but {self.path} has a folder test: leave data.test out")
        if test is not None and test >= len(self._listing.files):
            raise HarnessError(
                f"data.test is {test}, but {self.path} holds {len(self._listing.files)} images: take fewer"
            )
        self.classes = len(self._listing.classes)

    def prepare(self, message: Message = discard_message) -> None:
        """Decode the images, once, and report what was skipped and converted."""
        if not self._file.is_file():
            with preparation_lock(self._file.parent, self._file.stem, message):
                if not self._file.is_file():
                    self._decode(message)
        report = self._decoding_report
        skipped, resized, converted = report["skipped"], report["resized"], report["converted"]
        if skipped and self.unreadable == "refuse":
            raise _unreadable_error(self.path / skipped[0]["file"], skipped[0]["why"])
        total = len(self._listing.files)
        if skipped:
            named = ", ".join(each["file"] for each in skipped[:3]) + (", ..." if len(skipped) > 3 else "")
            message(f"{len(skipped):,} of {total:,} images in {self.path} are unreadable and were skipped: {named}")
        if resized or converted:
            message(
                f"{self.path}: of {total:,} images {resized:,} were cropped and resized to "
                f"{self.size}x{self.size}, {converted:,} converted to {'grey' if self.channels == 1 else 'colour'}"
            )

    def read(self, split: str) -> tuple[Tensor, Tensor | None]:
        """Return a split: uint8 [N, channels, size, size], and int64 [N] or None."""
        if not self._file.is_file():
            self.prepare()
        rows = self._readable(split)
        if not len(rows):
            raise HarnessError(f"{self.path} holds no readable image to {'train on' if split == 'train' else 'test'}")
        try:
            pixels = np.load(self._file, mmap_mode="r")[rows]
        except (OSError, ValueError, IndexError) as error:
            raise HarnessError(
                f"cannot read {self._file} ({error}); delete it; the images are then decoded again"
            ) from error
        labels = self._listing.labels
        return torch.from_numpy(pixels), None if labels is None else torch.tensor(labels)[torch.from_numpy(rows)]

    def counts(self) -> Counts:
        """Return the sizes of the splits, without unreadable images."""
        if self.unreadable == "skip":
            self.prepare()  # only decoding tells how many are readable
        train, test = (len(self._readable(split)) for split in SPLITS)
        return Counts(train, test, labelled=self._listing.labels is not None, random_test=self._listing.splits is None)

    def _readable(self, split: str) -> npt.NDArray[np.int64]:
        """The rows of a split whose images could be decoded."""
        rows = self._listing.rows(split)
        unreadable = {each["file"] for each in self._decoding_report["skipped"]} if self._file.is_file() else set()
        return rows[[self._listing.files[row] not in unreadable for row in rows]]

    @cached_property
    def _file(self) -> Path:
        """The array of all images, in the order of the listing; its name is a hash of everything that it depends on."""
        listed: list[object] = [VERSION, str(self.path), self.size, self.channels]
        try:
            for name in self._listing.files:
                found = (self.path / name).stat()
                listed.append((name, found.st_size, found.st_mtime_ns))
        except OSError as error:
            raise HarnessError(f"cannot read {error.filename} ({error.strerror}); was the folder changed?") from error
        key = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
        return cache_folder() / "folders" / f"{key}.npy"

    @cached_property
    def _decoding_report(self) -> dict[str, Any]:
        """What happened when the images were decoded."""
        file = self._file.with_suffix(".json")
        try:
            report: dict[str, Any] = json.loads(file.read_text())
            return report
        except (OSError, ValueError) as error:
            raise HarnessError(
                f"cannot read {file} ({error}); delete {self._file}; the images are then decoded again"
            ) from error

    def _decode(self, message: Message) -> None:
        """Write the array and its report. Raises HarnessError for an unreadable image unless these are skipped."""
        files = self._listing.files
        if len(files) >= REPORTED_COUNT:
            message(f"decoding {len(files):,} images in {self.path} (once; they are stored in {self._file.parent})")
        report_progress = progress_messages(message, "decoding")
        skipped, resized, converted = [], 0, 0
        scratch = self._file.with_name(f".{self._file.stem}.decoding")  # one process at a time
        executor = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))  # Pillow releases the GIL while it decodes
        try:
            shape = (len(files), self.channels, self.size, self.size)
            array = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.uint8, shape=shape)
            decoded = executor.map(lambda name: decode_image(self.path / name, self.size, self.channels), files)
            for row, (name, found) in enumerate(zip(files, decoded, strict=True)):
                if isinstance(found, str):
                    if self.unreadable == "refuse":
                        raise _unreadable_error(self.path / name, found)
                    skipped.append({"file": name, "why": found})
                else:
                    array[row] = found.pixels
                    resized += found.resized
                    converted += found.converted
                if len(files) >= REPORTED_COUNT:
                    report_progress((row + 1) / len(files))
            array.flush()
            del array
            with write_cache_file(self._file.with_suffix(".json")) as file:
                report = {"folder": str(self.path), "skipped": skipped, "resized": resized, "converted": converted}
                file.write(json.dumps(report).encode())
            scratch.replace(self._file)  # last: where it is, the report are too
        except OSError as error:
            raise cache_write_error(self._file.parent, error) from error
        finally:
            executor.shutdown(cancel_futures=True)
            scratch.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Listing:
    """The images of a folder: paths below it; labels and splits, if there are any; names of the classes."""

    files: Sequence[str]
    labels: Sequence[int] | None
    splits: Sequence[str] | None
    classes: Sequence[str]
    test: int | None = None  # images of the test split, if it is random

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        if self.splits is None:
            return random_test_split(len(self.files), TEST_FRACTION, MAX_TEST, self.test)[split].numpy()
        return np.flatnonzero(np.array(self.splits) == split)


def _list_images(path: Path) -> _Listing:
    """List a folder. Raises HarnessError if it is not a folder, has no images, or if classes are ambiguous."""
    if not path.is_dir():
        there = "is not a folder" if path.exists() else "is not there"
        raise HarnessError(f"data.path: {path} {there}; expected a folder of images ({', '.join(SUFFIXES)})")
    try:
        present = [name for name in SPLITS if (path / name).is_dir()]
        if len(present) == 1:
            raise HarnessError(
                f"{path} has a folder {present[0]}, and none called {'test' if present == ['train'] else 'train'}: "
                f"give both splits, or set data.path to {path / present[0]}"
            )
        splits_found = {name: _classes(path / name) for name in present} if present else {"": _classes(path)}
    except OSError as error:
        raise HarnessError(f"cannot read the folder {error.filename} ({error.strerror})") from error
    for name, part in splits_found.items():
        if not any(part.values()):
            raise HarnessError(f"{path / name} holds no images ({', '.join(SUFFIXES)})")
    files, labels, splits = [], [], []
    classes = sorted(next(iter(splits_found.values())))  # those of the training images
    for name, part in splits_found.items():
        if unknown := sorted(set(part) - set(classes)):
            what = f"a class {unknown[0]}" if unknown[0] else "images without a class"
            raise HarnessError(
                f"{path / name} has {what}, which {path / SPLITS[0]} does not have: give both the same subfolders"
            )
        for kind in sorted(part):
            files += [str(file.relative_to(path).as_posix()) for file in part[kind]]
            labels += [classes.index(kind)] * len(part[kind])
            splits += [name] * len(part[kind])
    if len(files) < 2:
        raise HarnessError(f"{path} holds one image; at least two are needed, one to train on and one to test")
    labelled = classes != [""]
    return _Listing(files, labels if labelled else None, splits if present else None, classes if labelled else [])


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Images by the subfolder that holds them, at any depth; under an empty name if there are no subfolders."""
    loose = sorted(file for file in folder.iterdir() if file.is_file() and _is_image(file.name))
    below = {
        each.name: _find_images(each) for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")
    }
    found = {name: files for name, files in below.items() if files}
    if found and loose:
        raise HarnessError(
            f"{folder} holds images ({loose[0].name}, ...) beside subfolders of images ({min(found)}, ...): "
            "put them into a subfolder too, or move the subfolders elsewhere"
        )
    return found or {"": loose}


def _find_images(folder: Path) -> list[Path]:
    found = []
    for where, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(where, name) for name in files if _is_image(name)]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _unreadable_error(file: Path, why: str) -> HarnessError:
    return HarnessError(
        f"the image {file} cannot be read ({why}): repair or remove it, or set data.unreadable to skip such images"
    )
