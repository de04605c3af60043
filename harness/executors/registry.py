"""The executors by name, imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.executors.base import Executor

EXECUTORS: Mapping[str, str] = {
    "local": "harness.executors.local:LocalExecutor",
    "slurm": "harness.executors.slurm:SlurmExecutor",
    "ray": "harness.executors.ray:RayExecutor",
}


def check_executor(name: str, options: Sequence[str] = (), address: str | None = None) -> None:
    """Raise HarnessError for a name that is no executor, and for options that belong to another one."""
    if name not in EXECUTORS:
        raise HarnessError(f"--executor {name}: expected one of {', '.join(EXECUTORS)}")
    if options and name != "slurm":
        raise HarnessError(f"--slurm {options[0]}: use it with --executor slurm")
    if address and name != "ray":
        raise HarnessError(f"--address {address}: use it with --executor ray")


def open_executor(
    name: str,
    *,
    workers: int,
    folder: Path = Path("mlruns"),
    options: Sequence[str] = (),
    address: str | None = None,
) -> Executor:
    """Return an executor that is ready to start workers.

    Args:
        name: A key of EXECUTORS.
        workers: Number of workers that share what this executor has, such as the cores of this machine.
        folder: Where an executor writes its own files, such as the logs of jobs. Workers must be able to read it.
        options: Options for the scheduler, as `--slurm KEY=VALUE` takes them.
        address: Address of the cluster, as `--address` takes it.

    Raises:
        HarnessError: The name is unknown, its extra is not installed, the options are wrong, or nothing answers there.
    """
    check_executor(name, options, address)
    module, _, attribute = EXECUTORS[name].partition(":")
    create = getattr(importlib.import_module(module), attribute)
    executor: Executor = create(workers=workers, folder=folder, options=options, address=address)
    return executor
