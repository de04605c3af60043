"""The display of a study: a line per trial and, in a terminal, three live lines below."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from rich.console import Console

from harness.api.display import format_score, format_speed, format_stage, format_time_left
from harness.api.eta import TimeLeft
from harness.api.live_line import Line, Part, Screen, fold
from harness.formatting import duration, format_each

if TYPE_CHECKING:
    from harness.gan import Report, Training
    from harness.media import pictures
    from harness.runs.display import Stage
    from harness.tuning.progress import StudyProgress, TrialSummary

_TRIAL = re.compile(r".*-(\d+)( \(batch of \d+\))?")  # the name of the run of a trial


class StudyTerminal(Screen):
    """The display of `harness tune`: a line per trial that has ended.

    In a terminal, three live lines are below: the progress of the study, the trial in training, and the best values.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._training: Training | None = None
        self._name = ""
        self._report: Report | None = None
        self._stage: Stage | None = None
        self._timer = TimeLeft()
        self._progress: StudyProgress | None = None
        self._started_at, self._ended_before = time.monotonic(), 0
        self._finished = False

    def message(self, text: str) -> None:
        """Show a line."""
        if not text.startswith("scoring epoch"):  # one line per trial is enough
            super().message(text)

    def started(self, training: Training, name: str) -> None:
        """Show that a run begins to train, or is resumed."""
        self._stop_spinner()
        match = _TRIAL.fullmatch(name)
        self._name = f"trial {match[1]}{match[2] or ''}" if match else name
        self._training, self._report, self._stage = training, None, None
        self._timer.start(training)

    def epoch(self, report: Report) -> None:
        """Show an epoch that has ended."""
        self._report = report
        self._timer.epoch(report)

    def stage(self, stage: Stage | None) -> None:
        """Show work other than training. None: training continues."""
        self._stage = stage
        self._timer.stage(stage)

    def grid(self, picture: pictures.Picture, epoch: int) -> None:
        """Show a new sample grid."""

    def ended(self) -> None:
        """Show that the run has ended."""
        self._training = None

    def trial(self, summary: TrialSummary, progress: StudyProgress) -> None:
        """Show a trial that has ended."""
        words = [f"trial {summary.number:<3}", f"{summary.state:8}"]
        if summary.score is not None:
            seeds = f" ({summary.seeds} seeds)" if summary.seeds > 1 else ""
            when = " when pruned" if summary.intermediate else ""
            words.append(f"{progress.metric} {summary.score:.4f}{seeds}{when}")
        others = {name: value for name, value in summary.measured.items() if name != progress.metric}
        words += [f"{name} {value:.4g}" for name, value in others.items()]
        if not summary.feasible:
            words.append("beyond a constraint")
        words += [*format_each(summary.values), *([duration(summary.seconds)] if summary.seconds else [])]
        if progress.best is not None and progress.best.number == summary.number:
            words.append("best so far")
        if summary.remark:
            words.append(summary.remark[:120])
        width = self.console.width if self.console.is_terminal else None
        style = {"failed": "red", "pruned": "dim"}.get(summary.state)
        for line in fold(words, "  ", width, indent=11):
            self.line(line, style=style)
        if not self.is_live():
            self.line(" · ".join(part.text for part in self._summary(progress, best=True)))

    def study_progress(self, progress: StudyProgress) -> None:
        """Show how far the study is."""
        if self._progress is None:
            self._progress, self._finished = progress, False
            self._started_at, self._ended_before = time.monotonic(), progress.ended
            self.start_live(self._live_line, progress.total, progress.ended)
        self._progress = progress

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._finished = True
        super().close()

    def _live_line(self) -> Line:
        progress = self._progress
        assert progress is not None
        below = [self._running(progress)]
        if progress.best is not None and progress.best.score is not None:
            best = f"best {progress.metric} {progress.best.score:.4f} (trial {progress.best.number})"
            below.append([best, *format_each(progress.best.values)])
        parts = [Part("trials"), *self._summary(progress)]
        return Line(progress.ended, parts, " · ", bar=20, below=[each for each in below if each])

    def _running(self, progress: StudyProgress) -> list[str]:
        """Return the trials in training: epoch, last score and speed."""
        training, report = self._training, self._report
        if training is None:
            return [
                f"trial {one.number} epoch {min(one.epoch + 1, one.epochs)}/{one.epochs}"
                + ("" if one.score is None else f" {progress.metric} {one.score:.4f}")
                for one in progress.running_trials
            ]
        epochs = training.experiment.train.epochs
        current = training.epoch if self._stage else training.epoch + 1
        texts = [f"{self._name}  epoch {min(max(1, current), epochs)}/{epochs}"]
        if report is not None and (score := format_score(training, report, best=False)):
            texts.append(score)
        if self._stage is not None:
            texts.append(format_stage(self._stage))
        elif report is not None:
            texts.append(format_speed(report))
        return texts

    def _summary(self, progress: StudyProgress, *, best: bool = False) -> list[Part]:
        """Return how many trials have ended, run, were pruned and have failed, the best score, and the time left."""
        running = max(progress.running, int(self._training is not None))
        parts = [Part(f"{progress.ended}/{progress.total} ended")]
        if running:
            parts.append(Part(f"{running} running", 4))
        if progress.racing:
            parts.append(Part(f"{progress.racing} in the race", 2))
        parts.append(Part(f"{progress.pruned} pruned", 5))
        if progress.failed:
            parts.append(Part(f"{progress.failed} failed", 2))
        if best and progress.best is not None and progress.best.score is not None:
            parts.append(Part(f"best {progress.metric} {progress.best.score:.4f} (trial {progress.best.number})", 1))
        if not self._finished and (left := format_time_left(self._seconds_left(progress))):
            parts.append(Part(left, 3))
        return parts

    def _seconds_left(self, progress: StudyProgress) -> float | None:
        """Estimate the remaining time: the trials in training, and the others at the average speed so far."""
        done, left = progress.ended - self._ended_before, progress.total - progress.ended
        if left <= 0 or progress.race:  # how many seeds follow is not known
            return None
        elapsed = time.monotonic() - self._started_at
        current = None if self._training is None else self._timer.seconds_left()
        if self._training is not None and current is not None:
            members = max(1, min(progress.running, left))
            each = (self._timer.elapsed() + current) / members
            if done:
                each = (elapsed - self._timer.elapsed()) / done
            return current + each * (left - members)
        parts = sum(one.epoch / one.epochs for one in progress.running_trials)
        if self._training is not None or not done + parts:
            return None
        return elapsed / (done + parts) * max(0.0, left - parts)
