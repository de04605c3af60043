"""The data sets that torchvision knows: downloaded at first use, unpacked, and checked before every reading."""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.data.base import Counts, Message, Source, alone, cache_folder, silent, unwritable, writing
from harness.data.download import Remote, fetch
from harness.errors import HarnessError
from harness.files import sha256_of


class Published(Source):
    """A data set of torchvision's. Its files lie in the cache folder as torchvision lays them out.

    name: in the registry. kind: torchvision's class. place: the folder of its files, below the cache folder.

    NAME.sha256 beside the files has their sums; it is written last, so that where it is, all is there.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    place: ClassVar[str]

    def missing(self) -> str | None:
        if self._sums.is_file():
            return None
        return f"{self.name} is not in {cache_folder()} yet; it is downloaded when a run first needs it"

    def prepare(self, message: Message = silent) -> None:
        if self._sums.is_file():
            return
        cache = cache_folder()
        folder = cache / self.place
        with alone(folder, self.name, message):
            if self._sums.is_file():  # another process has been here
                return
            for remote in self._remotes():
                fetch(remote, cache, message)
            message(f"unpacking {self.name}")
            lines = []
            try:
                for name in [*self._files("train"), *self._files("test")]:
                    self._unpack(folder, name)
                    lines.append(f"{sha256_of(folder / name)}  {name}\n")
                with writing(self._sums) as file:
                    file.write("".join(lines).encode())
            except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, KeyError) as error:
                raise HarnessError(f"cannot unpack {self.name} in {folder} ({error}); {_cure(folder)}") from error
            except OSError as error:
                raise unwritable(folder, error) from error

    def read(self, split: str) -> tuple[Tensor, Tensor]:
        self.prepare()
        folder = self._sums.parent
        try:
            sums = {name: digest for digest, name in map(str.split, self._sums.read_text().splitlines())}
            for name in sums:  # torchvision wants those of the other split to be there too
                (folder / name).stat()
            damaged = [name for name in self._files(split) if sha256_of(folder / name) != sums.get(name)]
        except (OSError, ValueError) as error:
            raise HarnessError(f"cannot read {self.name} ({error}); {_cure(folder)}") from error
        if damaged:
            raise HarnessError(
                f"{folder / damaged[0]} is damaged: its SHA-256 is not the one in {self._sums.name}; {_cure(folder)}"
            )
        return self._tensors(split)

    @property
    def _sums(self) -> Path:
        return cache_folder() / self.place / f"{self.name}.sha256"

    def _torchvision(self) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.kind)

    def _remotes(self) -> list[Remote]:
        """What is to be downloaded."""
        raise NotImplementedError

    def _files(self, split: str) -> tuple[str, ...]:
        """The files of a split, unpacked."""
        raise NotImplementedError

    def _unpack(self, folder: Path, name: str) -> None:
        """Write one of these out of what was downloaded."""
        raise NotImplementedError

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        """uint8 [N, 1, H, W] and int64 [N], as torchvision reads them."""
        raise NotImplementedError


class Idx(Published):
    """Four gzipped files, named as those of MNIST."""

    classes = 10
    extra: ClassVar[tuple[str, ...]] = ()  # base addresses beside those that torchvision knows

    def _remotes(self) -> list[Remote]:
        known = self._torchvision()
        return [
            Remote(f"{self.place}/{name}", md5, tuple(base + name for base in (*known.mirrors, *self.extra)))
            for name, md5 in known.resources
        ]

    def _files(self, split: str) -> tuple[str, ...]:
        start = "train" if split == "train" else "t10k"
        return f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"

    def _unpack(self, folder: Path, name: str) -> None:
        with gzip.open(folder / f"{name}.gz") as packed, writing(folder / name) as file:
            shutil.copyfileobj(packed, file)

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        read = self._torchvision()(str(cache_folder()), train=split == "train", download=False)
        return read.data.unsqueeze(1), read.targets.to(torch.int64)


class FashionMNIST(Idx):
    """Articles of clothing, 28x28 grey, 10 classes, 60,000 and 10,000 (Xiao et al. 2017; MIT)."""

    name, kind, place = "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"
    extra = ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",)


class KMNIST(Idx):
    """Cursive Japanese characters, 28x28 grey, 10 classes, 60,000 and 10,000 (Clanuwat et al. 2018; CC BY-SA 4.0)."""

    name, kind, place = "kmnist", "KMNIST", "KMNIST/raw"


class QMNIST(Idx):
    """MNIST made again from NIST's originals, with 60,000 for the test (Yadav and Bottou 2019; BSD)."""

    name, kind, place = "qmnist", "QMNIST", "QMNIST/raw"

    def _remotes(self) -> list[Remote]:
        known = self._torchvision().resources
        return [
            Remote(f"{self.place}/{url.rpartition('/')[2]}", md5, (url,))
            for split in ("train", "test")
            for url, md5 in known[split]
        ]

    def _files(self, split: str) -> tuple[str, ...]:
        return f"qmnist-{split}-images-idx3-ubyte", f"qmnist-{split}-labels-idx2-int"

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        pixels, facts = super()._tensors(split)
        return pixels, facts[:, 0].clone()  # [N, 8]: the class, then writer and form


