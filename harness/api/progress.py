"""The progress of a call: one updated output in a notebook, a live line in a terminal, or nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from harness.gan import Report, Training
    from harness.media.pictures import Picture
    from harness.runs.display import Display, Stage
    from harness.tuning.progress import StudyDisplay, StudyProgress, TrialSummary

Progress: TypeAlias = "bool | Display"
REFRESH = 0.5  # seconds between two updates of a notebook's line


def run_display(progress: Progress) -> Display:
    """Return the display of a run. True: one for this environment. False: one that shows nothing."""
    return cast("Display", _display(progress, "run"))


def study_display(progress: Progress) -> StudyDisplay:
    """Return the display of a study; see `run_display`."""
    return cast("StudyDisplay", _display(progress, "study"))


def _display(progress: Progress, kind: Literal["run", "study"]) -> Any:
    if progress is False:
        return NullStudyDisplay()
    if progress is not True:
        return progress
    if in_notebook():
        return Notebook()
    from rich.console import Console

    from harness.api.display import Terminal
    from harness.api.study_display import StudyTerminal

    console = Console(stderr=True)
    return Terminal(console) if kind == "run" else StudyTerminal(console)


def print_line(display: Display, text: str) -> None:
    """Show a line that stays. A message may be replaced by the next one."""
    getattr(display, "line", display.message)(text)


def replaces_messages(display: Display) -> bool:
    """Return whether the next output replaces a message, as in a notebook or a terminal."""
    return isinstance(display, Notebook) or bool(getattr(getattr(display, "console", None), "is_terminal", False))


def close(display: Display) -> None:
    """Restore the terminal, if the display has changed it."""
    getattr(display, "close", lambda: None)()


@contextlib.contextmanager
def closing(display: Display) -> Iterator[None]:
    """Close the display if an error ends the block."""
    try:
        yield
    except BaseException:
        close(display)
        raise


def finish(display: Display, text: str) -> None:
    """Show in a notebook how the call ended. The command line prints other last lines."""
    if isinstance(display, Notebook):
        display.finished(text)


def in_notebook() -> bool:
    """Return whether this is a Jupyter kernel, such as that of a notebook or of Colab."""
    import sys

    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return ipython is not None and hasattr(ipython, "kernel")


class NullStudyDisplay:
    """A display of runs and studies that shows nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""

    def started(self, training: Training, name: str) -> None:
        """Do nothing."""

    def epoch(self, report: Report) -> None:
        """Do nothing."""

    def stage(self, stage: Stage | None) -> None:
        """Do nothing."""

    def grid(self, picture: Picture, epoch: int) -> None:
        """Do nothing."""

    def ended(self) -> None:
        """Do nothing."""

    def trial(self, summary: TrialSummary, progress: StudyProgress) -> None:
        """Do nothing."""

    def study_progress(self, progress: StudyProgress) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Notebook:
    """The display of a Jupyter cell: a bar, a line of text and the newest sample grid, in one updated output."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._lock = threading.Lock()
        self._training: Training | None = None
        self._report: Report | None = None
        self._name, self._message, self._picture = "", "", ""
        self._started, self._first_step = 0.0, 0
        self._study: StudyProgress | None = None
        self._stop: threading.Event | None = None

    def message(self, text: str) -> None:
        """Show a line."""
        self._message = text
        self._update()

    def started(self, training: Training, name: str) -> None:
        """Show that a run begins to train, or is resumed."""
        self._training, self._name, self._report, self._message = training, name, None, ""
        self._started, self._first_step = time.monotonic(), training.steps
        self._update()
        self._stop = stop = threading.Event()

        def refresh() -> None:
            while not stop.wait(REFRESH):
                self._update()

        threading.Thread(target=refresh, name="progress", daemon=True).start()

    def epoch(self, report: Report) -> None:
        """Show an epoch that has ended."""
        self._report = report

    def stage(self, stage: Stage | None) -> None:
        """Show work other than training. None: training continues."""
        self._message = stage or ""
        self._update()

    def grid(self, picture: Picture, epoch: int) -> None:
        """Show a new sample grid."""
        from harness.media.pictures import data_uri

        self._picture = f'<img alt="samples after epoch {epoch}" src="{data_uri(picture)}">'
        self._update()

    def ended(self) -> None:
        """Show that the run has ended."""
        if self._stop is not None:
            self._stop.set()
        self._update()
        self._training = None

    def trial(self, summary: TrialSummary, progress: StudyProgress) -> None:
        """Show a trial that has ended."""
        self.study_progress(progress)

    def study_progress(self, progress: StudyProgress) -> None:
        """Show how far the study is."""
        self._study = progress
        self._update()

    def close(self) -> None:
        """Restore the terminal."""
        self.ended()

    def finished(self, text: str) -> None:
        """Show the last line: how the call ended."""
        self.ended()
        self._study, self._message = None, text
        self._update()

    def _update(self) -> None:
        from IPython.display import HTML, display

        with self._lock:
            content = HTML(self._html())
            if self._handle is None:
                self._handle = display(content, display_id=True)
            else:
                self._handle.update(content)

    def _html(self) -> str:
        share, parts = self._progress()
        bar = "" if share is None else f'<progress max="1" value="{share:.3f}"></progress> '
        line = f"<div>{bar}{escape(' · '.join(part for part in parts if part))}</div>"
        return f'<div class="harness-progress">{line}{self._picture}</div>'

    def _progress(self) -> tuple[float | None, list[str]]:
        from harness.formatting import brief_number, duration

        parts: list[str] = []
        share: float | None = None
        if self._study is not None:
            now = self._study
            share = now.ended / now.total if now.total else None
            parts += [f"trials {now.ended}/{now.total} ended", f"{now.pruned} pruned" if now.pruned else ""]
            if now.best is not None and now.best.score is not None:
                parts.append(f"best {now.metric} {now.best.score:.4f} (trial {now.best.number})")
        training = self._training
        if training is not None:
            experiment = training.experiment
            total, epochs = experiment.train.epochs * training.steps_per_epoch, experiment.train.epochs
            parts += [self._name, f"epoch {min(training.steps // training.steps_per_epoch + 1, epochs)}/{epochs}"]
            if self._report is not None:
                metrics = self._report.metrics
                primary = experiment.primary
                score = metrics.get(f"quality/{primary.key}")
                parts += [
                    "" if score is None else f"{primary.label} {primary.score.format(score)}",
                    f"loss D {brief_number(metrics['loss/discriminator'])} G {brief_number(metrics['loss/generator'])}",
                ]
            if self._study is None and total:
                share = training.steps / total
                steps = training.steps - self._first_step
                if steps and training.steps < total:
                    left = (time.monotonic() - self._started) / steps * (total - training.steps)
                    parts.append(f"{duration(left)} left")
        if self._message:
            parts.append(self._message)
        return share, parts
