"""Files that several processes may make and read at the same time: written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.data import cache_folder
from harness.data.source import writing


def atomic_write(path: Path, content: bytes) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one. Raises OSError."""
    with writing(path) as file:
        file.write(content)


def cached(key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What compute() returns, from the cache folder where it was computed before.

    The cache only saves time: a damaged file (its first 32 bytes are the SHA-256 of the rest) is computed anew, and a
    folder that cannot be written to is done without.
    """
    path = cache_folder() / "features" / key
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            kept: dict[str, Tensor] = load(content[32:])
            return kept
    except (OSError, SafetensorError):
        pass
    tensors = {name: tensor.cpu().contiguous() for name, tensor in compute().items()}
    content = save(tensors)
    with contextlib.suppress(OSError):
        atomic_write(path, hashlib.sha256(content).digest() + content)
    return tensors
