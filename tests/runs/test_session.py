"""A command that only tried changes no run: what fails before the first new epoch leaves it as it stood."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.gan import Report, Training
from harness.runs import prepare
from harness.tracking import Store
from harness.tracking.spool import Spool

from ..commands import Harness, client, run_named
from ..tuning.common import QUIET, SMALL, optuna_trials, the_study

RUN = ("run", "tiny.yaml", "--epochs", "1", "--no-system-metrics")
EXTEND = ("--epochs", "2", "--no-system-metrics")


def study_progress(name: str) -> tuple[object, ...]:
    """All that a command that only tried must leave alone."""
    run = run_named(name)
    return run.info.status, run.info.end_time, run.data.tags, run.data.metrics, run.data.params


def full_disk(patch: pytest.MonkeyPatch) -> None:
    def append(self: Spool, event: object, *, durable: bool = False) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(Spool, "append", append)


def no_room_for_the_spool(patch: pytest.MonkeyPatch) -> None:
    def write_meta(self: Spool, meta: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(Spool, "write_meta", write_meta)


def failing_epoch(error: BaseException) -> Callable[[pytest.MonkeyPatch], None]:
    def patched(patch: pytest.MonkeyPatch) -> None:
        def train_epoch(self: Training) -> Report:
            raise error

        patch.setattr(Training, "__next__", train_epoch)

    return patched


def no_device(patch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object) -> None:
        raise HarnessError("device is cuda, but torch does not find it on this machine")

    patch.setattr(prepare, "resolve", resolve)


def store_fails(patch: pytest.MonkeyPatch) -> None:
    """In the middle of resuming, when the tags of how it ended are gone already."""
    from mlflow import MlflowClient

    def update_run(*_: object, **__: object) -> None:
        raise OSError("gone")

    patch.setattr(MlflowClient, "update_run", update_run)


FAULTS = {
    "full disk": (full_disk, 2, "No space left on device"),
    "no room for the spool": (no_room_for_the_spool, 2, "No space left on device"),
    "first epoch": (failing_epoch(RuntimeError("out of memory")), 1, "RuntimeError: out of memory"),
    "Ctrl-C twice": (failing_epoch(KeyboardInterrupt()), 130, "stopped"),
    "no device": (no_device, 2, "device is cuda, but torch does not find it"),
    "store": (store_fails, 2, "mlflow.db failed: gone"),
}


@pytest.mark.parametrize("status", ["FINISHED", "FAILED"])
def test_what_fails_before_the_first_new_epoch_leaves_the_run_as_it_stood(harness: Harness, status: str) -> None:
    assert harness(*RUN, "--name", "one").code == 0
    if status == "FAILED":  # as a run that diverged and was resumed with more epochs would be
        run_id = run_named("one").info.run_id
        client().set_tag(run_id, "harness.diverged", "loss/generator is nan")
        client().set_terminated(run_id, "FAILED", end_time=1_700_000_000_000)
    before = study_progress("one")
    assert before[0] == status
    for fault, (break_it, code, text) in FAULTS.items():
        with pytest.MonkeyPatch.context() as patch:
            break_it(patch)
            said = harness("run", "--resume", "one", *EXTEND)
        assert (said.code, text in said.err) == (code, True), (fault, said.err)
        assert study_progress("one") == before, fault
    assert not list(Path("mlruns/spool").glob("*/events.jsonl"))
    assert harness("run", "--resume", "one", *EXTEND).code == 0, "and it can still be resumed"
    assert run_named("one").info.status == "FINISHED"
    assert run_named("one").data.tags["harness.epochs"] == "2"


def test_what_is_refused_leaves_the_run_as_it_stood(harness: Harness, workplace: Path) -> None:
    (workplace / "vanishing.py").write_text(
        "import torch\nclass Judge(torch.nn.Module):\n"
        "    def forward(self, pixels): return pixels.flatten(1)[:, :9].float()\n"
    )
    assert harness(*RUN, "--name", "one", "--set", "quality.judge=vanishing:Judge").code == 0
    before = study_progress("one")
    sys.modules.pop("vanishing")
    (workplace / "vanishing.py").unlink()
    resume = ("run", "--resume", "one", "--trust")
    for arguments, text in (
        ((*resume, *EXTEND), "cannot import 'vanishing'"),
        ((*resume, "--epochs", "2", "--set", "generator.nonsense=1"), "unknown key generator.nonsense"),
        ((*resume, "--epochs", "2", "--device", "cuda"), "only train.epochs may change, not train.device"),
        ((*resume,), "is complete: 1 of 1 epoch"),
    ):
        said = harness(*arguments)
        assert (said.code, said.err.count("\n"), text in said.err) == (2, 1, True), said.err
        assert study_progress("one") == before
    run = run_named("one").info
    (file,) = Path(run.artifact_uri.removeprefix("file://")).glob("checkpoints/last.pt")
    file.write_bytes(file.read_bytes()[:1000])
    assert "is not a readable checkpoint" in harness(*resume, *EXTEND).err
    assert study_progress("one") == before


def test_seeds_that_fail_before_an_epoch_leave_their_parent_as_it_stood(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = (*RUN, "--seeds", "2", "--batch-runs", "1", "--name", "all")
    assert harness(*seeds).code == 0
    client().delete_run(run_named("all-seed1").info.run_id)  # which is to be trained anew
    before = study_progress("all")
    with monkeypatch.context() as patch:
        failing_epoch(RuntimeError("out of memory"))(patch)
        assert harness("run", "--resume", "all", "--no-system-metrics").code == 1
    assert study_progress("all") == before
    assert harness("run", "--resume", "all", "--no-system-metrics").code == 0
    assert run_named("all").info.status == "FINISHED"


def test_a_study_that_fails_before_an_epoch_stands_as_it_did(
    harness: Harness, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "small.yaml").write_text(SMALL)
    tune = ("tune", "small.yaml", *QUIET, "--pruner", "none", "--epochs", "1")
    assert harness(*tune, "--trials", "1").code == 0
    before = study_progress("small")

    def start_run(*_: object, **__: object) -> None:
        raise HarnessError("cannot keep a spool")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "start_run", start_run)
        assert harness(*tune, "--trials", "2").code == 2
    assert study_progress("small") == before
    assert harness(*tune, "--trials", "2").code == 0
    assert (the_study().info.status, len(optuna_trials())) == ("FINISHED", 2)


def test_what_fails_after_a_new_epoch_is_a_failed_run(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the run is another one than it was."""
    assert harness(*RUN, "--name", "one").code == 0
    train_epoch = Training.__next__

    def failing(self: Training) -> Report:
        if self.epoch == 2:
            raise RuntimeError("out of memory")
        return train_epoch(self)

    monkeypatch.setattr(Training, "__next__", failing)
    assert harness("run", "--resume", "one", "--epochs", "3", "--no-system-metrics").code == 1
    run = run_named("one")
    assert (run.info.status, run.data.tags["harness.error"]) == ("FAILED", "RuntimeError: out of memory")
