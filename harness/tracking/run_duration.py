"""The duration of a run, without the time between a stop and the next `--resume`."""

import time
from typing import TYPE_CHECKING

from harness.experiment.tags import Tag

if TYPE_CHECKING:
    from mlflow.entities import Run

_BEFORE = Tag.SECONDS  # duration until the run was last resumed
_RESUMED = Tag.RESUMED  # time of the last resume, in milliseconds since 1970


def seconds_of(run: "Run") -> float:
    """Return the duration of a run until its end, or until now, in seconds."""
    return _seconds(run, _end_time(run) or int(time.time() * 1000))


def resume_tags(run: "Run", last_logged: int) -> dict[str, str]:
    """Return the tags of a run that is resumed now.

    Args:
        run: The run before it is resumed.
        last_logged: When it last logged something, in milliseconds since 1970; used if its end is not known.
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
    """When the run ended; None while it is RUNNING, when MLflow still has the earlier end of a resumed run."""
    return None if run.info.status == "RUNNING" else run.info.end_time
