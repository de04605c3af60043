"""The final status of an MLflow run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import HarnessError, redact
from harness.experiment.tags import Tag
from harness.tracking import RunLog


@contextmanager
def ensure_final_status(log: RunLog) -> Iterator[None]:
    """Give a run its final status, whatever ends the block. One that was resumed but not changed is put back."""
    try:
        yield
    except KeyboardInterrupt:
        if log.before is not None:
            log.restore(timeout=5)
        log.finish("KILLED", timeout=5)
        raise
    except BaseException as error:
        if log.before is not None:
            log.restore()
            raise
        with contextlib.suppress(HarnessError):  # a full disk, or a log that has ended, must not hide what happened
            log.tags({Tag.ERROR: redact(f"{type(error).__name__}: {error}")[:500]})
        log.finish("FAILED", timeout=10)
        raise
