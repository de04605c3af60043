"""Durations of trials on this machine, measured by earlier studies. Does not import torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from harness.environment import cache_folder
from harness.experiment import Experiment
from harness.experiment.search import Search
from harness.files import atomic_write

MAX_ENTRIES = 100
_LABELS = ("name", "project", "description", "train.seed")  # fields that do not change the duration


def kind_of(experiment: Experiment, search: Search, *, workers: int = 1, batch_runs: str | None = None) -> str:
    """Return a key of trials with about the same duration: a hash of all fixed values, the search and the machine."""
    fields = {**experiment.flatten(), **search.budget}
    fixed = {path: value for path, value in fields.items() if path not in search.space and path not in _LABELS}
    facts = [fixed, search.describe()["search"], workers, batch_runs, os.cpu_count(), os.environ.get("OMP_NUM_THREADS")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def load(kind: str) -> float | None:
    """Return the duration of a trial of this kind in seconds; None if it was not measured."""
    seconds = _known().get(kind)
    return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None


def save(kind: str, seconds: float) -> None:
    """Save the duration of a trial. Does nothing if the cache folder cannot be written to."""
    known = {name: value for name, value in _known().items() if name != kind}
    entries = [*known.items(), (kind, round(seconds, 2))][-MAX_ENTRIES:]
    with contextlib.suppress(OSError), atomic_write(path(), parents=True) as fresh:
        fresh.write_text(json.dumps(dict(entries), indent=1) + "\n")


def path() -> Path:
    """Return the path of the JSON file with the durations, which the user may delete."""
    return cache_folder() / "trial-times.json"


def _known() -> dict[str, object]:
    """The saved durations; empty if the file is missing or damaged."""
    try:
        known = json.loads(path().read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
