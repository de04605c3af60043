"""A folder of the user's own images: decoded once, to one size and mode, into an array that is then read."""

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

from harness.data.base import Counts, Message, Source, alone, cache_folder, own_test_split, silent, unwritable, writing
from harness.data.progress import tenths
from harness.errors import HarnessError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLITS = ("train", "test")
TENTH, MOST = 10, 10_000  # without a test split of its own every tenth image is for the test, at most so many
VERSION = 1  # of how images are decoded: raised when the same files would give other pixels
MANY = 2_000  # images from which on decoding takes long enough for a word about how far it is
THREADS = 8

Pixels = npt.NDArray[np.uint8]


class Folder(Source):
    """Images below `path`, each cropped to a square about its centre, resized, and made grey or coloured.

    Subfolders are the classes, in the order of their names. `train` and `test` below `path` are the splits where both
    are there; else a tenth of the images is the test split, drawn at random, the same at all times.

    size: side of the images that are made of them. channels: 1 or 3. unreadable: `refuse`, or `skip` those.
    test: images in the test split, where that is drawn; None for a tenth.
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
        """Raises HarnessError for what is no folder of images."""
        if path is None:
            raise HarnessError("data.name is folder, but data.path is not set: set it to the folder of your images")
        self.path = Path(path).expanduser().absolute()
        self.title = f"folder-{self.path.name}"  # never the name of another data set: that may have a judge
        self.size, self.channels, self.unreadable = size, channels, unreadable
        self._listing = _list(self.path)
        self._listing = replace(self._listing, test=test)
        if test is not None and self._listing.splits is not None:
            raise HarnessError(f"data.test is {test}, but {self.path} has a folder test: leave data.test out")
        if test is not None and test >= len(self._listing.files):
            raise HarnessError(
                f"data.test is {test}, but {self.path} holds {len(self._listing.files)} images: take fewer"
            )
        self.classes = len(self._listing.classes)

    def prepare(self, message: Message = silent) -> None:
        if not self._file.is_file():
            with alone(self._file.parent, self._file.stem, message):
                if not self._file.is_file():
                    self._decode(message)
        facts = self._facts
        skipped, resized, converted = facts["skipped"], facts["resized"], facts["converted"]
        if skipped and self.unreadable == "refuse":
            raise _unreadable(self.path / skipped[0]["file"], skipped[0]["why"])
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
        if not self._file.is_file():
            self.prepare()
        rows = self._readable(split)
        if not len(rows):
            raise HarnessError(f"{self.path} holds no readable image to {'train on' if split == 'train' else 'test'}")
        try:
            pixels = np.load(self._file, mmap_mode="r")[rows]
        except (OSError, ValueError, IndexError) as error:
            raise HarnessError(
                f"cannot read {self._file} ({error}); delete it, and the images are decoded anew"
            ) from error
        labels = self._listing.labels
        return torch.from_numpy(pixels), None if labels is None else torch.tensor(labels)[torch.from_numpy(rows)]

    def counts(self) -> Counts:
        if self.unreadable == "skip":
            self.prepare()  # how many are left is not known before
        train, test = (len(self._readable(split)) for split in SPLITS)
        return Counts(train, test, labelled=self._listing.labels is not None, drawn=self._listing.splits is None)

    def _readable(self, split: str) -> npt.NDArray[np.int64]:
        """The rows of a split whose images could be read."""
        rows = self._listing.rows(split)
        unreadable = {each["file"] for each in self._facts["skipped"]} if self._file.is_file() else set()
        return rows[[self._listing.files[row] not in unreadable for row in rows]]

    @cached_property
    def _file(self) -> Path:
        """The array of all images, in the order of the listing. Its name follows from everything that it depends on."""
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
    def _facts(self) -> dict[str, Any]:
        """What happened when the images were decoded."""
        file = self._file.with_suffix(".json")
        try:
            facts: dict[str, Any] = json.loads(file.read_text())
            return facts
        except (OSError, ValueError) as error:
            raise HarnessError(
                f"cannot read {file} ({error}); delete {self._file}, and the images are decoded anew"
            ) from error

    def _decode(self, message: Message) -> None:
        """Write the array, and beside it what happened. Raises HarnessError for an unreadable image, if so wished."""
        files = self._listing.files
        if len(files) >= MANY:
            message(f"decoding {len(files):,} images in {self.path} (once; they are kept in {self._file.parent})")
        told = tenths(message, "decoding")
        skipped, resized, converted = [], 0, 0
        scratch = self._file.with_name(f".{self._file.stem}.decoding")  # one process at a time
        executor = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))  # Pillow lets go of Python while it decodes
        try:
            shape = (len(files), self.channels, self.size, self.size)
            array = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.uint8, shape=shape)
            decoded = executor.map(lambda name: _decoded(self.path / name, self.size, self.channels), files)
            for row, (name, found) in enumerate(zip(files, decoded, strict=True)):
                if isinstance(found, str):
                    if self.unreadable == "refuse":
                        raise _unreadable(self.path / name, found)
                    skipped.append({"file": name, "why": found})
                else:
                    array[row] = found.pixels
                    resized += found.resized
                    converted += found.converted
                if len(files) >= MANY:
                    told((row + 1) / len(files))
            array.flush()
            del array
            with writing(self._file.with_suffix(".json")) as file:
                facts = {"folder": str(self.path), "skipped": skipped, "resized": resized, "converted": converted}
                file.write(json.dumps(facts).encode())
            scratch.replace(self._file)  # last: where it is, the facts are too
        except OSError as error:
            raise unwritable(self._file.parent, error) from error
        finally:
            executor.shutdown(cancel_futures=True)
            scratch.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Listing:
    """The images of a folder: paths below it, in order; their labels, if they have any; their split, if they have one.

    classes: the names of the labels.
    """

    files: Sequence[str]
    labels: Sequence[int] | None
    splits: Sequence[str] | None
    classes: Sequence[str]
    test: int | None = None  # images of the test split, where that is drawn

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        if self.splits is None:
            return own_test_split(len(self.files), TENTH, MOST, self.test)[split].numpy()
        return np.flatnonzero(np.array(self.splits) == split)


def _list(path: Path) -> _Listing:
    """Raises HarnessError for what is no folder, holds no images, or does not say which class they are of."""
    if not path.is_dir():
        there = "is not a folder" if path.exists() else "is not there"
        raise HarnessError(f"data.path: {path} {there}; expected a folder of images ({', '.join(SUFFIXES)})")
    try:
        halves = [name for name in SPLITS if (path / name).is_dir()]
        if len(halves) == 1:
            raise HarnessError(
                f"{path} has a folder {halves[0]}, and none called {'test' if halves == ['train'] else 'train'}: "
                f"give both splits, or set data.path to {path / halves[0]}"
            )
        parts = {name: _classes(path / name) for name in halves} if halves else {"": _classes(path)}
    except OSError as error:
        raise HarnessError(f"cannot read the folder {error.filename} ({error.strerror})") from error
    for name, part in parts.items():
        if not any(part.values()):
            raise HarnessError(f"{path / name} holds no images ({', '.join(SUFFIXES)})")
    files, labels, splits = [], [], []
    classes = sorted(next(iter(parts.values())))  # those of the training images
    for name, part in parts.items():
        if unknown := sorted(set(part) - set(classes)):
            what = f"a class {unknown[0]}" if unknown[0] else "images without a class"
            raise HarnessError(
                f"{path / name} has {what}, which {path / SPLITS[0]} has not: give both the same subfolders"
            )
        for kind in sorted(part):
            files += [str(file.relative_to(path).as_posix()) for file in part[kind]]
            labels += [classes.index(kind)] * len(part[kind])
            splits += [name] * len(part[kind])
    if len(files) < 2:
        raise HarnessError(f"{path} holds one image; it takes two, one to train on and one to test")
    labelled = classes != [""]
    return _Listing(files, labels if labelled else None, splits if halves else None, classes if labelled else [])


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Images by the subfolder that they lie in, at any depth; by an empty name where none lies in one."""
    loose = sorted(file for file in folder.iterdir() if file.is_file() and _is_image(file.name))
    below = {each.name: _below(each) for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")}
    found = {name: files for name, files in below.items() if files}
    if found and loose:
        raise HarnessError(
            f"{folder} holds images ({loose[0].name}, ...) beside subfolders of images ({min(found)}, ...): "
            "put them into a subfolder too, or the subfolders elsewhere"
        )
    return found or {"": loose}


def _below(folder: Path) -> list[Path]:
    found = []
    for where, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(where, name) for name in files if _is_image(name)]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _unreadable(file: Path, why: str) -> HarnessError:
    return HarnessError(
        f"the image {file} cannot be read ({why}): mend or remove it, or set data.unreadable to skip such images"
    )


