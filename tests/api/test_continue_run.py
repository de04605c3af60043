"""`run --resume auto`: the same command starts a run and continues it, however often it is interrupted."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from harness.experiment.tags import Tag
from harness.tracking.process_tags import this_job

from ..commands import Harness, client, only_run, run_named, spawn, wait_for
from ..faults_lib.snapshot import differences, snapshot

pytestmark = pytest.mark.usefixtures("small_models")
AGAIN = ("run", "tiny.yaml", "--name", "job", "--resume", "auto")


def test_the_first_time_it_starts_the_run_and_then_nothing_is_left(harness: Harness) -> None:
    assert harness(*AGAIN).code == 0
    run = only_run()
    assert (run.info.run_name, run.info.status) == ("job", "FINISHED")
    again = harness(*AGAIN)
    assert again.code == 0
    assert f"run job ({run.info.run_id[:8]}) has ended before, FINISHED: nothing is left to train" in again.out
    assert only_run().info.end_time == run.info.end_time


def test_without_a_name_it_has_the_name_of_the_experiment(harness: Harness) -> None:
    for _ in range(2):
        assert harness("run", "tiny.yaml", "--resume", "auto").code == 0
    assert only_run().info.run_name == "tiny"


def test_more_epochs_extend_the_run(harness: Harness) -> None:
    assert harness(*AGAIN).code == 0
    assert harness(*AGAIN, "--epochs", "5").code == 0
    assert only_run().data.tags[Tag.EPOCH] == "5"
    assert "nothing is left to train" in harness(*AGAIN, "--epochs", "5").out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 85), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_epoch_and_the_same_command_goes_on_to_the_same_bits(
    harness: Harness, number: int, code: int
) -> None:
    assert harness("run", "tiny.yaml", "--name", "whole", "--epochs", "40").code == 0
    expected = snapshot(client(), run_named("whole").info.run_id)
    process = spawn(*AGAIN, "--epochs", "40")
    wait_for(process, "epoch 2/40")
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == code
    stopped = run_named("job")
    assert stopped.info.status == "KILLED"
    assert 0 < int(stopped.data.tags[Tag.EPOCH]) < 40
    assert harness(*AGAIN, "--epochs", "40").code == 0
    assert differences(snapshot(client(), run_named("job").info.run_id), expected) == []


def test_a_run_that_was_killed_is_resumed_on_another_host_in_the_same_job(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert this_job() == "slurm 12.0"
    assert harness(*AGAIN).code == 0
    run = only_run()
    client().set_tag(run.info.run_id, Tag.HOST, "node7")
    client().update_run(run.info.run_id, status="RUNNING")
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    refused = harness(*AGAIN, "--epochs", "5")
    assert refused.code == 2
    assert "is RUNNING on the host node7" in refused.err
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert harness(*AGAIN, "--epochs", "5").code == 0
    monkeypatch.delenv("SLURM_JOB_ID")
    assert harness("run", "--resume", "job", "--epochs", "6").code == 0
    assert Tag.JOB not in only_run().data.tags


def test_a_run_without_a_checkpoint_is_set_aside(harness: Harness) -> None:
    from harness.tracking import Store

    lost = Store.open(root=Path("mlruns")).start_run(project="gan", name="job", kind="run", params={})
    lost.finish("KILLED")
    said = harness(*AGAIN)
    assert said.code == 0
    assert f"the old one is job-{lost.run_id[:8]} now" in said.out
    assert run_named("job").info.status == "FINISHED"
    assert run_named(f"job-{lost.run_id[:8]}").info.run_id == lost.run_id


def test_seeds_are_continued(harness: Harness) -> None:
    seeds = (*AGAIN, "--seeds", "2", "--batch-runs", "1")
    assert harness(*seeds).code == 0
    assert "has ended before, FINISHED" in harness(*seeds).out
    refused = harness(*AGAIN, "--seeds", "3")
    assert refused.code == 2
    assert "was started with 2 seeds instead of 3" in refused.err


def test_other_values_and_other_runs_of_that_name_are_refused(harness: Harness) -> None:
    assert harness(*AGAIN).code == 0
    refused = harness(*AGAIN, "--set", "optimizer.lr=0.002")
    assert refused.code == 2
    assert "was started with optimizer.lr 0.001 instead of 0.002: give another --name" in refused.err
    assert harness("run", "tiny.yaml", "--name", "job").code == 0
    refused = harness(*AGAIN)
    assert refused.code == 2
    assert "2 runs are named job" in refused.err


def test_max_time_auto_is_the_end_of_the_job(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    refused = harness(*AGAIN, "--max-time", "auto")
    assert refused.code == 2
    assert "--max-time auto: SLURM_JOB_END_TIME is not set" in refused.err
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1))
    assert harness("run", "tiny.yaml", "--epochs", "500", "--name", "late", "--max-time", "auto").code == 3
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 3600))
    assert harness(*AGAIN, "--max-time", "auto").code == 0
