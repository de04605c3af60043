"""When a run saves checkpoints: every few epochs, at its end, and in the middle of an epoch of many minutes."""

from __future__ import annotations

import time

from harness.gan import Training
from harness.interrupts import Deadline
from harness.runs.artifacts import BestEpoch, save_checkpoint
from harness.runs.display import Display, show_stage
from harness.tracking import RunLog

PAUSE_INTERVAL = 3.0  # seconds of training between two pauses of a long epoch
FIRST_STEPS = 10  # before the first pause, when the speed is not known


class Checkpointing:
    """Saves the checkpoints of one run.

    With `track.checkpoint_minutes`, epochs are paused every few seconds to look for signals and for the time.
    """

    def __init__(
        self, run_log: RunLog, training: Training, best: BestEpoch, deadline: Deadline, display: Display
    ) -> None:
        self._run_log, self._training, self._best = run_log, training, best
        self._deadline, self._display = deadline, display
        self._minutes = training.experiment.track.checkpoint_minutes
        self._saved_at = time.monotonic()
        self._saved_epoch: int | None = None  # the last epoch whose end is saved
        self._last_pause: tuple[float, int] | None = None  # when the last pause ended, and after how many steps

    @property
    def pauses_epochs(self) -> bool:
        """Whether a run can be saved and stopped in the middle of an epoch."""
        return self._minutes is not None

    def steps_until_pause(self) -> int:
        """Return how many steps to train before the next pause: all of an epoch, or those of a few seconds."""
        if not self.pauses_epochs:
            return self._training.steps_per_epoch
        now, done = time.monotonic(), self._training.steps
        steps = FIRST_STEPS
        if self._last_pause is not None and done > self._last_pause[1] and now > self._last_pause[0]:
            steps = max(1, int(PAUSE_INTERVAL * (done - self._last_pause[1]) / (now - self._last_pause[0])))
        self._last_pause = (now, done)
        return steps

    def is_due(self, epoch: int) -> bool:
        """Whether a checkpoint is due at the end of an epoch."""
        return epoch % self._training.experiment.track.checkpoint_every == 0

    def is_due_in_epoch(self) -> bool:
        """Whether the last checkpoint is older than `track.checkpoint_minutes`."""
        return self._minutes is not None and time.monotonic() - self._saved_at >= 60 * self._minutes

    def save(self, name: str = "last") -> None:
        """Save the state of the training."""
        with self._deadline.measure("save"), show_stage(self._display, "saving"):
            save_checkpoint(self._run_log, self._training, self._best, name=name)
        self._saved_at = time.monotonic()

    def has_saved(self, epoch: int) -> bool:
        """Whether the state after this epoch is saved."""
        return self._saved_epoch == epoch

    def save_end_of(self, epoch: int) -> None:
        """Save the state after an epoch, once."""
        if self._saved_epoch != epoch:
            self.save()
            self._saved_epoch = epoch
