"""Who receives the progress of a study from a worker."""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """Receives the progress of a study."""

    def update(self) -> object:
        """Called after trials are claimed or end."""

    def on_progress(self) -> None:
        """Called after the first epoch that a trial trains."""


class NullMonitor:
    """A monitor for worker processes: their parent process shows the progress."""

    def update(self) -> None:
        """Do nothing."""

    def on_progress(self) -> None:
        """Do nothing."""