class EMNIST(Published):
    """Handwritten characters of NIST's database, 28x28 grey, cut in six ways (Cohen et al. 2017).

    All six are in one archive of half a gigabyte, which is kept; what is asked for is unpacked.
    """

    kind, place = "EMNIST", "EMNIST/raw"
    first: ClassVar[int] = 0  # the label of the first class in the files

    def _remotes(self) -> list[Remote]:
        known = self._torchvision()
        return [Remote(f"{self.place}/gzip.zip", known.md5, (known.url,))]

    def _files(self, split: str) -> tuple[str, ...]:
        return f"{self.name}-{split}-images-idx3-ubyte", f"{self.name}-{split}-labels-idx1-ubyte"

    def _unpack(self, folder: Path, name: str) -> None:
        with (
            zipfile.ZipFile(folder / "gzip.zip") as archive,
            archive.open(f"gzip/{name}.gz") as member,
            gzip.open(member) as packed,
            writing(folder / name) as file,
        ):
            shutil.copyfileobj(packed, file)

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        cut = self.name.removeprefix("emnist-")
        read = self._torchvision()(str(cache_folder()), split=cut, train=split == "train", download=False)
        upright = read.data.transpose(1, 2).contiguous()  # the files hold columns where MNIST's hold rows
        return upright.unsqueeze(1), read.targets.to(torch.int64) - self.first


class Balanced(EMNIST):
    """Digits and letters, 47 classes alike in size, 112,800 and 18,800."""

    name, classes = "emnist-balanced", 47


class Letters(EMNIST):
    """Letters, upper and lower case as one, 26 classes, 124,800 and 20,800."""

    name, classes, first = "emnist-letters", 26, 1


class Digits(EMNIST):
    """Digits, 10 classes alike in size, 240,000 and 40,000."""

    name, classes = "emnist-digits", 10


class LikeMNIST(EMNIST):
    """Digits, as many as MNIST has, 60,000 and 10,000."""

    name, classes = "emnist-mnist", 10


class ByMerge(EMNIST):
    """Digits and letters as often as they were written, 47 classes, 697,932 and 116,323."""

    name, classes = "emnist-bymerge", 47


class ByClass(EMNIST):
    """Digits and letters as often as they were written, 62 classes, 697,932 and 116,323."""

    name, classes = "emnist-byclass", 62


class USPS(Published):
    """Digits from envelopes, 16x16 grey, 10 classes, 7,291 and 2,007 (Hull 1994)."""

    name, kind, place = "usps", "USPS", "USPS"
    classes = 10

    def counts(self) -> Counts:
        return Counts(7_291, 2_007)

    def _remotes(self) -> list[Remote]:
        known = self._torchvision().split_list
        return [Remote(f"{self.place}/{name}", md5, (url,)) for url, name, md5 in (known["train"], known["test"])]

    def _files(self, split: str) -> tuple[str, ...]:
        return ("usps.bz2" if split == "train" else "usps.t.bz2",)

    def _unpack(self, folder: Path, name: str) -> None:
        """Nothing: torchvision reads it as it comes."""

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        read = self._torchvision()(str(cache_folder() / self.place), train=split == "train", download=False)
        return torch.from_numpy(read.data).unsqueeze(1), torch.tensor(read.targets, dtype=torch.int64)


PUBLISHED: dict[str, type[Published]] = {
    kind.name: kind
    for kind in (
        FashionMNIST, KMNIST, Balanced, Letters, Digits, LikeMNIST, ByMerge, ByClass, QMNIST, USPS
    )
}  # fmt: skip


def _cure(folder: Path) -> str:
    return f"delete the folder {folder} and run again, and it is downloaded anew"
