"""Parse and check arguments: experiments, overrides, tags, names, times."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.executors import WorkerOptions, check_executor
from harness.experiment.param_names import LONGEST_NAME, LONGEST_TAG, invalid_key_reason
from harness.interrupts import Deadline

if TYPE_CHECKING:
    from harness.experiment import Experiment

Overrides = Mapping[str, Any] | Sequence[str]


def merge_overrides(
    values: Overrides | None,
    *,
    seed: int | None = None,
    device: str | None = None,
    epochs: int | None = None,
    subset: int | None = None,
) -> list[str]:
    """Return all changes to an experiment as `path=value`, the form that --set takes.

    Args:
        values: Values by dotted path, or texts that already have this form.
        seed: Short for `train.seed`.
        device: Short for `train.device`.
        epochs: Short for `train.epochs`.
        subset: Short for `data.subset`.

    Raises:
        HarnessError: A value is neither a number nor a string, a list or a mapping.
    """
    if isinstance(values, Mapping):
        values = [f"{path}={_to_yaml(path, value)}" for path, value in values.items()]
    shortcuts = {"train.seed": seed, "train.device": device, "train.epochs": epochs, "data.subset": subset}
    return [*(values or ()), *(f"{path}={value}" for path, value in shortcuts.items() if value is not None)]


def as_names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one text or several as a tuple; an empty one for None."""
    return (given,) if isinstance(given, str) else tuple(given or ())


def _to_yaml(path: str, value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)  # JSON is YAML
    except TypeError as error:
        raise HarnessError(
            f"{path} is {value!r}, a {type(value).__name__}; expected a number, a string, a list or a mapping"
        ) from error


def parse_tags(texts: Iterable[str]) -> dict[str, str]:
    """Read `KEY=VALUE` texts, the form that --tag takes.

    Raises:
        HarnessError: A text has another form, or a key is given twice with different values.
    """
    tags: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise HarnessError(f"--tag {text!r}: expected key=value, for example --tag student=mia")
        if tags.setdefault(key, value) != value:
            raise HarnessError(f"--tag {key} is given twice, as {tags[key]!r} and as {value!r}: give it once")
    return tags


def check_labels(name: str | None, tags: Mapping[str, str], note: str | None) -> None:
    """Raise HarnessError if MLflow would reject or truncate the name, a tag or the note of a run."""
    if name is not None and not 0 < len(name.strip()) <= LONGEST_NAME:
        raise HarnessError(f"--name has {len(name)} characters; expected 1 to {LONGEST_NAME}, not only spaces")
    if note is not None and len(note) > LONGEST_TAG:
        raise HarnessError(f"--note has {len(note):,} characters; MLflow stores at most {LONGEST_TAG:,}")
    for key, value in tags.items():
        tag = f"--tag {f'{key}={value}'!r}"
        if not key:
            raise HarnessError(f"{tag}: the key is empty")
        if key.startswith(("harness.", "mlflow.")):
            raise HarnessError(f"{tag}: tags that begin with harness. or mlflow. are set by harness itself")
        if reason := invalid_key_reason(key):
            raise HarnessError(f"{tag}: {reason}")
        if len(value) > LONGEST_TAG:
            raise HarnessError(
                f"--tag {key}: the value has {len(value):,} characters; MLflow stores at most {LONGEST_TAG:,}"
            )


def executor_options(options: Mapping[str, object] | Sequence[str]) -> tuple[str, ...]:
    """Return the options of a scheduler as `KEY=VALUE`, the form that --slurm takes.

    Raises:
        HarnessError: A text has another form.
    """
    texts = [f"{key}={value}" for key, value in options.items()] if isinstance(options, Mapping) else list(options)
    for text in texts:
        key, sign, _ = text.partition("=")
        if not sign or not key.strip("-"):
            raise HarnessError(f"--slurm {text!r}: expected KEY=VALUE, for example --slurm time=2:00:00")
    return tuple(texts)


