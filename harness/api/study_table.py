"""A study in a notebook: its trials as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.api import html
from harness.formatting import duration, format_count

if TYPE_CHECKING:
    from harness.experiment.scores import Direction
    from harness.tuning.progress import StudyProgress, TrialSummary


def study_html(
    progress: StudyProgress, trials: Sequence[TrialSummary], searched: Sequence[str], direction: Direction, *, name: str
) -> str:
    """Return a table of the trials that have ended, the best first.

    Args:
        progress: The progress of the study.
        trials: The trials that have ended.
        searched: Dotted paths of the searched values.
        direction: minimize or maximize.
        name: Name of the study.
    """

    def rank(trial: TrialSummary) -> tuple[bool, float]:
        score = trial.score or 0.0
        return trial.score is None or trial.intermediate, score if direction == "minimize" else -score

    others = list(dict.fromkeys(key for trial in trials for key in trial.measured if key != progress.metric))
    lines = [
        [
            f"{trial.number}{' (front)' if trial.number in progress.front else ''}",
            trial.state,
            "" if trial.score is None else f"{trial.score:.4f}",
            *(_format(trial.measured.get(key, "")) for key in others),
            *(_format(trial.values.get(path)) for path in searched),
            duration(trial.seconds),
        ]
        for trial in sorted(trials, key=rank)
    ]
    ended = f"{progress.ended} of {format_count(progress.requested, 'trial')}, {progress.pruned} pruned"
    header = ["trial", "state", progress.metric, *others, *searched, "time"]
    return f"<div><p>{html.text(f'study {name}: {ended}')}</p>{html.table(header, lines)}</div>"


def _format(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
