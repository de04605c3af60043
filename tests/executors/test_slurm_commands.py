"""Runs, seeds and studies on a real Slurm cluster: interrupted, they end as if nothing had happened."""

from __future__ import annotations

import re
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from harness.experiment.tags import Tag

from ..commands import Harness, client, run_named, spawn
from ..faults_lib.snapshot import differences, snapshot
from ..tuning.common import QUIET, SMALL, assert_one_to_one, optuna_trials, runs, the_study
from .slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

EPOCHS = "60"
SCRIPT = f"""#!/bin/bash
#SBATCH --requeue
srun {sys.executable} -m harness run tiny.yaml --epochs {EPOCHS} --name job --resume auto --max-time auto
echo "exit code $?" >> codes.txt
"""


def trained(name: str) -> int:
    """The number of epochs that a run has logged."""
    experiments = [experiment.experiment_id for experiment in client().search_experiments()]
    found = client().search_runs(experiments, f"attributes.run_name = '{name}'")
    return len(client().get_metric_history(found[0].info.run_id, "loss/generator")) if found else 0


def has_trained(name: str, epochs: int) -> bool:
    return trained(name) >= epochs


def wait_until(condition: object, problem: str, seconds: float = 120) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.2)


def test_a_run_that_is_requeued_twice_ends_with_the_same_bits(
    harness: Harness, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert harness("run", "tiny.yaml", "--epochs", EPOCHS, "--name", "whole").code == 0
    expected = snapshot(client(), run_named("whole").info.run_id)
    Path("job.sh").write_text(SCRIPT)
    job = slurm.call("sbatch", "--parsable", "--time=30", "--output=job.log", "job.sh").strip()
    seen = 0
    for _ in range(2):
        wait_until(partial(has_trained, "job", seen + 3), "it trains nothing")
        slurm.requeue(job)
        wait_until(lambda: run_named("job").info.status == "KILLED", "it was not saved", 30)
        stopped = run_named("job")
        assert seen < int(stopped.data.tags[Tag.EPOCH]) < int(EPOCHS)
        seen = int(stopped.data.tags[Tag.EPOCH])
    assert slurm.wait_for(job, "COMPLETED", "FAILED") == "COMPLETED"
    assert Path("codes.txt").read_text().splitlines()[-1] == "exit code 0"
    assert differences(snapshot(client(), run_named("job").info.run_id), expected) == []


def test_a_study_over_an_array_with_a_requeued_and_a_cancelled_worker_has_exactly_its_trials(
    harness: Harness, slurm: SlurmCluster
) -> None:
    Path("small.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 30"))
    command = ("tune", "small.yaml", "--trials", "8", *QUIET, "--pruner", "none")
    process = spawn(*command, "--executor", "slurm", "--workers", "2", "--slurm", "time=30")
    wait_until(lambda: len(running(slurm)) == 2, "two tasks")
    first, second = running(slurm)
    wait_until(lambda: len(runs("trial")) >= 2, "two trials")
    slurm.requeue(first)
    slurm.call("scancel", second)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert "FINISHED  study small  8 of 8 trials" in output
    assert_one_to_one(8)
    assert the_study().info.status == "FINISHED"
    assert not [state for state in slurm.jobs().values() if state in ("RUNNING", "PENDING")]


def running(slurm: SlurmCluster) -> list[str]:
    return sorted(job for job, state in slurm.jobs().items() if state == "RUNNING")


def test_the_command_may_die_and_the_workers_end_the_study(harness: Harness, slurm: SlurmCluster) -> None:
    Path("small.yaml").write_text(SMALL.replace("epochs: 4", "epochs: 10"))
    process = spawn("tune", "small.yaml", "--trials", "3", *QUIET, "--executor", "slurm", "--workers", "1")
    wait_until(lambda: len(running(slurm)) == 1, "a task")
    wait_until(lambda: runs("trial"), "a trial")
    process.kill()
    process.wait()
    wait_until(lambda: not running(slurm), "the task ends")
    assert len(optuna_trials()) == 3
    assert the_study().info.status == "FINISHED"
    assert_one_to_one(3)


def test_seeds_are_trained_by_an_array(harness: Harness, slurm: SlurmCluster) -> None:
    command = ("run", "tiny.yaml", "--seeds", "3", "--name", "three", "--executor", "slurm", "--workers", "2")
    said = harness(*command)
    assert said.code == 0, said.err
    parent = run_named("three")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags[Tag.SEEDS_ENDED] == "3"
    children = client().search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(run.data.params["train.seed"] for run in children) == ["0", "1", "2"]
    assert {run.info.status for run in children} == {"FINISHED"}
    here = harness("run", "tiny.yaml", "--seed", "1", "--name", "alone")
    assert here.code == 0
    theirs = next(run for run in children if run.data.params["train.seed"] == "1")
    assert theirs.data.metrics["loss/generator"] == run_named("alone").data.metrics["loss/generator"]
    assert re.search(r"test/frechet_std", " ".join(parent.data.metrics))


def test_what_slurm_refuses_is_one_line_and_the_study_can_be_resumed(harness: Harness, slurm: SlurmCluster) -> None:
    Path("small.yaml").write_text(SMALL)
    refused = harness("tune", "small.yaml", "--trials", "1", *QUIET, "--executor", "slurm", "--slurm", "partition=no")
    assert refused.code == 2
    assert "sbatch refuses the job: " in refused.err.splitlines()[-1]
    assert harness("tune", "small.yaml", "--trials", "1", *QUIET).code == 0
    assert_one_to_one(1)


def test_options_that_do_not_go_together(harness: Harness) -> None:
    for words, expected in (
        (("run", "--executor", "slurm"), "--executor slurm: use it with --seeds N"),
        (("run", "--seeds", "2", "--workers", "3"), "--workers is 3; expected 1 to 2, the number of seeds"),
        (("run", "--seeds", "2", "--slurm", "time"), "--slurm 'time': expected KEY=VALUE"),
        (("tune", "--executor", "cloud"), "--executor cloud: expected one of local, slurm, ray"),
        (("tune", "--slurm", "time=1", "--trials", "1"), "--slurm time=1: use it with --executor slurm"),
        (("worker", "--study", "nowhere"), "nowhere"),
    ):
        said = harness(*words)
        assert (said.code, expected in said.err) == (2, True), (words, said.err)
