"""How long a run was worked on: the time between a stop and the next `--resume` does not count."""

import time
from typing import TYPE_CHECKING

from harness.experiment.tags import Tag

if TYPE_CHECKING:
    from mlflow.entities import Run

_BEFORE = Tag.SECONDS  # until the run was last resumed
_RESUMED = Tag.RESUMED  # when that was, in milliseconds since 1970


def seconds_of(run: "Run") -> float:
    """Return how long a run was worked on until its end, or until now, in seconds."""
    return _seconds(run, _end_time(run) or int(time.time() * 1000))


def resume_tags(run: "Run", last_logged: int) -> dict[str, str]:
    """Return the tags of a run that is resumed now.

    Args:
        run: As it stood before.
        last_logged: When it last logged something, in milliseconds since 1970; taken if its end is not known.
    """
    return {
        _BEFORE: f"{_seconds(run, _end_time(run) or last_logged):.3f}",
        _RESUMED: str(int(time.time() * 1000)),
    }


def _seconds(run: "Run", end: int) -> float:
    tags = run.data.tags
    start = int(tags.get(_RESUMED, run.info.start_time))
    return float(tags.get(_BEFORE, 0)) + max(0, end - start) / 1000


def _end_time(run: "Run") -> int | None:
    """When it ended; a run that is resumed still has the end of before in MLflow."""
    return None if run.info.status == "RUNNING" else run.info.end_time
