"""What is drawn while a run or a study trains, at 80 and 120 columns and without a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.api.display import Terminal, crop_rows
from harness.api.eta import TimeLeft
from harness.api.live_line import fold
from harness.api.study_display import StudyTerminal
from harness.experiment import Experiment
from harness.runs.display import EpochReport
from harness.tuning.progress import RunningTrial, StudyProgress, TrialSummary

SCORED = {"data.validation": 100, "track.score_every": 1}
VALUES = {
    "optimizer.lr": 0.00793,
    "optimizer.discriminator_lr": 0.00180,
    "generator.latent": 21,
    "discriminator.dropout": 0.183,
}


class Clock:
    """Stands for time.monotonic."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


def console(width: int | None) -> Console:
    """A terminal of that width, or none."""
    if width is None:
        return Console(file=io.StringIO(), force_terminal=False)
    return Console(file=io.StringIO(), width=width, height=24, force_terminal=True, color_system=None)


def written(display: Terminal | StudyTerminal) -> list[str]:
    text = str(display.console.file.getvalue())  # type: ignore[attr-defined]
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line).rstrip() for line in text.splitlines()]


def drawn(display: Terminal | StudyTerminal) -> list[str]:
    """The live lines as they are now."""
    assert display._live is not None
    paper = Console(file=io.StringIO(), width=display.console.width, force_terminal=True, color_system=None)
    paper.print(display._live.get_renderable())
    return [line.rstrip() for line in paper.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def training_of(experiment: Experiment, steps: int = 0) -> Any:
    """What a display reads of a training: ten steps an epoch."""
    images = SimpleNamespace(labels=[0], __len__=lambda: 60)
    return SimpleNamespace(
        experiment=experiment, images=[0] * 60, epoch=steps // 10, steps=steps, steps_per_epoch=10, labels=images
    )


class Images(list[int]):
    labels = (0,)


def advance(training: Any, epochs: int = 1) -> None:
    training.epoch += epochs
    training.steps += epochs * training.steps_per_epoch


def report(epoch: int, kid: float | None = None, *, best: bool = False, seconds: float = 10.0) -> EpochReport:
    metrics = {"loss/discriminator": 1.2904, "loss/generator": 0.157, "speed/images_per_second": 2843.4}
    return EpochReport(epoch, metrics | ({} if kid is None else {"quality/kid": kid}), seconds, None, best)


@contextmanager
def started(tiny: Experiment, width: int | None, **options: Any) -> Iterator[tuple[Terminal, Any]]:
    display = Terminal(console(width), **options)
    training = training_of(tiny)
    training.images = Images([0] * 60)
    display.started(training, "tiny-1234")
    try:
        yield display, training
    finally:
        display.close()


# A run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_line_shows_what_decides_and_fits(tiny: Experiment, width: int) -> None:
    with started(tiny.with_values(SCORED), width) as (display, training):
        advance(training)
        display.epoch(report(1, 0.4321, best=True))
        (line,) = drawn(display)
        assert len(line) < width
        assert "epoch 2/3" in line
        assert "D 1.290 G 0.157  KID 0.4321 best" in line
        assert re.search(r"\d+ s left$", line)
        assert ("2,843 images/s" in line) == (width == 120)
        assert re.search(r"epoch 2/3 [━╸╺ ]{10,} (loss )?D", line), "the bar is not squeezed"
        advance(training)
        display.epoch(report(2, 0.5, best=False))
        assert "KID 0.5000" in drawn(display)[0]
        assert "best" not in drawn(display)[0]
        display.stage("scoring")
        (line,) = drawn(display)
        assert "epoch 2/3" in line, "the epoch that is scored is over"
        assert "scoring" in line
    lines = written(display)
    assert any(line.startswith("epoch 1/3  loss D 1.290 G 0.157  KID 0.4321 best  2,843 images/s") for line in lines)


def test_without_a_terminal_each_epoch_is_a_line(tiny: Experiment) -> None:
    with started(tiny.with_values({**SCORED, "track.score_every": 2}), None) as (display, training):
        advance(training)
        display.epoch(report(1))
        advance(training)
        display.epoch(report(2, 0.1, best=True))
    first, second = (line for line in written(display) if line.startswith("epoch"))
    assert first.startswith("epoch 1/3  loss D 1.290 G 0.157  2,843 images/s  ")
    assert second.startswith("epoch 2/3  loss D 1.290 G 0.157  KID 0.1000 best  2,843 images/s  ")
    assert first.endswith(" s left")


def test_a_line_is_wrapped_at_words_and_a_command_is_not(tiny: Experiment) -> None:
    display = Terminal(console(80))
    display.message("scoring epoch 3 on the test split (10,000 samples, judge mnist-first 4d8f73f9abd6) now")
    display.message(f"continue with `harness run --resume 4d8f73f9 --tracking-uri {'x' * 60}`")
    first, second, command = written(display)
    assert first.endswith("judge mnist-first")
    assert second.startswith("4d8f73f9abd6")
    assert command.endswith("x`")


def test_work_that_begins_has_a_spinner_in_a_terminal() -> None:
    display = Terminal(console(80))
    display.message("loading PyTorch ...")
    assert display._spinner is not None
    display.message("preparing scores ...")
    display.message("ready")
    assert display._spinner is None
    assert written(display)[-1].endswith("ready")
    display.message("timing ...")
    display.close()
    assert display._spinner is None
    plain = Terminal(console(None))
    plain.message("loading PyTorch ...")
    assert plain._spinner is None
    assert written(plain) == ["loading PyTorch ..."]


# Time left -------------------------------------------------------------------------------------------------------


BETWEEN = {"scoring": 4, "saving": 1, "drawing": 2}  # seconds between two epochs


def work(remaining: TimeLeft, clock: Clock, stage: Any, seconds: float) -> None:
    """Work other than training that takes so long."""
    remaining.stage(stage)
    clock.now += seconds
    remaining.stage(None)


def test_the_time_left_counts_scores_and_pictures(tiny: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    training = training_of(tiny.with_values({**SCORED, "quality.samples": 90}))
    training.images = Images()
    remaining = TimeLeft()
    remaining.start(training)
    assert remaining.seconds_left() is None
    clock.now += 5
    training.steps += 5
    early = remaining.seconds_left()
    assert early is not None
    assert early > 25, "25 steps, and what comes after them"
    advance(training)
    training.steps = 10
    remaining.epoch(report(1, seconds=10.0))
    for stage, seconds in BETWEEN.items():
        work(remaining, clock, stage, seconds)
    end = 4 * 1.5 * 90 / 30 + 4 + 0.5  # scores of three times as many samples; models; MLflow
    assert remaining.seconds_left() == pytest.approx(2 * (10 + sum(BETWEEN.values())) + end)
    for _ in range(2):
        advance(training)
        remaining.epoch(report(2, seconds=10.0))
        for stage, seconds in BETWEEN.items():
            work(remaining, clock, stage, seconds)
    assert remaining.seconds_left() == pytest.approx(end)
    work(remaining, clock, "exporting", 3)
    remaining.stage("final scoring")
    clock.now += 10
    assert remaining.seconds_left() == pytest.approx(18 - 10 + 0.5)
    clock.now += 100
    assert remaining.seconds_left() == pytest.approx(0.5), "longer than expected: nothing is promised"
    clock.now += 8
    remaining.stage(None)
    remaining.start(training_of(training.experiment))
    assert remaining.expected("final scoring") == pytest.approx(118), "the next run knows how long that took"


def test_several_runs_that_are_trained_as_one_add_up(tiny: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    training = training_of(tiny, steps=10)
    remaining = TimeLeft()
    remaining.start(training)
    for _ in range(3):
        remaining.stage("drawing")
        clock.now += 2
        remaining.stage(None)
    assert remaining.expected("drawing") == pytest.approx(6)


def test_no_line_ever_says_that_nothing_is_left(tiny: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with started(tiny.with_values(SCORED), 80) as (display, training):
        advance(training, 3)
        display.epoch(report(3, 0.1, best=True))
        display.stage("final scoring")
        seen = []
        for _ in range(20):
            clock.now += 1
            seen += drawn(display)
        assert all("scoring" in line for line in seen)
        assert any(" left" in line for line in seen)
        assert not any(" 0 s left" in line for line in seen)


# A study ---------------------------------------------------------------------------------------------------------


def tried(number: int, score: float | None = 0.0123, state: Any = "complete") -> TrialSummary:
    return TrialSummary(number, state, VALUES, score, state == "pruned", 40.0, None, None)


def study_progress(ended: int, *, running: int = 1, best: TrialSummary | None = None, **more: Any) -> StudyProgress:
    return StudyProgress("kid", 20, 20, ended, 0, 0, running, best, None, **more)


@pytest.mark.parametrize("width", [80, 120])
def test_a_study_shows_its_trial_and_its_best_values_on_lines_of_their_own(tiny: Experiment, width: int) -> None:
    display = StudyTerminal(console(width))
    display.study_progress(study_progress(0, running=0))
    training = training_of(tiny.with_values(SCORED))
    training.images = Images()
    display.started(training, "small-3-3")
    head, *below = drawn(display)
    assert "1 running" in head, "even where the storage does not know it yet"
    assert below == ["trial 3  epoch 1/3"]
    advance(training)
    display.epoch(report(1, 0.045, best=True))
    head, running = drawn(display)
    assert re.search(r"trials [━╸╺ ]{10,20} 0/20 ended · 1 running · .* left$", head), (
        "an estimate from the first epoch on"
    )
    assert running == "trial 3  epoch 2/3  KID 0.0450  2,843 images/s"
    display.ended()
    best = tried(0)
    display.trial(best, study_progress(1, best=best))
    display.study_progress(study_progress(1, best=best))
    head, *below = drawn(display)
    assert re.match(r"trials [━╸╺ ]{10,20} 1/20 ended", head), "the best values do not squeeze the bar"
    assert all(len(line) < width for line in [head, *below])
    text = "\n".join(below)
    assert text.startswith("best kid 0.0123 (trial 0)  optimizer.lr 0.00793")
    for path, value in {**VALUES, "optimizer.discriminator_lr": "0.0018"}.items():
        assert f"{path} {value}" in text, "no value is torn from its name"
    display.close()
    lines = written(display)
    above = "\n".join(lines)
    assert "trial 0    complete  kid 0.0123  optimizer.lr 0.00793" in above
    assert "discriminator.dropout 0.183" in above
    assert all(len(line) <= width for line in lines)


def test_trials_of_other_processes_are_shown_by_their_last_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    display = StudyTerminal(console(80))
    display.study_progress(study_progress(0, running=0))
    clock.now += 30
    display.study_progress(
        study_progress(0, running=2, running_trials=(RunningTrial(0, 1, 3, 0.5), RunningTrial(1, 0, 3, None)))
    )
    head, working = drawn(display)
    assert "2 running" in head
    assert "29 min 30 s left" in head, "a third of a trial took 30 s"
    assert working == "trial 0 epoch 2/3 kid 0.5000  trial 1 epoch 1/3"
    display.close()


def test_without_a_terminal_the_best_values_are_not_repeated() -> None:
    display = StudyTerminal(console(None))
    display.study_progress(study_progress(0, running=0))
    best = tried(0)
    display.trial(best, study_progress(1, best=best))
    display.trial(tried(1, 0.5), study_progress(2, best=best))
    first, summary, second, again = written(display)
    assert "optimizer.lr 0.00793" in first
    assert first.endswith("best so far")
    assert "optimizer.lr" in second
    assert "best" not in second
    for line in (summary, again):
        assert "best kid 0.0123 (trial 0)" in line
        assert "optimizer.lr" not in line


# Shapes ----------------------------------------------------------------------------------------------------------


def test_pieces_are_never_broken() -> None:
    pieces = ["trial 0", *(f"some.leaf_{index} 0.123" for index in range(9))]
    for width in (30, 40, 79):
        lines = fold(pieces, "  ", width, indent=4)
        assert max(map(len, lines)) <= width
        assert [piece for line in lines for piece in line.strip().split("  ")] == pieces
    assert fold(pieces, "  ", None) == ["  ".join(pieces)]


@pytest.mark.parametrize(("columns", "lines", "rows"), [(80, 20, 4), (120, 36, 5), (400, 200, 10), (40, 1, 1)])
def test_a_preview_loses_whole_rows_to_fit_the_terminal(columns: int, lines: int, rows: int) -> None:
    grid = np.zeros((302, 302), np.uint8)
    part, width = crop_rows(grid, columns, lines)
    assert part.shape == (rows * 30 + 2, 302)
    assert width == min(columns, 302)
    assert -(-round(part.shape[0] * width / 302) // 2) <= max(lines, 3)
    assert crop_rows(grid, columns, None)[0].shape == (302, 302)


def test_a_preview_fits_the_terminal(tiny: Experiment) -> None:
    with started(tiny, 80, preview=True) as (display, _):
        before = len(written(display))
        display.grid(np.full((302, 302), 128, np.uint8), 1)
        blocks = [line for line in written(display)[before:] if "▀" in line]
    assert 10 <= len(blocks) <= 20
    assert {len(line) for line in blocks} == {80}