@dataclass(frozen=True)
class _Decoded:
    pixels: Pixels  # [C, size, size]
    resized: bool
    converted: bool


def _decoded(file: Path, size: int, channels: int) -> _Decoded | str:
    """One image as it will be seen, or why it cannot be read. Of an animation it is the first frame."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            flat = _flat(upright, mode)
            resized, converted = flat.size != (size, size), upright.mode != mode
            if resized:
                flat = ImageOps.fit(flat, (size, size), Image.Resampling.LANCZOS)
            pixels = np.asarray(flat, dtype=np.uint8).reshape(size, size, channels)
    except Exception as error:  # there is no telling what a damaged file makes a decoder raise
        return " ".join(f"{error}".split()).replace(f"'{file}'", "it") or type(error).__name__
    return _Decoded(pixels.transpose(2, 0, 1), resized, converted)


def _flat(image: Any, mode: str) -> Any:
    """A Pillow image in mode L or RGB: 16-bit grey scaled to 8 bits, what is transparent put on white."""
    from PIL import Image

    if image.mode == mode:
        return image
    if image.mode.startswith("I"):  # Pillow would clip it
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its values are neither 8 nor 16 bits")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its values are floats, of no known scale")
    elif image.has_transparency_data:
        front = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), front)
    return image.convert(mode)
