"""Classes of the user's own, named by a dotted path: judges, generators, discriminators."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from torch import nn

from harness.errors import HarnessError


def find_module(path: str, where: str) -> type[nn.Module]:
    """The torch module `package.module:Class`, found on Python's path or from the working directory.

    where: the leaf that names it, for messages. Raises HarnessError where it cannot be imported or is no torch module.
    """
    module_name, _, class_name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # `python -m` puts it there, an installed command does not
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's code may raise anything
        raise HarnessError(f"{where} {path}: cannot import {module_name!r}: {error}") from error
    kind = getattr(module, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise HarnessError(f"{where} {path}: {module_name} has no torch.nn.Module class named {class_name!r}")
    return kind
