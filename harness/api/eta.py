"""Estimate the remaining time of a run: steps, scores, sample grids, checkpoints, and the work at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.gan import Report, Training
    from harness.runs.display import Stage

SAMPLES_PER_SECOND = 1_000  # speed of scoring, until it has been timed
# Seconds of the other stages, until they have been timed.
GUESSES: dict[Stage, float] = {"drawing": 0.5, "saving": 0.1, "exporting": 4.0, "finishing": 0.5}
AT_THE_END: tuple[Stage, ...] = ("exporting", "final scoring", "finishing")
FINAL_FACTOR = 1.5  # time per sample of final scores, relative to scores during training: they compare all pairs


class TimeLeft:
    """Times the stages of a run, and estimates the remaining time. Later runs of the command use the same timings."""

    def __init__(self) -> None:
        self._training: Training | None = None
        self._last_seconds: dict[Stage, float] = {}
        self._sums: dict[Stage, float] = {}  # summed over the runs of a batch
        self._sums_step = -1
        self._stage: Stage | None = None
        self._since = self._started_at = 0.0
        self._steps = 0
        self._per_step: float | None = None
        self._done: set[Stage] = set()

    def start(self, training: Training) -> None:
        """Start the clock: a run begins to train, or is resumed."""
        self._training, self._stage, self._per_step = training, None, None
        self._started_at = self._since = time.monotonic()
        self._steps, self._sums_step = training.steps, -1
        self._done = set()

    def epoch(self, report: Report) -> None:
        """Note how long an epoch took."""
        if self._training is not None:
            self._per_step = report.seconds / max(1, self._training.steps_per_epoch)

    def stage(self, stage: Stage | None) -> None:
        """Note that work other than training begins. None: it has ended."""
        now = time.monotonic()
        if self._stage is not None:
            steps = -1 if self._training is None else self._training.steps
            if steps != self._sums_step:
                self._sums, self._sums_step = {}, steps
            self._sums[self._stage] = self._sums.get(self._stage, 0.0) + now - self._since
            self._last_seconds[self._stage] = self._sums[self._stage]
            self._done.add(self._stage)
        if stage is None and self._training is not None:
            self._steps = self._training.steps
        self._stage, self._since = stage, now

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._started_at

    def seconds_left(self) -> float | None:
        """Return the seconds until the run has ended. None: no step is done yet."""
        training = self._training
        if training is None:
            return None
        experiment, now = training.experiment, time.monotonic()
        epochs, track = experiment.train.epochs, experiment.track
        steps = epochs * training.steps_per_epoch - training.steps
        per_step = self._per_step
        if per_step is None and training.steps > self._steps and self._stage is None:
            per_step = (now - self._since) / (training.steps - self._steps)
        if per_step is None and steps:
            return None
        remaining = range(training.epoch + 1, epochs + 1)
        left = steps * (per_step or 0.0)
        if track.score_every and self._scores():
            left += self.expected("scoring") * sum(e == epochs or e % track.score_every == 0 for e in remaining)
        left += self.expected("drawing") * sum(e == epochs or e % experiment.samples_every == 0 for e in remaining)
        left += self.expected("saving") * sum(e == epochs or e % track.checkpoint_every == 0 for e in remaining)
        left += sum(self.expected(stage) for stage in AT_THE_END if stage not in self._done)
        if self._stage is not None:
            spent = now - self._since
            expected = self.expected(self._stage)
            left += max(0.0, expected - spent) - (expected if self._is_pending(self._stage) else 0.0)
        return max(0.0, left)

    def _is_pending(self, stage: Stage) -> bool:
        return stage in AT_THE_END and stage not in self._done

    def _scores(self) -> bool:
        assert self._training is not None
        judge = self._training.experiment.quality.judge
        return judge is not None and (":" in judge or self._training.images.labels is not None)

    def expected(self, stage: Stage) -> float:
        """Estimate the seconds of a stage: as it took last time, else scaled from other scores, else a guess."""
        if stage in self._last_seconds:
            return self._last_seconds[stage]
        if stage not in ("scoring", "final scoring"):
            return GUESSES[stage]
        if not self._scores():
            return 0.0
        assert self._training is not None
        quality = self._training.experiment.quality
        if stage == "scoring":
            return quality.samples_while_training / SAMPLES_PER_SECOND
        if "scoring" in self._last_seconds:
            return FINAL_FACTOR * self._last_seconds["scoring"] * quality.samples / quality.samples_while_training
        return quality.samples / SAMPLES_PER_SECOND
