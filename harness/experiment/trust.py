"""Trust: which custom code may be imported.

An experiment can name classes as `package.module:Class`: networks and judges. Importing a module runs it. Names that
the user gives (on the command line, or in an experiment file) are trusted. Names from a store (a run's experiment.yaml
or checkpoint, a study's settings) may come from somebody else: they are imported only with `--trust`.

Names from a store are marked where they are read (`experiment.from_store`); `check` is called before every import.
"""

from __future__ import annotations

import importlib.machinery
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import HarnessError

NAME = re.compile(r"[\w.]+:\w+")


class UntrustedError(HarnessError):
    """A store, but not the user, names code: it was not imported."""


@dataclass
class Policy:
    """What may be imported.

    Attributes:
        trust: everything that a store names.
        stored_code: use the source code that is stored with a run, not the module found here.
        strict: import only `allowed` names, as on the command line. Otherwise (in a notebook) only names that were read
            from a store are refused.
        allowed: names that the user gave.
        stored: names read from a store, with what they were read from and all its names.
    """

    trust: bool = False
    stored_code: bool = False
    strict: bool = False
    allowed: set[str] = field(default_factory=set)
    stored: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)


_policy = Policy()


def get_policy() -> Policy:
    """Return the policy of this process."""
    return _policy


def set_policy(new: Policy) -> None:
    """Replace the policy of this process, at the start of a command or of a worker process."""
    global _policy
    _policy = replace(new, allowed=set(new.allowed), stored=dict(new.stored))


@contextmanager
def trusting() -> Iterator[None]:
    """Import what stored runs name within this context, as with `--trust`; for notebooks."""
    before = _policy.trust
    _policy.trust = True
    try:
        yield
    finally:
        _policy.trust = before


def allow(names: Iterable[object]) -> None:
    """Trust these names, which the user gave. Values that are not `package.module:Class` are ignored."""
    _policy.allowed.update(name for name in names if isinstance(name, str) and NAME.fullmatch(name))


def mark_untrusted(origin: str, names: Mapping[str, str]) -> None:
    """Remember that names, by the field that holds each, came from a store; `origin`: what they were read from."""
    for name in names.values():
        _policy.stored[name] = (origin, dict(names))


def check(name: str, field_path: str) -> None:
    """Check that the class `name`, which the field `field_path` names, may be imported.

    Raises:
        UntrustedError: it must not be imported.
    """
    if _policy.trust or name in _policy.allowed or not (_policy.strict or name in _policy.stored):
        return
    origin, names = _policy.stored.get(name, ("the store", {field_path: name}))
    listed = ", ".join(f"{path} {other} ({_where(other)})" for path, other in names.items())
    raise UntrustedError(
        f"{origin} names code to import: {listed}. It was not imported, because importing runs it: "
        "if you trust it, add --trust"
    )


def _where(name: str) -> str:
    module = name.partition(":")[0]
    found = find_module(module)
    return f"from {found}" if found else f"no module {module} is found here"


def find_module(module: str) -> Path | None:
    """Return the file that `import module` would run; None if there is none. Imports nothing.

    `importlib.util.find_spec` would import the parent packages of a dotted name.
    """
    known = getattr(sys.modules.get(module), "__file__", None)
    if known:
        return Path(known)
    here = str(Path.cwd())
    path: list[str] | None = sys.path if here in sys.path else [*sys.path, here]
    spec = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:count]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def _spec(name: str, path: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        builtin = finder in (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter)
        spec = find(name, None if builtin and "." not in name else path) if find else None
        if spec is not None:
            found: importlib.machinery.ModuleSpec = spec
            return found
    return None
