"""Where images come from: the registry of data sets, and the bundled MNIST."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import tempfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from torch import Tensor

from harness.data.base import Source, cache_folder
from harness.data.digits import Digits
from harness.data.folder import Folder
from harness.data.published import PUBLISHED
from harness.data.stacked import StackedMNIST
from harness.errors import HarnessError


class MNIST(Source):
    """Handwritten digits, 28x28 grey, 60,000 to train and 10,000 to test (LeCun, Cortes, Burges; CC BY-SA 3.0).

    Bundled, so the first run needs no network. It is unpacked once, checked against its SHA-256 sums before every
    reading (50 ms), and read by torchvision.
    """

    classes = 10

    def read(self, split: str) -> tuple[Tensor, Tensor]:
        from torchvision import datasets

        root = self._unpacked(cache_folder())
        images = datasets.MNIST(str(root), train=split == "train", download=False)
        return images.data.unsqueeze(1), images.targets.to(torch.int64)

    def _unpacked(self, cache: Path) -> Path:
        """The folder that torchvision calls root; the files lie in MNIST/raw below it."""
        packed = resources.files("harness.data") / "files" / "mnist"
        lines = (packed / "SHA256SUMS").read_text().splitlines()
        sums = {name: expected for expected, name in map(str.split, lines)}
        raw = cache / "MNIST" / "raw"
        if not raw.exists():
            _unpack(packed, sums, raw)
        for name, expected in sums.items():
            try:
                actual = _sha256(raw / name)
            except OSError as error:
                raise HarnessError(f"cannot read {raw / name} ({error.strerror}); {_REPAIR.format(raw)}") from error
            if actual != expected:
                raise HarnessError(
                    f"{raw / name} is damaged: SHA-256 {actual[:12]}, expected {expected[:12]}; {_REPAIR.format(raw)}"
                )
        return cache


_REPAIR = "delete the folder {} and run again, and the bundled copy is unpacked anew"


def _unpack(packed: Traversable, sums: dict[str, str], target: Path) -> None:
    """Unpack beside `target`, then rename: processes that start at the same time never see half a folder."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
    except OSError as error:
        raise HarnessError(
            f"cannot write to the data cache {target.parent} ({error.strerror}); set HARNESS_DATA to a folder you own"
        ) from error
    try:
        for name in sums:
            with (
                (packed / f"{name}.xz").open("rb") as file,
                lzma.open(file) as source,
                (scratch / name).open("wb") as copy,
            ):
                shutil.copyfileobj(source, copy)
        scratch.chmod(0o755)  # mkdtemp makes it private; a shared cache is for everyone to read
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # another process got there first otherwise, with the same files
                raise
    except OSError as error:
        raise HarnessError(f"cannot unpack MNIST into {target} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


DATASETS: dict[str, type[Source]] = {
    "mnist": MNIST,
    "digits": Digits,
    **PUBLISHED,
    "stacked-mnist": StackedMNIST,
    "folder": Folder,
}