def worker_options(
    seeds: int | None,
    workers: int | None,
    executor: str,
    slurm: Mapping[str, object] | Sequence[str],
    address: str | None,
) -> WorkerOptions | None:
    """Return where the seeds of a run are trained; None for this process.

    Raises:
        HarnessError: The options do not go together.
    """
    options = executor_options(slurm)
    check_executor(executor, options, address)
    if workers is None and executor == "local" and not options and address is None:
        return None
    if seeds is None:
        what = f"--executor {executor}" if executor != "local" else "--workers, --slurm and --address"
        raise HarnessError(f"{what}: use it with --seeds N; docs/cluster.md has a job script for a single run")
    if workers is not None and not 1 <= workers <= seeds:
        raise HarnessError(f"--workers is {workers}; expected 1 to {seeds}, the number of seeds")
    return WorkerOptions(workers or (1 if executor == "local" else seeds), executor, options, address)


def check_range(name: str, value: float | None, low: float, high: float | None = None) -> None:
    """Raise HarnessError if a value is given and is not in [low, high]. The command line has the same ranges."""
    if value is not None and (value < low or (high is not None and value > high)):
        raise HarnessError(f"{name} is {value:,}; expected {low:,} {'or more' if high is None else f'to {high:,}'}")


def parse_duration(text: str | None, option: str = "--max-time") -> float | None:
    """Read `90`, `45s`, `30m`, `2h`, `1h30m`, `hh:mm:ss` or `auto` as seconds; None stays None.

    `auto` is the time that is left to the Slurm job that this process is part of.

    Raises:
        HarnessError: The text has none of these forms, or it is `auto` outside of Slurm. The message names the option.
    """
    if text is None:
        return None
    if text == "auto":
        return _job_time_left(option)
    clock = re.fullmatch(r"(\d+):(\d\d)(?::(\d\d))?", text)
    units = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    parts = (clock or units).groups() if text and (clock or units) else None  # type: ignore[union-attr]
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True)) if parts else 0
    if seconds <= 0:
        raise HarnessError(f"{option} {text!r}: expected a time such as 90s, 30m, 2h, 1h30m or 01:30:00")
    return seconds


def _job_time_left(option: str) -> float:
    """The seconds that are left to the Slurm job.

    Slurm sets SLURM_JOB_END_TIME to the end of the job, in seconds since 1970. Before version 23 it does not, and
    squeue is asked.
    """
    end, job = os.environ.get("SLURM_JOB_END_TIME", ""), os.environ.get("SLURM_JOB_ID", "")
    if end.isdecimal():
        return max(1.0, int(end) - time.time())
    if not job:
        raise HarnessError(
            f"{option} auto: SLURM_JOB_END_TIME is not set; expected inside a Slurm job, or give a time such as 2h"
        )
    words = ["squeue", "--noheader", f"--jobs={job}", "--format=%L"]
    try:
        left = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        left = ""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d\d)", left)  # days-hours:minutes:seconds
    if found is None:
        raise HarnessError(
            f"{option} auto: the time left to Slurm job {job} is {left or 'not known'}; give a time such as 2h"
        )
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return max(1.0, float(86400 * days + 3600 * hours + 60 * minutes + seconds))


def deadline_after(max_time: str | Deadline | None) -> Deadline:
    """Return the deadline of a call that starts now. A text is read by `parse_duration`, a deadline is returned."""
    if isinstance(max_time, Deadline):
        return max_time
    seconds = parse_duration(max_time)
    return Deadline(None if seconds is None else time.monotonic() + seconds)


@contextlib.contextmanager
def experiment_source(experiment: str | Path | Experiment) -> Iterator[str | Path]:
    """Yield the name or file of an experiment. For an `Experiment`, it is a temporary file that exists in the block."""
    if isinstance(experiment, str | Path):
        yield experiment
        return
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        path = Path(folder) / "experiment.yaml"
        path.write_text(experiment.to_yaml(), encoding="utf-8")
        yield path
