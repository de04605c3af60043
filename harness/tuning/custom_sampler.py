"""Optuna samplers of the user, by dotted path, and those of OptunaHub.

    --sampler my_samplers:Halton                              # a class or function in my_samplers.py
    --sampler optunahub:samplers/auto_sampler:AutoSampler     # a package of https://hub.optuna.org

A sampler is created for each trial, with `seed=` if it takes a seed. So it has to read the history from the study, as
Optuna's samplers do.
"""

from __future__ import annotations

import inspect
from typing import Any

from optuna.samplers import BaseSampler

from harness.errors import HarnessError, brief
from harness.experiment import trust
from harness.experiment.custom import import_module

OPTUNAHUB = "optunahub"


def is_custom(sampler: str) -> bool:
    """Whether a sampler is named by a dotted path or by a package of OptunaHub."""
    return ":" in sampler


def trusted_name(path: str) -> str:
    """Return the name of a custom sampler as `trust` knows it: `package.module:Name`."""
    place, _, name = path.rpartition(":")
    return f"{place.replace(':', '.').replace('/', '.')}:{name}"


def build_sampler(path: str, seed: int) -> BaseSampler:
    """Create the sampler `package.module:Name`, or `optunahub:PACKAGE:Name`.

    Raises:
        HarnessError: It cannot be imported or created, is no Optuna sampler, or a storage names it and it is not
            trusted.
    """
    trust.check(trusted_name(path), "--sampler")
    place, _, name = path.rpartition(":")
    try:
        factory: Any = getattr(_load(place), name, None)
        if not callable(factory):
            raise HarnessError(f"--sampler {path}: {place} has no class or function named {name!r}")
        takes_seed = "seed" in inspect.signature(factory).parameters
        sampler = factory(seed=seed) if takes_seed else factory()
    except HarnessError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise HarnessError(f"--sampler {path}: cannot be created: {brief(error)}") from error
    if not isinstance(sampler, BaseSampler):
        raise HarnessError(
            f"--sampler {path}: it is of type {type(sampler).__name__}, expected an optuna.samplers.BaseSampler"
        )
    return sampler


def _load(place: str) -> Any:
    hub, _, package = place.partition(":")
    if package and hub == OPTUNAHUB:
        try:
            import optunahub
        except ImportError as error:
            raise HarnessError("samplers of OptunaHub need its package: pip install optunahub") from error
        return optunahub.load_module(package)
    return import_module(place)
