"""The interface of a data set, and how its files are kept in the cache folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, ClassVar, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from harness.environment import cache_folder as cache_folder
from harness.errors import HarnessError
from harness.files import atomic_write

TEST_SEED = 30_000  # of the random test split of a data set that has none

Message = Callable[[str], None]


def discard_message(text: str) -> None:
    """Do nothing: the default where nobody reads messages."""


class Counts(NamedTuple):
    """Number of images of a data set.

    Attributes:
        train: Training images, including those that become the validation split.
        test: Test images.
        labelled: The images have labels.
        random_test: The test split is a random part of all images, and its size can be chosen.
    """

    train: int
    test: int
    labelled: bool = True
    random_test: bool = False


class DataSource:
    """A data set of the registry.

    Attributes:
        classes: Number of classes; 0 without labels.
        options: Fields of the `data` section of an experiment that are arguments of the class, besides the name.
        title: Name of the images; None: that of the registry.
    """

    classes: int
    options: ClassVar[tuple[str, ...]] = ()
    title: str | None = None

    def prepare(self, message: Message = discard_message) -> None:
        """Download, unpack and decode everything that `read` needs; does nothing if that is done already.

        Args:
            message: Receives one line before anything that takes a while.

        Raises:
            HarnessError: The data cannot be prepared.
        """

    def read(self, split: str) -> tuple[Tensor, Tensor | None]:
        """Return the images of a split.

        Args:
            split: `train` or `test`.

        Returns:
            uint8 [N, C, H, W], and labels int64 [N] or None.
        """
        raise NotImplementedError

    def counts(self) -> Counts | None:
        """Return the number of images of a small data set, to which defaults are adjusted; None for a large one."""
        return None

    def missing(self) -> str | None:
        """Return why the data cannot be read without a download; None if it can."""
        return None


def random_test_split(
    images: int, fraction: int, limit: int | None = None, count: int | None = None
) -> dict[str, Tensor]:
    """Split the indices of the images at random, always in the same way for the same number of images.

    Args:
        images: number of images.
        fraction: one image in `fraction` is for the test.
        limit: Maximum number of test images.
        count: Number of test images, instead of `fraction` and `limit`.

    Returns:
        int64 indices of `train` and of `test`, sorted.
    """
    order = torch.randperm(images, generator=torch.Generator().manual_seed(TEST_SEED))
    part = max(1, images // fraction)
    count = count or (part if limit is None else min(part, limit))
    return {"train": order[count:].sort().values, "test": order[:count].sort().values}


@contextmanager
def preparation_lock(folder: Path, name: str, message: Message) -> Iterator[None]:
    """Let one process at a time prepare `name` in `folder`; others wait, and then find it prepared.

    Raises:
        HarnessError: the folder is not writable.
    """
    lock = FileLock(folder / f".{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            message(f"another process is preparing {name}: waiting for it")
            lock.acquire()
    except OSError as error:
        raise cache_write_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def write_cache_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of the cache that replaces `path` at the end (see `atomic_write`), and that everyone may read.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(path, parents=True) as fresh:
        with fresh.open("wb") as file:
            yield file
        fresh.chmod(0o644)  # whatever the umask: a cache may be shared


def cache_write_error(folder: Path, error: OSError) -> HarnessError:
    """Return the error for a cache folder that is not writable."""
    return HarnessError(
        f"cannot write to the data cache {folder} ({error.strerror or error}); "
        "free some space, or set HARNESS_DATA to a folder you own"
    )
