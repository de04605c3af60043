"""How long a run still takes: its steps, the scores and pictures between its epochs, and the work at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.gan import Report, Training
    from harness.runs.session import Stage

SCORED = 1_000  # samples scored in a second, until scores have been timed
# Seconds of the other stages until they have been timed.
GUESSES: dict[Stage, float] = {"drawing": 0.5, "saving": 0.1, "exporting": 4.0, "finishing": 0.5}
AT_THE_END: tuple[Stage, ...] = ("exporting", "final scoring", "finishing")
DEARER = 1.5  # a sample of the final scores against one of those between epochs: distances are between all pairs


class Remaining:
    """Times a run as it goes, and estimates the rest. What it has timed also counts for the next run of a command."""

    def __init__(self) -> None:
        self._training: Training | None = None
        self._took: dict[Stage, float] = {}
        self._sums: dict[Stage, float] = {}  # of several runs that are trained as one
        self._sums_at = -1
        self._stage: Stage | None = None
        self._since = self._began = 0.0
        self._steps = 0
        self._per_step: float | None = None
        self._done: set[Stage] = set()

    def start(self, training: Training) -> None:
        """A run begins to train, or is resumed."""
        self._training, self._stage, self._per_step = training, None, None
        self._began = self._since = time.monotonic()
        self._steps, self._sums_at = training.steps, -1
        self._done = set()

    def epoch(self, report: Report) -> None:
        """An epoch is trained."""
        if self._training is not None:
            self._per_step = report.seconds / max(1, self._training.steps_per_epoch)

    def stage(self, stage: Stage | None) -> None:
        """Other work than training begins, or ends (None)."""
        now = time.monotonic()
        if self._stage is not None:
            steps = -1 if self._training is None else self._training.steps
            if steps != self._sums_at:
                self._sums, self._sums_at = {}, steps
            self._sums[self._stage] = self._sums.get(self._stage, 0.0) + now - self._since
            self._took[self._stage] = self._sums[self._stage]
            self._done.add(self._stage)
        if stage is None and self._training is not None:
            self._steps = self._training.steps
        self._stage, self._since = stage, now

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def seconds_left(self) -> float | None:
        """Seconds until the run has ended. None before its first step."""
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
        coming = range(training.epoch + 1, epochs + 1)
        left = steps * (per_step or 0.0)
        if track.score_every and self._scores():
            left += self.expected("scoring") * sum(e == epochs or e % track.score_every == 0 for e in coming)
        left += self.expected("drawing") * sum(e == epochs or e % experiment.samples_every == 0 for e in coming)
        left += self.expected("saving") * sum(e == epochs or e % track.checkpoint_every == 0 for e in coming)
        left += sum(self.expected(stage) for stage in AT_THE_END if stage not in self._done)
        if self._stage is not None:
            spent = now - self._since
            expected = self.expected(self._stage)
            left += max(0.0, expected - spent) - (expected if self._counted(self._stage) else 0.0)
        return max(0.0, left)

    def _counted(self, stage: Stage) -> bool:
        return stage in AT_THE_END and stage not in self._done

    def _scores(self) -> bool:
        assert self._training is not None
        judge = self._training.experiment.quality.judge
        return judge is not None and (":" in judge or self._training.images.labels is not None)

    def expected(self, stage: Stage) -> float:
        """Seconds that a stage takes: as long as the last time, else as other work says, else a guess."""
        if stage in self._took:
            return self._took[stage]
        if stage not in ("scoring", "final scoring"):
            return GUESSES[stage]
        if not self._scores():
            return 0.0
        assert self._training is not None
        quality = self._training.experiment.quality
        if stage == "scoring":
            return quality.samples_while_training / SCORED
        if "scoring" in self._took:
            return DEARER * self._took["scoring"] * quality.samples / quality.samples_while_training
        return quality.samples / SCORED
