"""A file cache that several processes may use at the same time: files are written completely or not at all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.data import cache_folder
from harness.data.source import write_cache_file


def load_or_compute(key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of `key` from the cache folder, or compute and store them.

    The first 32 bytes of a file are the SHA-256 of the rest. Tensors of a damaged file are computed again. Nothing is
    stored if the folder is not writable.
    """
    path = cache_folder() / "features" / key
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            tensors: dict[str, Tensor] = load(content[32:])
            return tensors
    except (OSError, SafetensorError):
        pass
    tensors = {name: tensor.cpu().contiguous() for name, tensor in compute().items()}
    content = save(tensors)
    with contextlib.suppress(OSError), write_cache_file(path) as file:
        file.write(hashlib.sha256(content).digest() + content)
    return tensors
