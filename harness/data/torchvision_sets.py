"""The data sets of torchvision: downloaded at first use, unpacked, and checked whenever they are read."""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.data.download import Remote, fetch
from harness.data.source import (
    Counts,
    DataSource,
    Message,
    cache_folder,
    cache_write_error,
    discard_message,
    preparation_lock,
    write_cache_file,
)
from harness.errors import HarnessError
from harness.files import sha256_of


class TorchvisionDataset(DataSource):
    """A data set of torchvision. Its files are in the cache folder, in torchvision's layout.

    NAME.sha256 beside the files holds their checksums. It is written last: if it exists, everything is there.

    Attributes:
        name: The name in the registry.
        kind: The name of torchvision's class.
        folder: The folder of its files, below the cache folder.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    folder: ClassVar[str]

    def missing(self) -> str | None:
        """Return a line if the files must be downloaded first, else None."""
        if self._checksums.is_file():
            return None
        return f"{self.name} is not in {cache_folder()} yet; the first run that needs it downloads it"

    def prepare(self, message: Message = discard_message) -> None:
        """Download and unpack the files, once."""
        if self._checksums.is_file():
            return
        cache = cache_folder()
        folder = cache / self.folder
        with preparation_lock(folder, self.name, message):
            if self._checksums.is_file():  # another process has prepared it
                return
            for remote in self._remotes():
                fetch(remote, cache, message)
            message(f"unpacking {self.name}")
            lines = []
            try:
                for name in [*self._files("train"), *self._files("test")]:
                    self._unpack(folder, name)
                    lines.append(f"{sha256_of(folder / name)}  {name}\n")
                with write_cache_file(self._checksums) as file:
                    file.write("".join(lines).encode())
            except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, KeyError) as error:
                raise HarnessError(
                    f"cannot unpack {self.name} in {folder} ({error}); {_repair_hint(folder)}"
                ) from error
            except OSError as error:
                raise cache_write_error(folder, error) from error

    def read(self, split: str) -> tuple[Tensor, Tensor]:
        """Return a split, after checking its files: uint8 [N, 1, H, W] and int64 [N]."""
        self.prepare()
        folder = self._checksums.parent
        try:
            checksums = {name: digest for digest, name in map(str.split, self._checksums.read_text().splitlines())}
            for name in checksums:  # torchvision needs the files of the other split too
                (folder / name).stat()
            damaged = [name for name in self._files(split) if sha256_of(folder / name) != checksums.get(name)]
        except (OSError, ValueError) as error:
            raise HarnessError(f"cannot read {self.name} ({error}); {_repair_hint(folder)}") from error
        if damaged:
            raise HarnessError(
                f"{folder / damaged[0]} is damaged: its SHA-256 is not the one in {self._checksums.name}; "
                f"{_repair_hint(folder)}"
            )
        return self._tensors(split)

    @property
    def _checksums(self) -> Path:
        return cache_folder() / self.folder / f"{self.name}.sha256"

    def _torchvision(self) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.kind)

    def _remotes(self) -> list[Remote]:
        """The files to download."""
        raise NotImplementedError

    def _files(self, split: str) -> tuple[str, ...]:
        """The unpacked files of a split."""
        raise NotImplementedError

    def _unpack(self, folder: Path, name: str) -> None:
        """Unpack one of them from the downloaded files."""
        raise NotImplementedError

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        """Return uint8 [N, 1, H, W] and int64 [N], as torchvision reads them."""
        raise NotImplementedError


class Idx(TorchvisionDataset):
    """Four gzipped files, named like those of MNIST."""

    classes = 10
    extra_mirrors: ClassVar[tuple[str, ...]] = ()  # base addresses in addition to torchvision's

    def _remotes(self) -> list[Remote]:
        known = self._torchvision()
        return [
            Remote(f"{self.folder}/{name}", md5, tuple(base + name for base in (*known.mirrors, *self.extra_mirrors)))
            for name, md5 in known.resources
        ]

    def _files(self, split: str) -> tuple[str, ...]:
        start = "train" if split == "train" else "t10k"
        return f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"

    def _unpack(self, folder: Path, name: str) -> None:
        with gzip.open(folder / f"{name}.gz") as packed, write_cache_file(folder / name) as file:
            shutil.copyfileobj(packed, file)

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        dataset = self._torchvision()(str(cache_folder()), train=split == "train", download=False)
        return dataset.data.unsqueeze(1), dataset.targets.to(torch.int64)


class FashionMNIST(Idx):
    """Articles of clothing, 28x28 grey, 10 classes, 60,000 and 10,000 (Xiao et al. 2017; MIT)."""

    name, kind, folder = "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"
    extra_mirrors = ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",)


class KMNIST(Idx):
    """Cursive Japanese characters, 28x28 grey, 10 classes, 60,000 and 10,000 (Clanuwat et al. 2018; CC BY-SA 4.0)."""

    name, kind, folder = "kmnist", "KMNIST", "KMNIST/raw"


class QMNIST(Idx):
    """MNIST reconstructed from NIST's originals, 28x28 grey, 60,000 and 60,000 (Yadav and Bottou 2019; BSD)."""

    name, kind, folder = "qmnist", "QMNIST", "QMNIST/raw"

    def _remotes(self) -> list[Remote]:
        known = self._torchvision().resources
        return [
            Remote(f"{self.folder}/{url.rpartition('/')[2]}", md5, (url,))
            for split in ("train", "test")
            for url, md5 in known[split]
        ]

    def _files(self, split: str) -> tuple[str, ...]:
        return f"qmnist-{split}-images-idx3-ubyte", f"qmnist-{split}-labels-idx2-int"

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        pixels, facts = super()._tensors(split)
        return pixels, facts[:, 0].clone()  # [N, 8]: the class, then writer and form


