"""MNIST, which is bundled with harness."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import struct
import tempfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from torch import Tensor

from harness.data.source import DataSource, Message, cache_folder, discard_message
from harness.errors import HarnessError


class MNIST(DataSource):
    """Handwritten digits, 28x28 grey, 60,000 to train and 10,000 to test (LeCun, Cortes, Burges; CC BY-SA 3.0).

    Bundled, so the first run needs no network. It is unpacked once; files are checked against their SHA-256 sums
    whenever they are read.
    """

    classes = 10

    def prepare(self, message: Message = discard_message) -> None:
        """Unpack the files into the cache folder, once."""
        raw = _raw()
        if not raw.exists():
            message(f"unpacking mnist into {raw} (once)")
            _unpack(_packed(), _sums(), raw)

    def read(self, split: str) -> tuple[Tensor, Tensor]:
        """Return a split: uint8 [N, 1, 28, 28] and int64 [N]."""
        self.prepare()
        start = "train" if split == "train" else "t10k"
        pixels, labels = (_idx(name) for name in _sums() if name.startswith(start))
        return pixels.unsqueeze(1), labels.to(torch.int64)


def _raw() -> Path:
    """The folder of the unpacked files, as in torchvision."""
    return cache_folder() / "MNIST" / "raw"


def _packed() -> Traversable:
    return resources.files("harness.data") / "files" / "mnist"


def _sums() -> dict[str, str]:
    """SHA-256 sums by file: images before labels."""
    lines = (_packed() / "SHA256SUMS").read_text().splitlines()
    return {name: expected for expected, name in sorted(map(str.split, lines), key=lambda line: line[1])}


def _idx(name: str) -> Tensor:
    """Read an IDX file as uint8. The format: 0, 0, the type (8: uint8), the number of axes, their sizes, the data."""
    path = _raw() / name
    try:
        content = bytearray(path.read_bytes())  # a tensor needs writable memory
    except OSError as error:
        raise HarnessError(f"cannot read {path} ({error.strerror}); {_repair_hint(path.parent)}") from error
    actual, expected = hashlib.sha256(content).hexdigest(), _sums()[name]
    if actual != expected:
        raise HarnessError(
            f"{path} is damaged: SHA-256 {actual[:12]}, expected {expected[:12]}; {_repair_hint(path.parent)}"
        )
    axes = content[3]
    sizes = struct.unpack_from(f">{axes}I", content, 4)
    return torch.frombuffer(content, dtype=torch.uint8, offset=4 + 4 * axes).view(sizes)


def _repair_hint(folder: Path) -> str:
    return f"delete the folder {folder} and run again; the bundled copy is unpacked again"


def _unpack(packed: Traversable, sums: dict[str, str], target: Path) -> None:
    """Unpack next to `target`, then rename: processes that start at the same time never see an incomplete folder."""
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
        scratch.chmod(0o755)  # mkdtemp makes it private, but a shared cache must be readable
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process has unpacked the same files
                raise
    except OSError as error:
        raise HarnessError(f"cannot unpack MNIST into {target} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
