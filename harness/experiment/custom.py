"""Custom classes, named by a dotted path: networks and judges, and the source code that they come from."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import linecache
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

from harness.errors import HarnessError, brief
from harness.experiment import trust


class SourceCode(NamedTuple):
    """The file of a class.

    Attributes:
        path: below the folder that it is imported from.
        text: its content.
    """

    path: str
    text: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def identity(self) -> str:
        """Path and the start of the hash, as in tags."""
        return f"{self.path} {self.sha256[:16]}"

    def same_code(self, other: SourceCode) -> bool:
        """Return whether the two are equal, apart from comments and layout."""
        if self.text == other.text:
            return True
        try:
            return ast.dump(ast.parse(self.text)) == ast.dump(ast.parse(other.text))
        except (SyntaxError, ValueError):
            return False


_replacements: Mapping[str, SourceCode] = {}  # by `package.module:Class`


@contextmanager
def use_source_code(sources: Mapping[str, SourceCode]) -> Iterator[None]:
    """Build these classes, by `package.module:Class`, from stored source code instead of importing their modules."""
    global _replacements
    before = _replacements
    _replacements = {**before, **sources}
    try:
        yield
    finally:
        _replacements = before


def import_class(path: str, field: str) -> type[nn.Module]:
    """Import the torch module `package.module:Class`, from Python's path or the working directory.

    Args:
        path: `package.module:Class`.
        field: the field of the experiment that names it, for messages.

    Raises:
        HarnessError: it cannot be imported, is not a torch module, or a store names it and it is not trusted (`trust`).
    """
    trust.check(path, field)
    module_name, _, class_name = path.partition(":")
    try:
        module = _module_from_source(_replacements[path]) if path in _replacements else import_module(module_name)
    except Exception as error:  # the user's code may raise anything
        raise HarnessError(f"{field} {path}: cannot import {module_name!r}: {brief(error)}") from error
    kind = getattr(module, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise HarnessError(f"{field} {path}: {module_name} has no torch.nn.Module class named {class_name!r}")
    return kind


def import_module(name: str) -> ModuleType:
    """Import a module of the user, from Python's path or the working directory. Raises whatever its code raises."""
    here = str(Path.cwd())
    if here not in sys.path:  # `python -m` puts it there, an installed command does not
        sys.path.append(here)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def get_source_code(kind: type) -> SourceCode | None:
    """Return the source code of a class; None if it has no file, as in a notebook."""
    module = sys.modules.get(kind.__module__)
    stored = getattr(module, "__harness_source__", None)
    if isinstance(stored, SourceCode):
        return stored
    try:
        file = Path(inspect.getfile(kind))
        text = file.read_text(encoding="utf-8")
    except (OSError, TypeError, UnicodeDecodeError):
        return None
    *packages, name = kind.__module__.split(".")
    below = [*packages, name, file.name] if file.stem == "__init__" else [*packages, file.name]
    return SourceCode("/".join(below), text)


def _module_from_source(source: SourceCode) -> ModuleType:
    """A module from source code that a run has stored. Its own imports are resolved here, as usual."""
    name = f"harness_kept_{source.sha256[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    parts = Path(source.path).with_suffix("").parts
    package = ".".join(parts[:-1])  # so that its relative imports are found
    file = f"<stored with a run: {source.path}>"
    module = ModuleType(name)
    module.__dict__.update({"__file__": file, "__package__": package, "__harness_source__": source})
    code = compile(source.text, file, "exec")
    linecache.cache[file] = (len(source.text), None, source.text.splitlines(keepends=True), file)
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module
