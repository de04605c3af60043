"""How long a trial takes on this machine, as studies before have found. Needs no torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from harness.environment import cache_folder
from harness.experiment import Experiment
from harness.experiment.search_space import Search
from harness.files import atomic_write

MOST = 100  # kinds of trials to remember
_LABELS = ("name", "project", "description", "train.seed")  # leaves that cost nothing


def kind_of(experiment: Experiment, search: Search, *, workers: int = 1, batch_runs: str | None = None) -> str:
    """What trials that take about as long have in common: a hash of all that is not searched, and of the machine."""
    leaves = {**experiment.flatten(), **search.budget}
    fixed = {path: value for path, value in leaves.items() if path not in search.space and path not in _LABELS}
    facts = [fixed, search.describe()["search"], workers, batch_runs, os.cpu_count(), os.environ.get("OMP_NUM_THREADS")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def recall(kind: str) -> float | None:
    """The seconds that a trial of this kind took. None where none was timed."""
    seconds = _known().get(kind)
    return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None


def keep(kind: str, seconds: float) -> None:
    """Remember the seconds of a trial. Does nothing where the cache folder cannot be written to."""
    known = {name: value for name, value in _known().items() if name != kind}
    entries = [*known.items(), (kind, round(seconds, 2))][-MOST:]
    with contextlib.suppress(OSError), atomic_write(file(), parents=True) as fresh:
        fresh.write_text(json.dumps(dict(entries), indent=1) + "\n")


def file() -> Path:
    """Where the times are kept, for people to read and to delete."""
    return cache_folder() / "trial-times.json"


def _known() -> dict[str, object]:
    """What is kept. A damaged file counts as none."""
    try:
        known = json.loads(file().read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
