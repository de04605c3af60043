"""Which code of the user's own may be imported.

An experiment can name classes as `package.module:Class`: networks and judges. Importing a module runs it. Names that
the user gives (on the command line, or in an experiment file that they name) are trusted. Names that come from a store
(a run's experiment.yaml or checkpoint, a study's settings) may be somebody else's: they are imported only with
`--trust`.

Experiments from a store are marked where they are read (`experiment.from_store`); `check` is asked before every import.
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
    """Code that a store names and the user does not: it was not imported."""


@dataclass
class Policy:
    """What may be imported.

    trust: whatever a store names. stored_code: the source that a run keeps is used, not the one found here.
    strict: only names that were given; the command line sets it. Without it (in a notebook) only names that were read
    from a store are refused.
    given: names that the user gave. stored: names read from a store, with what they were read from and all its names.
    """

    trust: bool = False
    stored_code: bool = False
    strict: bool = False
    given: set[str] = field(default_factory=set)
    stored: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)


_policy = Policy()


def policy() -> Policy:
    """The policy of this process."""
    return _policy


def use(new: Policy) -> None:
    """Replace the policy of this process: at the start of a command, or in a worker that inherits another's."""
    global _policy
    _policy = replace(new, given=set(new.given), stored=dict(new.stored))


@contextmanager
def trusting() -> Iterator[None]:
    """For notebooks: meanwhile, import what stored runs name, as `--trust` does."""
    before = _policy.trust
    _policy.trust = True
    try:
        yield
    finally:
        _policy.trust = before


def give(names: Iterable[object]) -> None:
    """Trust these names: the user gave them. What is no `package.module:Class` is left out."""
    _policy.given.update(name for name in names if isinstance(name, str) and NAME.fullmatch(name))


def mark(origin: str, names: Mapping[str, str]) -> None:
    """Remember names, by the leaf that holds each, that came from a store. origin: what they were read from."""
    for name in names.values():
        _policy.stored[name] = (origin, dict(names))


def check(name: str, leaf: str) -> None:
    """Raise UntrustedError where the class `name`, which `leaf` of an experiment holds, must not be imported."""
    if _policy.trust or name in _policy.given or not (_policy.strict or name in _policy.stored):
        return
    origin, names = _policy.stored.get(name, ("the store", {leaf: name}))
    listed = ", ".join(f"{path} {other} ({_where(other)})" for path, other in names.items())
    raise UntrustedError(
        f"{origin} names code to import: {listed}. It was not imported, because importing runs it: "
        "if you trust it, add --trust"
    )


def _where(name: str) -> str:
    module = name.partition(":")[0]
    found = locate(module)
    return f"from {found}" if found else f"no module {module} is found here"


def locate(module: str) -> Path | None:
    """The file that `import module` would run; None where it has none, or is not found. Nothing is imported.

    importlib.util.find_spec would import the parent packages of a dotted name.
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
