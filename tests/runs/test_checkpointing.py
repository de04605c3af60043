"""Epochs of many minutes: saved in the middle, stopped there, resumed there, bit for bit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from harness.gan import Report, Training, checkpoints
from harness.runs import checkpointing

from ..commands import Harness, client, run_named, spawn, wait_for

RUN = ("run", "tiny.yaml", "--no-system-metrics", "--epochs", "2", "--set", "data.subset=600")  # 30 steps an epoch
PAUSED = ("--set", "track.checkpoint_minutes=1e-6")  # every pause saves
STEPS = 30
LONG = ("--set", "data.subset=8000", "--set", "train.batch_size=4")  # 2,000 steps

Weights = dict[str, torch.Tensor]
T = TypeVar("T")


def last_checkpoint(name: str, folder: Path) -> checkpoints.Checkpoint:
    run_id = run_named(name).info.run_id
    return checkpoints.load(Path(client().download_artifacts(run_id, "checkpoints/last.pt", str(folder))))


def final_weights(name: str, folder: Path) -> Weights:
    training = last_checkpoint(name, folder).training
    return {
        f"{network}.{key}": value
        for network in ("generator", "discriminator", "average")
        for key, value in (training[network] or {}).items()
    }


@pytest.fixture
def uninterrupted(harness: Harness, tmp_path: Path) -> Weights:
    """The weights of a run without pauses."""
    assert harness(*RUN, "--name", "alone").code == 0
    return final_weights("alone", tmp_path)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause after 7 steps, and after each step from there on."""
    monkeypatch.setattr(checkpointing, "FIRST_STEPS", 7)
    monkeypatch.setattr(checkpointing, "PAUSE_INTERVAL", 0.0)


def after_steps(patch: pytest.MonkeyPatch, count: int, action: Callable[[], None]) -> None:
    """Do something when a training has done so many steps."""
    train_steps = Training.train_steps

    def stepped(self: Training, steps: int) -> Report | None:
        report = train_steps(self, steps)
        if self.steps == count:
            action()
        return report

    patch.setattr(Training, "train_steps", stepped)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 85), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("step", [12, STEPS + 9])
def test_a_signal_ends_the_run_in_the_middle_of_an_epoch(
    harness: Harness,
    tmp_path: Path,
    short_pauses: None,
    uninterrupted: Weights,
    number: signal.Signals,
    code: int,
    step: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        after_steps(patch, step, lambda: os.kill(os.getpid(), number))
        said = harness(*RUN, "--name", "one", *PAUSED)
    epoch, steps = divmod(step, STEPS)
    assert said.code == code, said.err
    assert f"epoch {epoch} of 2 is saved, and {steps} steps of the next" in said.out + said.err
    assert run_named("one").info.status == "KILLED"
    training = last_checkpoint("one", tmp_path).training
    assert (training["epoch"], training["steps"]) == (epoch, steps)

    said = harness("run", "--resume", "one", "--no-system-metrics")
    assert said.code == 0, said.err
    run = run_named("one")
    assert run.info.status == "FINISHED"
    points = client().get_metric_history(run.info.run_id, "loss/generator")
    assert [point.step for point in points] == [1, 2]
    weights = final_weights("one", tmp_path)
    assert all(torch.equal(weights[name], uninterrupted[name]) for name in uninterrupted)


def test_time_that_runs_out_ends_the_run_in_the_middle_of_an_epoch(
    harness: Harness, tmp_path: Path, short_pauses: None, uninterrupted: Weights
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        late = lambda: patch.setattr("harness.runs.session.RunSession.out_of_time", lambda *_: True)  # noqa: E731
        after_steps(patch, STEPS + 9, late)
        said = harness(*RUN, "--name", "one", *PAUSED, "--max-time", "1h")
    assert said.code == 3, said.err
    assert "epoch 1 of 2 is saved, and 9 steps of the next" in said.out + said.err
    assert harness(*RUN, "--name", "one", *PAUSED, "--resume", "auto").code == 0
    weights = final_weights("one", tmp_path)
    assert all(torch.equal(weights[name], uninterrupted[name]) for name in uninterrupted)


def test_without_checkpoint_minutes_a_signal_ends_the_epoch(harness: Harness, short_pauses: None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        after_steps(patch, STEPS, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        said = harness(*RUN, "--name", "one")
    assert said.code == 85, said.err
    assert "epoch 1 of 2 is saved" in said.out + said.err
    assert "of the next" not in said.out + said.err


def test_a_checkpoint_is_saved_once_it_is_old_enough(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, short_pauses: None
) -> None:
    """At the last pause before 10 simulated minutes, and never at a pause soon after a checkpoint."""
    clock, saved = [1000.0], []
    monkeypatch.setattr("harness.runs.checkpointing.time.monotonic", lambda: clock[0])
    save = checkpointing.Checkpointing.save

    def recorded(self: checkpointing.Checkpointing, name: str = "last") -> None:
        saved.append((name, self._training.steps))
        save(self, name)

    monkeypatch.setattr(checkpointing.Checkpointing, "save", recorded)
    train_steps = Training.train_steps

    def slow(self: Training, steps: int) -> Report | None:
        assert steps <= 7
        clock[0] += 60.0  # a minute passes between two pauses
        return train_steps(self, steps)

    monkeypatch.setattr(Training, "train_steps", slow)
    assert harness(*RUN, "--set", "track.checkpoint_minutes=10", "--set", "track.checkpoint_every=9").code == 0
    pauses = [step for _, step in saved]
    assert [name for name, _ in saved] == ["last"] * len(saved)
    assert pauses == [16, 26, 36, 46, 56, 60]


def test_a_run_killed_in_the_middle_of_an_epoch_resumes_there(
    harness: Harness, tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real kill -9, in a run that has saved nothing but the middle of its first epoch."""
    long = ("run", "tiny.yaml", "--no-system-metrics", "--epochs", "1", *LONG)
    process = spawn(*long, "--name", "one", *PAUSED)
    wait_for(process, "training")
    (file,) = wait_until(lambda: list(Path("mlruns").rglob("last.pt")))
    first = file.stat().st_mtime_ns
    wait_until(lambda: file.stat().st_mtime_ns != first)
    process.send_signal(signal.SIGKILL)
    process.wait()
    trained: list[int] = []
    train_steps = Training.train_steps

    def recorded(self: Training, steps: int) -> Report | None:
        trained.append(self.steps)
        return train_steps(self, steps)

    monkeypatch.setattr(Training, "train_steps", recorded)
    assert harness("run", "--resume", "one", "--no-system-metrics").code == 0
    assert 0 < trained[0] < 2000
    assert harness(*long, "--name", "alone").code == 0
    weights, uninterrupted = final_weights("one", tmp_path / "one"), final_weights("alone", tmp_path / "alone")
    assert all(torch.equal(weights[name], uninterrupted[name]) for name in uninterrupted)


def wait_until(condition: Callable[[], T], seconds: float = 60) -> T:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "this did not happen"
        time.sleep(0.02)
    return result
