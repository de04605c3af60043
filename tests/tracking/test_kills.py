"""A run that is killed anywhere and resumed holds what an undisturbed one holds: everything, and everything once."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest

from harness import cli
from tests.commands import Harness, client, run_named
from tests.faults_lib.kills import Process, life
from tests.faults_lib.runs import RUN
from tests.faults_lib.snapshot import differences, snapshot

pytestmark = pytest.mark.usefixtures("small_models")


def kill(
    monkeypatch: pytest.MonkeyPatch, killed: Callable[[Process], AbstractContextManager[None]], *arguments: str
) -> str:
    """Run a command until it is killed; returns the step that it did not reach."""
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    with life("request create_run" if "--resume" not in arguments else "") as process, killed(process):
        cli.main()
    return process.points[-1]


def before(step: str, number: int = 1, **more: Any) -> Callable[[Process], AbstractContextManager[None]]:
    return lambda process: process.killed_before(step, number, **more)


# The newest checkpoint is written, the store has the one before it, and nothing says that there is a newer one.
UNLOGGED = before("append artifact checkpoints/last.pt", 3, shipped="last.pt")


def after_a_kill(harness: Harness, name: str) -> dict[str, Any] | None:
    """Resume the run; what it then holds, or None where it was killed before there was anything to resume."""
    said = harness("run", "--resume", name, "--no-system-metrics")
    if "has no last checkpoint" in said.err or "there is no run" in said.err:
        return None
    assert said.code == 0 or "is complete" in said.err, said.err
    return snapshot(client(), run_named(name).info.run_id)


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("append artifact checkpoints/best.pt", 1),
        ("append metrics quality/kid 2", 1),
        ("append artifact samples/epoch-0002.png", 1),
        ("append image neighbours 2", 1),  # kill-pictures: `samples` is there, `neighbours` is not
        ("append artifact neighbours/epoch-0003.png", 1),
        ("append model sampler", 1),
        ("append status", 1),  # kill-models, kill-scores: models and scores are logged, the status is not
        ("request log_outputs", 2),
    ],
)
def test_a_killed_run_that_is_resumed_is_whole(
    harness: Harness, whole_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    kill(monkeypatch, before(step, number), *RUN, "--name", "killed")
    found = after_a_kill(harness, "killed")
    assert found is not None
    assert differences(found, whole_run) == []


def test_the_last_checkpoint_is_in_the_store_though_it_was_killed_before_it_was_logged(
    harness: Harness, whole_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill-last, seen from another machine, which has no spool."""
    kill(monkeypatch, UNLOGGED, *RUN, "--name", "killed")
    assert after_a_kill(harness, "killed") == whole_run
    assert harness(*RUN, "--name", "alone").code == 0
    shutil.rmtree("mlruns/spool")
    for name in ("killed", "alone"):
        said = harness("sample", name, "--weights", "last", "--seed", "1", "--out", f"{name}.npz")
        assert said.code == 0, said.err
    with np.load("killed.npz") as killed, np.load("alone.npz") as alone:
        assert np.array_equal(killed["images"], alone["images"])


def test_sync_ships_a_checkpoint_that_a_killed_process_had_not_logged(
    harness: Harness, whole_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(monkeypatch, UNLOGGED, *RUN, "--name", "killed")
    said = harness("sync")
    assert "set to KILLED" in said.out
    found = snapshot(client(), run_named("killed").info.run_id)
    assert found["files"]["checkpoints/last.pt"] == whole_run["files"]["checkpoints/last.pt"]
    assert harness("sync").out == "nothing to send\n"


def test_a_resumed_run_that_is_killed_in_its_end_is_whole(
    harness: Harness, whole_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(monkeypatch, before("append model sampler"), *RUN, "--name", "killed")
    for step in ("append tags harness.best_epoch", "append status"):
        kill(monkeypatch, before(step), "run", "--resume", "killed", "--no-system-metrics")
    assert after_a_kill(harness, "killed") == whole_run


def test_an_extension_that_is_killed_is_resumed_to_its_new_end(
    harness: Harness, whole_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert harness(*RUN, "--epochs", "2", "--name", "extended").code == 0
    arguments = ("run", "--resume", "extended", "--epochs", "3", "--no-system-metrics")
    kill(monkeypatch, before("append tags harness.epochs"), *arguments)
    found = after_a_kill(harness, "extended")
    assert found is not None
    assert found["tags"].pop("harness.epochs") == "3"
    assert found["models"] == [("generator", "READY")] * 2 + [("sampler", "READY")] * 2, "one of each end"
    same = ("status", "metrics", "images", "files", "tags", "datasets")
    assert differences(found, {part: whole_run[part] for part in same}) == []


@pytest.mark.parametrize("status", ["FINISHED", "FAILED"])
def test_a_resumption_that_is_killed_before_its_first_epoch_leaves_the_run_as_it_stood(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    assert harness(*RUN, "--epochs", "2", "--name", "one").code == 0
    if status == "FAILED":
        client().set_tag(run_named("one").info.run_id, "harness.diverged", "loss/generator is nan")
        client().set_terminated(run_named("one").info.run_id, "FAILED", end_time=1_700_000_000_000)
    stood = (run_named("one").info.end_time, run_named("one").data.tags, run_named("one").data.metrics)
    arguments = ("run", "--resume", "one", "--epochs", "3", "--no-system-metrics")
    for step, number in (
        ("request update_run", 1),
        ("append artifact checkpoints/last.pt", 1),
        ("append artifact checkpoints/last.pt", 2),  # after the first new epoch, which nothing has logged yet
    ):
        kill(monkeypatch, before(step, number), *arguments)
        assert harness("sync").code == 0
        run = run_named("one")
        assert run.info.status == status, step
        assert (run.info.end_time, run.data.tags, run.data.metrics) == stood, step
    kill(monkeypatch, before("append artifact checkpoints/last.pt"), *arguments)
    assert harness(*arguments).code == 0, "and without `sync` it can be resumed"
    assert run_named("one").info.status == "FINISHED"


def test_a_resumption_that_is_killed_after_its_first_epoch_is_a_killed_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert harness(*RUN, "--epochs", "2", "--name", "one").code == 0
    kill(
        monkeypatch,
        before("append metrics", 1),
        *("run", "--resume", "one", "--epochs", "3", "--no-system-metrics"),
    )
    assert "set to KILLED" in harness("sync").out
    assert run_named("one").data.tags["harness.epochs"] == "3"
    assert run_named("one").info.status == "KILLED"


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("HARNESS_EVERY_KILL"), reason="takes minutes: set HARNESS_EVERY_KILL=1")
@pytest.mark.parametrize("thread", ["main", "ship"])
def test_every_point(
    harness: Harness, whole_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, thread: str, capsys: Any
) -> None:
    """Kill before each step of a tiny run: HARNESS_EVERY_KILL=1 pytest -n 0 tests/tracking/test_kills.py."""
    monkeypatch.setattr(sys, "argv", ["harness", *RUN, "--name", "counted"])
    with life() as process, process.recorded(), pytest.raises(SystemExit):
        cli.main()
    faults, resumed, points = [], 0, process.count(thread)
    for number in range(1, points + 1):
        name = f"killed-{number}"
        point = kill(monkeypatch, lambda process, n=number: process.killed_at(n, thread), *RUN, "--name", name)  # type: ignore[misc]
        if found := after_a_kill(harness, name):
            resumed += 1
            faults += [f"{number} {point}: {line}" for line in differences(found, whole_run)]
    with capsys.disabled():
        print(f"{thread}: {points} points, {resumed} resumed, {len(faults)} differences")
    assert faults == []
