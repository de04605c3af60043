"""What a data set is, and where its files are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, ClassVar, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from harness.environment import cache_folder as cache_folder  # part of what a data set needs
from harness.errors import HarnessError
from harness.files import atomic_write

TEST_SEED = 30_000  # where a data set has no test split of its own, the same images are always its test split

Message = Callable[[str], None]


def silent(text: str) -> None:
    """A notice that nobody reads."""


class Counts(NamedTuple):
    """How many images there are to train on, before any are held out, and to test.

    drawn: the test split is drawn from all images, and its size can be chosen.
    """

    train: int
    test: int
    labelled: bool = True
    drawn: bool = False


class Source:
    """A data set of the registry.

    classes: how many the labels count; 0 without labels.
    options: which leaves of the experiment's `data` section it is made with, beside the name.
    title: what its images are called, where the registry's name does not say enough.
    """

    classes: int
    options: ClassVar[tuple[str, ...]] = ()
    title: str | None = None

    def prepare(self, message: Message = silent) -> None:
        """Have everything here that `read` reads: downloaded, unpacked, decoded. `message` is told what takes a while.

        Does nothing where that is done already. Raises HarnessError saying why it cannot be done and what to do.
        """

    def read(self, split: str) -> tuple[Tensor, Tensor | None]:
        """uint8 [N, C, H, W] and int64 [N] of the split `train` or `test`."""
        raise NotImplementedError

    def counts(self) -> Counts | None:
        """How many images there are, where a small set has to be fitted to; None where there are plenty."""
        return None

    def missing(self) -> str | None:
        """Why the data cannot be read here without a download, or None when it can."""
        return None


def own_test_split(images: int, share: int, most: int | None = None, wanted: int | None = None) -> dict[str, Tensor]:
    """Indices of `train` and `test`, in order: every `share`-th image is for the test, drawn at random, `most` of them.

    wanted: how many are for the test instead. The same for the same number of images, always.
    """
    order = torch.randperm(images, generator=torch.Generator().manual_seed(TEST_SEED))
    count = max(1, images // share)
    count = wanted or (count if most is None else min(count, most))
    return {"train": order[count:].sort().values, "test": order[:count].sort().values}


@contextmanager
def alone(folder: Path, name: str, message: Message) -> Iterator[None]:
    """Of several processes that start together, one makes `name` in `folder`; the others wait, and find it made.

    Raises HarnessError where the folder cannot be written to.
    """
    lock = FileLock(folder / f".{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            message(f"another process is making {name} ready: waiting for it")
            lock.acquire()
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file of a cache to write, atomically, which everyone may read. Raises OSError."""
    with atomic_write(path, parents=True) as fresh:
        with fresh.open("wb") as file:
            yield file
        fresh.chmod(0o644)  # whatever the umask: a cache may be shared


def unwritable(folder: Path, error: OSError) -> HarnessError:
    """What to say where the cache cannot be written to."""
    return HarnessError(
        f"cannot write to the data cache {folder} ({error.strerror or error}); "
        "free some space, or set HARNESS_DATA to a folder you own"
    )
