"""What the Python API and the command line share: overrides, labels, times, and which store is meant."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import formatting
from harness.console import to_stderr
from harness.errors import HarnessError, NoStoreError
from harness.experiment.param_names import LONGEST_NAME, LONGEST_TAG, invalid_key_reason

if TYPE_CHECKING:
    from harness.tracking import Store

Overrides = Mapping[str, Any] | Sequence[str]


def overrides_of(
    values: Overrides | None,
    *,
    seed: int | None = None,
    device: str | None = None,
    epochs: int | None = None,
    subset: int | None = None,
) -> list[str]:
    """All changes to an experiment as `path=value`, as --set takes them. values: by dotted path, or in that form."""
    if isinstance(values, Mapping):
        values = [f"{path}={_as_yaml(path, value)}" for path, value in values.items()]
    short = {"train.seed": seed, "train.device": device, "train.epochs": epochs, "data.subset": subset}
    return [*(values or ()), *(f"{path}={value}" for path, value in short.items() if value is not None)]


def _as_yaml(path: str, value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)  # JSON is YAML
    except TypeError as error:
        raise HarnessError(
            f"{path} is {value!r}, a {type(value).__name__}; expected a number, a string, a list or a mapping"
        ) from error


def checked_labels(name: str | None, tags: Sequence[str], note: str | None) -> dict[str, str]:
    """The tags of a run by key. Raises HarnessError where MLflow would refuse or cut them, the name or the note."""
    if name is not None and not 0 < len(name.strip()) <= LONGEST_NAME:
        raise HarnessError(f"--name has {len(name)} characters; expected 1 to {LONGEST_NAME}, not blanks alone")
    if note is not None and len(note) > LONGEST_TAG:
        raise HarnessError(f"--note has {len(note):,} characters; MLflow keeps {LONGEST_TAG:,}")
    found: dict[str, str] = {}
    for tag in tags:
        key, sign, value = tag.partition("=")
        if not sign or not key:
            raise HarnessError(f"--tag {tag!r}: expected key=value, for example --tag student=mia")
        if key.startswith(("harness.", "mlflow.")):
            raise HarnessError(f"--tag {tag!r}: tags that begin with harness. or mlflow. are set by harness itself")
        if reason := invalid_key_reason(key):
            raise HarnessError(f"--tag {tag!r}: {reason}")
        if len(value) > LONGEST_TAG:
            raise HarnessError(f"--tag {key}: the value has {len(value):,} characters; MLflow keeps {LONGEST_TAG:,}")
        if found.setdefault(key, value) != value:
            raise HarnessError(f"--tag {key} is given twice, as {found[key]!r} and as {value!r}: give it once")
    return found


def seconds_of(text: str | None, option: str = "--max-time") -> float | None:
    """`90`, `45s`, `30m`, `2h`, `1h30m` or `hh:mm:ss` in seconds."""
    import re

    if text is None:
        return None
    clock = re.fullmatch(r"(\d+):(\d\d)(?::(\d\d))?", text)
    units = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    parts = (clock or units).groups() if text and (clock or units) else None  # type: ignore[union-attr]
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True)) if parts else 0
    if seconds <= 0:
        raise HarnessError(f"{option} {text!r}: expected a time such as 90s, 30m, 2h, 1h30m or 01:30:00")
    return seconds


def store_at(uri: str | None, *, create: bool = False, message: Callable[[str], None] = to_stderr) -> Store:
    """The store at `uri`, else $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db.

    create: whether the last is created where it does not exist. Raises NoStoreError where it is not.
    """
    from harness.tracking import Store

    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None and not create and not Path("mlruns/mlflow.db").is_file():
        start = formatting.harness_command("run")
        raise NoStoreError(f"there are no runs here: ./mlruns/mlflow.db does not exist; start one with `{start}`")
    return Store.open(uri, create=create, message=message)


def refuse_silent_store(uri: str | None) -> None:
    """Raise HarnessError where the store is a server that does not answer. Imports nothing that takes seconds."""
    from harness.tracking.connect import refuse_silent_server

    refuse_silent_server(uri or os.environ.get("MLFLOW_TRACKING_URI") or "")


def tidy(store: Store, message: Callable[[str], None]) -> None:
    """Clean up after processes that died: ship their spools, and set their runs from RUNNING to KILLED."""
    for line in store.sync(repeat=False):
        message(line)
    for run_id in store.reconcile():
        message(f"run {run_id[:8]} was left RUNNING by a process that is gone; it is KILLED now (see --resume)")
