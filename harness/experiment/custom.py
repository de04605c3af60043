"""Classes of the user's own, named by a dotted path: judges, generators, discriminators; and the source they are of."""

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


class Source(NamedTuple):
    """The file that a class stands in. place: its path below the folder that it is imported from."""

    place: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def identity(self) -> str:
        """Its path and hash, as tags have it."""
        return f"{self.place} {self.sha256[:16]}"

    def same_code(self, other: Source) -> bool:
        """Whether they differ in nothing, or in comments and layout alone."""
        if self.text == other.text:
            return True
        try:
            return ast.dump(ast.parse(self.text)) == ast.dump(ast.parse(other.text))
        except (SyntaxError, ValueError):
            return False


_in_use: Mapping[str, Source] = {}  # by `package.module:Class`: what is used instead of the module found here


@contextmanager
def using(sources: Mapping[str, Source]) -> Iterator[None]:
    """Meanwhile, take these classes, by `package.module:Class`, from these sources, and import no module for them."""
    global _in_use
    before = _in_use
    _in_use = {**before, **sources}
    try:
        yield
    finally:
        _in_use = before


def import_class(path: str, where: str) -> type[nn.Module]:
    """The torch module `package.module:Class`, found on Python's path or from the working directory.

    where: the leaf that names it, for messages. Raises HarnessError where it cannot be imported, is no torch module, or
    was named by a store and is not trusted (`harness.experiment.trust`).
    """
    trust.check(path, where)
    module_name, _, class_name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # `python -m` puts it there, an installed command does not
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        module = _kept_module(_in_use[path]) if path in _in_use else importlib.import_module(module_name)
    except Exception as error:  # the user's code may raise anything
        raise HarnessError(f"{where} {path}: cannot import {module_name!r}: {brief(error)}") from error
    kind = getattr(module, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise HarnessError(f"{where} {path}: {module_name} has no torch.nn.Module class named {class_name!r}")
    return kind


def source_of(kind: type) -> Source | None:
    """The source of a class; None where it has no file, as in a notebook."""
    module = sys.modules.get(kind.__module__)
    kept = getattr(module, "__harness_source__", None)
    if isinstance(kept, Source):
        return kept
    try:
        file = Path(inspect.getfile(kind))
        text = file.read_text(encoding="utf-8")
    except (OSError, TypeError, UnicodeDecodeError):
        return None
    *packages, name = kind.__module__.split(".")
    below = [*packages, name, file.name] if file.stem == "__init__" else [*packages, file.name]
    return Source("/".join(below), text)


def _kept_module(source: Source) -> ModuleType:
    """A module made of a source that a run has kept. What it imports itself is found here, as ever."""
    name = f"harness_kept_{source.sha256[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    parts = Path(source.place).with_suffix("").parts
    package = ".".join(parts[:-1])  # so that its relative imports are found
    file = f"<kept with a run: {source.place}>"
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
