"""How long a run was worked on: the time between a stop and the next `--resume` does not count."""

import time
from typing import TYPE_CHECKING

from harness.experiment.tags import Tag

if TYPE_CHECKING:
    from mlflow.entities import Run


def seconds_of(run: "Run") -> float:
    """How long a run was worked on until its end, or until now."""
    return _seconds(run, _end(run) or int(time.time() * 1000))


def resumed_tags(run: "Run", last_sign: int) -> dict[str, str]:
    """The tags of a run that is resumed now. last_sign: when it was last written, if its end is not known."""
    return {
        Tag.SECONDS: f"{_seconds(run, _end(run) or last_sign):.3f}",
        Tag.RESUMED: str(int(time.time() * 1000)),
    }


def _seconds(run: "Run", end: int) -> float:
    tags = run.data.tags
    begun = int(tags.get(Tag.RESUMED, run.info.start_time))
    return float(tags.get(Tag.SECONDS, 0)) + max(0, end - begun) / 1000


def _end(run: "Run") -> int | None:
    """When it ended; a run that is resumed still has the end of before in MLflow."""
    return None if run.info.status == "RUNNING" else run.info.end_time