class EMNIST(TorchvisionDataset):
    """Handwritten characters of NIST's database, 28x28 grey, split in six ways (Cohen et al. 2017).

    All six are in one archive of half a gigabyte, which is kept; each split is unpacked when it is needed.
    """

    kind, folder = "EMNIST", "EMNIST/raw"
    first_label: ClassVar[int] = 0  # the label of the first class in the files

    def _remotes(self) -> list[Remote]:
        known = self._torchvision()
        return [Remote(f"{self.folder}/gzip.zip", known.md5, (known.url,))]

    def _files(self, split: str) -> tuple[str, ...]:
        return f"{self.name}-{split}-images-idx3-ubyte", f"{self.name}-{split}-labels-idx1-ubyte"

    def _unpack(self, folder: Path, name: str) -> None:
        with (
            zipfile.ZipFile(folder / "gzip.zip") as archive,
            archive.open(f"gzip/{name}.gz") as member,
            gzip.open(member) as packed,
            write_cache_file(folder / name) as file,
        ):
            shutil.copyfileobj(packed, file)

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        cut = self.name.removeprefix("emnist-")
        dataset = self._torchvision()(str(cache_folder()), split=cut, train=split == "train", download=False)
        upright = dataset.data.transpose(1, 2).contiguous()  # the files are stored by columns, those of MNIST by rows
        return upright.unsqueeze(1), dataset.targets.to(torch.int64) - self.first_label


class EMNISTBalanced(EMNIST):
    """Digits and letters, 47 classes of equal size, 112,800 and 18,800."""

    name, classes = "emnist-balanced", 47


class EMNISTLetters(EMNIST):
    """Letters, upper and lower case as one class, 26 classes, 124,800 and 20,800."""

    name, classes, first_label = "emnist-letters", 26, 1


class EMNISTDigits(EMNIST):
    """Digits, 10 classes of equal size, 240,000 and 40,000."""

    name, classes = "emnist-digits", 10


class EMNISTMNIST(EMNIST):
    """Digits, as many as in MNIST, 60,000 and 10,000."""

    name, classes = "emnist-mnist", 10


class EMNISTByMerge(EMNIST):
    """Digits and letters in their natural frequency, 47 classes, 697,932 and 116,323."""

    name, classes = "emnist-bymerge", 47


class EMNISTByClass(EMNIST):
    """Digits and letters in their natural frequency, 62 classes, 697,932 and 116,323."""

    name, classes = "emnist-byclass", 62


class USPS(TorchvisionDataset):
    """Digits from envelopes, 16x16 grey, 10 classes, 7,291 and 2,007 (Hull 1994)."""

    name, kind, folder = "usps", "USPS", "USPS"
    classes = 10

    def counts(self) -> Counts:
        """Return the fixed sizes of the splits."""
        return Counts(7_291, 2_007)

    def _remotes(self) -> list[Remote]:
        known = self._torchvision().split_list
        return [Remote(f"{self.folder}/{name}", md5, (url,)) for url, name, md5 in (known["train"], known["test"])]

    def _files(self, split: str) -> tuple[str, ...]:
        return ("usps.bz2" if split == "train" else "usps.t.bz2",)

    def _unpack(self, folder: Path, name: str) -> None:
        """Do nothing: torchvision reads the downloaded file."""

    def _tensors(self, split: str) -> tuple[Tensor, Tensor]:
        dataset = self._torchvision()(str(cache_folder() / self.folder), train=split == "train", download=False)
        return torch.from_numpy(dataset.data).unsqueeze(1), torch.tensor(dataset.targets, dtype=torch.int64)


TORCHVISION_DATASETS: dict[str, type[TorchvisionDataset]] = {
    kind.name: kind
    for kind in (
        FashionMNIST, KMNIST, EMNISTBalanced, EMNISTLetters, EMNISTDigits, EMNISTMNIST, EMNISTByMerge, EMNISTByClass,
        QMNIST, USPS,
    )
}  # fmt: skip


def _repair_hint(folder: Path) -> str:
    return f"delete the folder {folder} and run again; it is then downloaded again"
