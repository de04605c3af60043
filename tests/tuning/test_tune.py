"""`harness tune` as people type it: what it leaves in MLflow, held one to one against Optuna's storage."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import pytest
import torch
import yaml
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from harness import experiment as experiments
from harness.gan import Report, Training
from harness.media.pictures import load_image

from ..commands import Harness, client, loaded_by, spawn, wait_for
from .common import QUIET, SMALL, assert_one_to_one, optuna_trials, runs, the_study


def tune(harness: Harness, *arguments: str, code: int = 0) -> str:
    said = harness("tune", "small.yaml", *QUIET, *arguments)
    assert said.code == code, said.out + said.err
    return said.out + said.err


# A whole study ---------------------------------------------------------------------------------------------------


def test_a_study_is_kept_whole(harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One trial diverges: that is a score, too."""
    train_steps = Training.train_steps
    explode_at = {"left": 2}

    def exploding(self: Training, count: int) -> Report | None:
        if self.epoch == 1:
            explode_at["left"] -= 1
            if explode_at["left"] == 0:
                with torch.no_grad():
                    next(self.generator.parameters()).fill_(float("inf"))
        return train_steps(self, count)

    monkeypatch.setattr(Training, "train_steps", exploding)
    said = tune(harness, "--trials", "6", "--tag", "student=mia", "--note", "first try")
    assert_one_to_one(6)
    trials, parent = optuna_trials(), the_study()
    states = [trial.state.name for trial in trials]
    assert {"COMPLETE", "PRUNED"} == set(states)
    diverged = trials[1]
    assert diverged.state.name == "COMPLETE"
    assert "diverged in epoch 2" in diverged.user_attrs["harness.diverged"]
    assert math.isfinite(diverged.value)  # told how bad it is
    first = {"optimizer.lr": 1e-3, "generator.latent": 8, "discriminator.dropout": 0.3}
    assert trials[0].params == first  # the experiment's own values
    for trial in trials:
        assert len(trial.intermediate_values) == {"COMPLETE": 4, "PRUNED": 2}[trial.state.name] or trial is diverged

    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = min(complete, key=lambda trial: trial.value)
    assert f"trial {best.number}: validation kid {best.value:.4f}" in said
    assert_best_is_described(parent, best)
    assert_curves_follow_the_trials(parent, trials)
    assert_plots_are_logged(parent)
    assert_newest_grid_is_that_of_the_best(parent, best)
    assert_best_yaml_is_the_best(harness, small, parent, best)


def assert_best_is_described(parent: Run, best: FrozenTrial) -> None:
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["harness.best_trial"] == str(best.number)
    assert parent.data.tags["student"] == "mia"
    description = parent.data.tags["mlflow.note.content"]
    assert description.startswith("first try\n")
    assert f"Best of 6 trials: trial {best.number}, validation kid {best.value:.4g}" in description
    trial = runs("trial")[f"small-{best.number}"]
    grids = [item.path for item in client().list_artifacts(trial.info.run_id, "samples")]
    assert f"get-artifact?path={quote(grids[-1], safe='')}&run_uuid={trial.info.run_id}" in description
    scores = {name: value for name, value in trial.data.metrics.items() if name.startswith(("quality/", "validation/"))}
    assert "validation/kid" in scores
    assert scores.items() <= parent.data.metrics.items()
    for path, value in best.params.items():
        assert parent.data.params[f"best_of_6.{path}"] == str(value)


def assert_curves_follow_the_trials(parent: Run, trials: list[FrozenTrial]) -> None:
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    curve = {p.step: p.value for p in client().get_metric_history(parent.info.run_id, "best/kid")}
    so_far = [min((t.value for t in complete if t.number <= n), default=None) for n in range(6)]
    assert curve == dict(enumerate(so_far))
    rates = {p.step: p.value for p in client().get_metric_history(parent.info.run_id, "trial/optimizer.lr")}
    assert rates == {trial.number: trial.params["optimizer.lr"] for trial in trials}
    values = {p.step: p.value for p in client().get_metric_history(parent.info.run_id, "trial/kid")}
    assert values == {trial.number: trial.value for trial in complete}


def assert_plots_are_logged(parent: Run) -> None:
    plots = {Path(item.path).name for item in client().list_artifacts(parent.info.run_id, "plots")}
    assert plots == {f"{name}.png" for name in ("history", "importances", "parallel", "slices", "intermediate")} | {
        "study.html"
    }
    page = Path(client().download_artifacts(parent.info.run_id, "plots/study.html")).read_text()
    assert page.count('class="plotly-graph-div"') == 5
    assert loaded_by(page) == []
    assert page.count("plotly.js v") == 1, "the library is there, once"


def assert_newest_grid_is_that_of_the_best(parent: Run, best: FrozenTrial) -> None:
    trial = runs("trial")[f"small-{best.number}"]
    grids = [item.path for item in client().list_artifacts(trial.info.run_id, "samples")]
    images = [item.path for item in client().list_artifacts(parent.info.run_id, "images")]
    steps = {int(Path(path).name.split("+")[2]) for path in images}
    assert steps == {4} | {int(Path(path).stem[-4:]) for path in grids}, "where it and runs of all four epochs draw"
    newest = max(path for path in images if "+step+4+" in path and path.endswith(".png"))  # the one that the UI shows
    drawn = client().download_artifacts(trial.info.run_id, grids[-1])
    assert np.array_equal(
        load_image(Path(client().download_artifacts(parent.info.run_id, newest))), load_image(Path(drawn))
    )


def assert_best_yaml_is_the_best(harness: Harness, small: Path, parent: Run, best: FrozenTrial) -> None:
    found = experiments.load(small / "mlruns" / "studies" / "small" / "best.yaml")
    logged = Path(client().download_artifacts(parent.info.run_id, "best.yaml")).read_text()
    assert yaml.safe_load(logged) == yaml.safe_load(found.to_yaml())
    differences = experiments.load("small.yaml").with_values(best.params).differences(found)
    assert set(differences) <= {"name", "description"}
    assert harness("run", "mlruns/studies/small/best.yaml", "--dry-run").code == 0


def test_a_dry_run_says_what_a_study_is_and_leaves_nothing(harness: Harness, small: Path) -> None:
    before = sorted(small.rglob("*"))
    said = harness("tune", "small.yaml", "--dry-run", "--trials", "7", "--epochs", "3", "--sampler", "random")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        "a trial: 60 images (experiment small), 3 epochs (command line)",
        "  searched optimizer.lr  0.0001 to 0.01, logarithmic",
        "           generator.latent  4 to 16, logarithmic, whole numbers",
        "           discriminator.dropout  0 to 0.5",
        "  trial    60 images, 3 epochs of 3 steps: 9 steps",
        "  trials   7",
        "  metric   kid on the validation images, 50 samples at the end of a trial; lower is better",
        "  sampler  random, seed 0",
        "  pruner   halving: from epoch 2 on, the best of 3 continues",
    ]
    assert sorted(small.rglob("*")) == before
    refused = harness("tune", "--study", "small", "--dry-run")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_the_first_line_says_how_long_a_trial_took_before(harness: Harness, small: Path) -> None:
    from harness.tuning import trial_times

    first = tune(harness, "--trials", "1", "--study", "first")
    assert first.splitlines()[0] == "a trial: 60 images, 4 epochs (experiment small)"
    assert re.search(r"^  time     .* in all; \d+ s for a complete trial \(median\)$", first, re.MULTILINE)
    assert re.search(r"^1/1 ended", first, re.MULTILINE)
    again = tune(harness, "--trials", "1", "--study", "second").splitlines()[0]
    assert re.fullmatch(r"a trial: 60 images, 4 epochs \(experiment small\); one took \d+ s in an earlier study", again)
    other = harness("tune", "small.yaml", "--dry-run", "--epochs", "2").out.splitlines()[0]
    assert "one took" not in other, "trials of another length"
    trial_times.path().write_text("damaged")
    assert trial_times.load("any") is None


def test_the_same_command_goes_on(harness: Harness, small: Path) -> None:
    tune(harness, "--trials", "2")
    run_ids = {run.info.run_id for run in runs("trial").values()}
    said = tune(harness, "--trials", "4")
    assert "is resumed: 2 of 4 trials have ended, 2 left" in said
    assert_one_to_one(4)
    assert run_ids < {run.info.run_id for run in runs("trial").values()}
    parent = the_study()
    assert {"best_of_2.optimizer.lr", "best_of_4.optimizer.lr"} <= parent.data.params.keys()
    steps = [p.step for p in client().get_metric_history(parent.info.run_id, "trial/ended")]
    assert steps == [0, 1, 2, 3]
    said = tune(harness, "--trials", "4")
    assert "no trial is left to train" in said
    assert_one_to_one(4)
    again = harness("tune", "--study", "small")  # without the experiment, and to the same number
    assert again.code == 0, again.err
    assert "4 of 4 trials" in again.out


def test_a_study_repeats_itself(harness: Harness, small: Path) -> None:
    """Killed in the middle or not: with one worker it is a function of its seed."""
    tune(harness, "--trials", "5", "--study", "first")
    tune(harness, "--trials", "2", "--study", "second")
    tune(harness, "--trials", "5", "--study", "second")
    tune(harness, "--trials", "5", "--study", "third", "--seed", "1")
    first, second, third = (
        [(t.state, t.params, t.value, t.intermediate_values) for t in optuna_trials(name)]
        for name in ("first", "second", "third")
    )
    assert len(first) == 5
    # The start is laid out for the number of trials that were asked for at first: 4 of 2, and 4 of 5.
    assert first == second
    assert [t[1] for t in first[1:]] != [t[1] for t in third[1:]]


def test_an_experiment_without_validation_images_gets_some(harness: Harness, small: Path) -> None:
    (small / "small.yaml").write_text(SMALL.replace("validation: 100", "validation: 0").replace(", score_every: 1", ""))
    said = tune(harness, "--trials", "1")
    assert "holds out no validation images: 10,000 of its training images are held out for this study" in said
    assert runs("trial")["small-0"].data.params["data.validation"] == "10000"
    assert runs("trial")["small-0"].data.params["track.score_every"] == "1"
    best = experiments.load(small / "mlruns" / "studies" / "small" / "best.yaml")
    assert best.data.validation == 0  # in full it is the experiment that it was


def test_another_metric_is_maximised(harness: Harness, small: Path) -> None:
    tune(harness, "--trials", "3", "--metric", "coverage", "--pruner", "none", "--sampler", "random")
    trials = optuna_trials()
    best = max(trials, key=lambda trial: (trial.value, -trial.number))
    assert the_study().data.tags["harness.best_trial"] == str(best.number)
    for trial in trials:
        run = runs("trial")[f"small-{trial.number}"]
        assert trial.value == run.data.metrics["validation/coverage"]
        steps = {p.step: p.value for p in client().get_metric_history(run.info.run_id, "quality/coverage")}
        assert trial.intermediate_values.items() <= steps.items()


# A storage in a bad state ----------------------------------------------------------------------------------------


def test_a_stale_lock_and_a_damaged_line_end_no_study(harness: Harness, small: Path) -> None:
    tune(harness, "--trials", "1", "--epochs", "1")
    journal = small / "mlruns" / "optuna.journal"
    (small / "mlruns" / "optuna.journal.lock").symlink_to("/gone/optuna.journal")  # of a killed process, moved since
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "wor\n')
    damaged = journal.read_bytes()
    said = tune(harness, "--trials", "2", "--epochs", "1")
    assert "skipped 1 damaged line of" in said
    assert "2 of 2 trials (2 complete" in said
    assert_one_to_one(2)
    assert (small / "mlruns" / "optuna.journal.damaged-1").read_bytes() == damaged
    again = harness("studies", "--json")
    assert json.loads(again.out)[0]["complete"] == 2
    assert "damaged" not in again.err, "it is repaired once"
    said = tune(harness, "--trials", "1", "--epochs", "1")
    assert "FINISHED  study small  2 trials (1 was requested; 2 complete, 0 pruned, 0 failed)" in said


@pytest.mark.parametrize("name", ["..", "a/b"])
def test_a_studys_name_is_no_path(harness: Harness, small: Path, name: str) -> None:
    from harness.files import safe_file_name

    tune(harness, "--trials", "1", "--epochs", "1", "--study", name)
    kept = [path for path in small.parent.rglob("best.yaml") if "artifacts" not in path.parts]
    assert kept == [small / "mlruns" / "studies" / safe_file_name(name) / "best.yaml"]


# Fused -----------------------------------------------------------------------------------------------------------


def test_fused_trials_are_those_that_they_would_be_alone(harness: Harness, small: Path) -> None:
    """The same values and seed: the same losses within 1e-3 over the first epochs, and runs like any others."""
    arguments = ("tune", "small.yaml", "--no-system-metrics", "--trials", "5", "--sampler", "random")
    alone = (*arguments, "--study", "alone", "--batch-runs", "1", "--pruner", "none")
    assert harness(*alone).code == 0
    fused = (*arguments, "--study", "fused", "--batch-runs", "5", "--pruner", "none")
    said = harness(*fused)
    assert said.code == 0, said.err
    trials = runs("trial")
    for number in range(5):
        one, other = trials[f"alone-{number}"], trials[f"fused-{number}"]
        assert one.info.status == other.info.status == "FINISHED"
        mine = {
            "mlflow.runName",
            "harness.id",
            "harness.study",
            "mlflow.parentRunId",
            "harness.best_epoch",
            "harness.best_kid",
            "mlflow.note.content",  # has the best epoch, and the scores
        }
        assert one.data.tags.keys() == other.data.tags.keys()
        assert {k: v for k, v in one.data.tags.items() if k not in mine} == {
            k: v for k, v in other.data.tags.items() if k not in mine
        }
        for run in (one, other):
            note = run.data.tags["mlflow.note.content"]
            assert "4 of 4 epochs" in note
            assert f"run_uuid={run.info.run_id})" in note
        assert one.data.params == other.data.params
        assert one.data.metrics.keys() == other.data.metrics.keys()
        for metric in ("loss/discriminator", "loss/generator"):
            curves = [
                [point.value for point in client().get_metric_history(run.info.run_id, metric)] for run in (one, other)
            ]
            assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_fused_trials_are_pruned_one_by_one(harness: Harness, small: Path) -> None:
    said = harness("tune", "small.yaml", "--no-system-metrics", "--trials", "6", "--batch-runs", "6")
    assert said.code == 0, said.err
    assert_one_to_one(6)
    states = [trial.state.name for trial in optuna_trials()]
    assert states.count("PRUNED") >= 2
    assert states.count("COMPLETE") >= 1
    for run in runs("trial").values():
        assert run.data.tags["harness.epoch"] == ("4" if run.info.status == "FINISHED" else "2")


def test_trials_of_different_shapes_are_trained_apart(harness: Harness, small: Path) -> None:
    text = (
        SMALL.split("search:")[0] + "search:\n  train.batch_size: [10, 20]\n  optimizer.lr: {low: 1e-4, high: 1e-2}\n"
    )
    (small / "small.yaml").write_text(text)
    said = harness(
        "tune", "small.yaml", "--no-system-metrics", "--trials", "5", "--batch-runs", "5", "--pruner", "none"
    )
    assert said.code == 0, said.err
    assert_one_to_one(5)
    assert {trial.params["train.batch_size"] for trial in optuna_trials()} == {10, 20}


# Left alone ------------------------------------------------------------------------------------------------------

LONG = ("--epochs", "60", "--pruner", "none")


def test_a_killed_study_goes_on_from_the_checkpoint(harness: Harness, small: Path) -> None:
    """Killed twice, in the middle of a trial: as many trials as were asked for, none twice, nothing left RUNNING."""
    command = ("tune", "small.yaml", *QUIET, *LONG, "--trials", "3")
    for ended in (1, 2):
        process = spawn(*command)
        wait_for(process, f"{ended}/3 ended")
        time.sleep(0.5)
        _until_training(small)  # on a busy machine the next one may not have begun
        process.send_signal(signal.SIGKILL)
        process.wait()
    said = harness(*command)
    assert said.code == 0, said.err
    assert_one_to_one(3)
    for run in runs("trial").values():
        steps = [point.step for point in client().get_metric_history(run.info.run_id, "loss/generator")]
        assert steps == list(range(1, 61)), run.info.run_name  # every epoch once, across the kills
    assert harness("tune", "small.yaml", *QUIET, *LONG, "--trials", "3", "--study", "unharmed").code == 0
    assert [t.value for t in optuna_trials()] == [t.value for t in optuna_trials("unharmed")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_trial_cleanly(harness: Harness, small: Path, number: signal.Signals, code: int) -> None:
    command = ("tune", "small.yaml", *QUIET, "--epochs", "400", "--trials", "2", "--pruner", "none")
    process = spawn(*command)
    _until_training(small)
    process.send_signal(number)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == code, said
    assert "stopped as requested by" in said
    assert "  continue " in said
    assert the_study().info.status == "KILLED"
    assert runs("trial")["small-0"].info.status == "KILLED"
    assert [trial.state.name for trial in optuna_trials()] == ["WAITING"]
    done = int(runs("trial")["small-0"].data.tags["harness.epoch"])
    assert 0 < done < 400


def _until_training(folder: Path) -> None:
    """Until a trial has saved its second epoch."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        for events in (folder / "mlruns" / "spool").glob("*/events.jsonl"):
            if events.read_text().count("loss/generator") > 1:
                return
        time.sleep(0.1)
    raise AssertionError("no trial has begun")


def test_time_runs_out(harness: Harness, small: Path) -> None:
    said = tune(harness, "--epochs", "4000", "--trials", "2", "--pruner", "none", "--max-time", "8s", code=3)
    assert "STOPPED  study small" in said
    assert the_study().info.status == "KILLED"
    assert not client().search_runs(["1"], "attributes.status = 'RUNNING'")


def test_an_exception_fails_a_trial_which_is_tried_twice_more(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_steps = Training.train_steps

    def broken(self: Training, count: int) -> Report | None:
        if self.experiment.optimizer.lr == 1e-3:  # the first trial, and each retry of it
            raise RuntimeError("the GPU fell off: http://mia:secret@host/")
        return train_steps(self, count)

    monkeypatch.setattr(Training, "train_steps", broken)
    said = tune(harness, "--trials", "3")
    assert "secret" not in said
    assert "1 failed" in said
    assert_one_to_one(5)
    trials = optuna_trials()
    assert [trial.state.name for trial in trials[:3]] == ["FAIL"] * 3
    assert [trial.user_attrs.get("harness.retry_of") for trial in trials[:3]] == [None, 0, 1]
    assert all("the GPU fell off" in trial.user_attrs["harness.error"] for trial in trials[:3])


def test_values_that_do_not_go_together_fail_their_trial_alone(harness: Harness, small: Path) -> None:
    text = SMALL.split("search:")[0] + "search:\n  train.batch_size: [20, 50]\n  data.subset: [40, 60]\n"
    (small / "small.yaml").write_text(text)
    tune(harness, "--trials", "4", "--sampler", "grid")
    trials = optuna_trials()
    assert len(trials) == 4
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    assert [trial.params for trial in failed] == [{"train.batch_size": 50, "data.subset": 40}]
    assert "less than one batch" in failed[0].user_attrs["harness.error"]


def test_a_lost_disk_stops_the_study_and_keeps_the_trial(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.errors import HarnessError
    from harness.gan import checkpoints

    def full(*_: object) -> None:
        raise HarnessError("cannot write the checkpoint: no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", full)
        said = tune(harness, "--trials", "2", code=2)
    assert "no space left" in said
    assert [trial.state.name for trial in optuna_trials()] == ["WAITING"]
    tune(harness, "--trials", "2")
    assert all(trial.state.is_finished() for trial in optuna_trials())
    tags = {
        run.data.tags["harness.trial"]: run.info.status
        for run in client().search_runs(["1"])
        if "harness.trial" in run.data.tags
    }
    assert tags.keys() == {"0, abandoned", "0", "1"}  # the first attempt left nothing to go on from
    assert tags["0, abandoned"] == "FAILED"
    assert not client().search_runs(["1"], "attributes.status = 'RUNNING'")


# Several processes -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_share_a_study_and_one_that_is_killed_is_replaced(harness: Harness, small: Path) -> None:
    process = spawn("tune", "small.yaml", *QUIET, *LONG, "--trials", "5", "--workers", "2")
    _until_training(small)
    # A trial is RUNNING a moment before it names its process; one that has been scored has named it.
    running = [t for t in optuna_trials() if t.state.name == "RUNNING" and "harness.process" in t.user_attrs]
    victims = [int(trial.user_attrs["harness.process"]["harness.pid"]) for trial in running]
    assert process.pid not in victims
    os.kill(victims[0], signal.SIGKILL)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert "5 of 5 trials (5 complete" in said
    assert_one_to_one(5)
    again = [trial for trial in optuna_trials() if trial.user_attrs.get("harness.attempt") == 2]
    assert len(again) == 1
    assert len({trial.user_attrs["harness.process"]["harness.pid"] for trial in optuna_trials()}) >= 2


@pytest.mark.slow
def test_a_signal_reaches_the_workers(harness: Harness, small: Path) -> None:
    command = ("tune", "small.yaml", *QUIET, "--epochs", "400", "--pruner", "none", "--trials", "3", "--workers", "2")
    process = spawn(*command)
    _until_training(small)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 130, said
    assert the_study().info.status == "KILLED"
    assert not client().search_runs(["1"], "attributes.status = 'RUNNING'")
    assert {trial.state.name for trial in optuna_trials()} == {"WAITING"}


@pytest.mark.slow
def test_the_workers_of_a_killed_command_end_too(harness: Harness, small: Path) -> None:
    command = ("tune", "small.yaml", *QUIET, *LONG, "--trials", "3", "--workers", "2")
    process = spawn(*command)
    _until_training(small)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    said = harness(*command[:-2])  # by one worker
    assert said.code == 0, said.err
    assert_one_to_one(3)


@pytest.mark.slow
@pytest.mark.parametrize("commands", [2, 4])
def test_commands_started_at_once_share_one_study(tmp_path: Path, commands: int) -> None:
    """On an empty folder, without a store: one database, one study, one parent, no trial too many."""
    (tmp_path / "small.yaml").write_text(SMALL)
    words = ("tune", "small.yaml", *QUIET, "--trials", "6", "--pruner", "none")
    code = "from harness.cli import main; main()"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(commands)
    ]
    said = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * commands, said
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert_one_to_one(6)
        assert the_study().info.status == "FINISHED"
        assert len({str(trial.params) for trial in optuna_trials()}) == 6


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "search.optimizer.lr={low: 1, high: 0.1}"], "low must be less than high"),
        (["--set", "search_budget.train.epoch=1"], "did you mean train.epochs"),
        (["--sampler", "magic"], "--sampler magic: expected one of tpe"),
        (["--pruner", "scissors"], "--pruner scissors: expected one of halving"),
        (["--metric", "loss"], "--metric loss: expected one of kid"),
        (["--batch-runs", "many"], "--batch-runs many: expected a number of trials, or auto"),
        (["--batch-runs", "0"], "--batch-runs 0: expected a number of trials, or auto"),
        (["--max-time", "soon"], "--max-time 'soon': expected a time"),
        (["--storage", "nowhere"], "expected a database such as postgresql"),
        (["--storage", "postgresql://mia:secret@127.0.0.1:1/optuna"], "cannot be reached"),
        (["--storage", "nosuch://host/db"], "nosuch"),
        (["--set", "quality.judge=null", "--set", "track.score_every=null"], "a search needs scores"),
        (["--trials", "0"], "--trials"),
        (["--sampler", "gp", "--pruner", "halving"], "uses only complete trials: leave --pruner out"),
        (
            ["--set", "search.optimizer.schedule=[constant, 2026-11-23]"],
            "optimizer.schedule is '2026-11-23'; input should be 'constant'",
        ),
        (
            ["--set", "search.train.batch_size=[20, 200]", "--set", "search_budget.data.subset=400"],
            "less than one batch",
        ),
        (["--device", "cuda"], "device is cuda, but torch does not find it"),
    ],
)
def test_bad_input_trains_nothing(harness: Harness, small: Path, arguments: list[str], said: str) -> None:
    if torch.cuda.is_available() and "cuda" in arguments:
        pytest.skip("there is a CUDA device")
    result = harness("tune", "small.yaml", *arguments)
    assert result.code == 2, result.out
    assert said in result.err
    assert "secret" not in result.err
    if "--trials" not in arguments:
        assert result.err.count("\n") == 1
    assert not client().search_runs(["0"])
    assert not (small / "mlruns" / "optuna.journal").exists() or not optuna_studies()


def optuna_studies() -> list[str]:
    import optuna

    from harness.tuning.storage import open_storage

    return [s.study_name for s in optuna.get_all_study_summaries(open_storage(None, Path("mlruns").absolute(), ""))]


def test_mlflows_own_database_is_refused(harness: Harness, small: Path) -> None:
    said = harness("tune", "small.yaml", "--storage", f"sqlite:///{small / 'mlruns' / 'mlflow.db'}")
    assert said.code == 2
    assert "Optuna needs another database" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "optimizer.eps=1e-7"], "optimizer.eps 1e-08 -> 1e-07"),
        (["--set", "search.optimizer.lr={low: 1e-4, high: 0.1, log: true}"], "search.optimizer.lr"),
        (["--set", "search_budget.train.epochs=2"], "search_budget.train.epochs None -> 2"),
        (["--metric", "frechet"], "metric kid -> frechet"),
        (["--sampler", "random"], "sampler tpe -> random"),
        (["--prune-from", "3"], "min_resource 2 -> 3"),
    ],
)
def test_a_study_that_differs_is_refused_with_the_difference(
    harness: Harness, small: Path, study_of_one: None, arguments: list[str], said: str
) -> None:
    result = harness("tune", "small.yaml", *QUIET, "--trials", "2", *arguments)
    assert result.code == 2, result.out
    assert said in result.err
    assert "--study NEW" in result.err
    assert len(optuna_trials()) == 1


def test_a_study_keeps_its_rung_where_nobody_asks_for_another(
    harness: Harness, small: Path, study_of_one: None
) -> None:
    """It may have been told by --prune-from, which the file knows nothing of."""
    (small / "small.yaml").write_text(SMALL.replace("search_prune_from: 2", "search_prune_from: 3"))
    said = harness("tune", "small.yaml", *QUIET, "--trials", "1")
    assert said.code == 0, said.err
    assert len(optuna_trials()) == 1


def test_classes_are_not_searched_by_with_a_judge_that_tells_none(harness: Harness, small: Path) -> None:
    (small / "featured.py").write_text(
        "import torch\nclass Judge(torch.nn.Module):\n    def forward(self, pixels): return pixels.float().flatten(1)\n"
    )
    said = harness("tune", "small.yaml", *QUIET, "--metric", "class_kl", "--set", "quality.judge=featured:Judge")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "returns features without class logits" in said.err
    assert not client().search_runs(["0"])


@pytest.fixture
def study_of_one(small: Path) -> None:
    """A study with one trial that nobody had to train."""
    from harness.experiment import search_space
    from harness.tuning.settings import Settings
    from harness.tuning.storage import open_storage
    from harness.tuning.trials import Trials

    experiment, found = search_space.load("small.yaml")
    settings = Settings(experiment, found, "kid", "minimize", "tpe", "halving", 2, 3, 1, 20)
    root = small / "mlruns"
    trials = Trials.create(open_storage(None, root, ""), "small", settings, root)
    assert trials
    (claim,) = trials.claim(1)
    trials.complete(claim, "run", 1.0)


@pytest.mark.parametrize("storage", [None, "sqlite:///studies.db"])
def test_files_on_a_network_file_system_are_warned_of(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch, storage: str | None
) -> None:
    arguments = ("tune", "small.yaml", "--trials", "1", *QUIET, *(("--storage", storage) if storage else ()))
    quiet = harness(*arguments)
    assert (quiet.code, "network file system" in quiet.out + quiet.err) == (0, False)
    monkeypatch.setattr("harness.tuning.storage.network_file_system", lambda path: "nfs4")
    said = harness(*arguments)
    file = "studies.db" if storage else "mlruns/optuna.journal"
    assert said.code == 0
    assert f"{small / file} is on a network file system (nfs4)" in said.out + said.err


def test_a_new_store_on_a_network_file_system_is_warned_of_once(
    harness: Harness, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tracking.sqlite_store.network_file_system", lambda path: "lustre")
    run = ("run", "tiny.yaml", "--epochs", "1", "--no-system-metrics", "--tracking-uri", "sqlite:///new/mlflow.db")
    said, again = harness(*run), harness(*run)
    assert (said.code, again.code) == (0, 0)
    assert f"{workplace / 'new'} is on a network file system (lustre)" in said.out + said.err
    assert "network file system" not in again.out + again.err


def test_an_unknown_study_is_refused(harness: Harness, small: Path, study_of_one: None) -> None:
    said = harness("tune", "--study", "smal")
    assert said.code == 2
    assert "there is no study 'smal' to resume; the nearest names are small" in said.err


# Afterwards ------------------------------------------------------------------------------------------------------


def test_studies_are_listed(harness: Harness, small: Path, study_of_one: None) -> None:
    (row,) = json.loads(harness("studies", "--json").out)
    assert (row["study"], row["complete"], row["best"], row["best_trial"]) == ("small", 1, 1.0, 0)
    assert row["best_values"]["generator.latent"] == 8
    assert "small" in harness("studies").out


def test_an_empty_list_of_studies_is_no_error(harness: Harness, small: Path) -> None:
    said = harness("studies")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("there are no studies in ")
    assert said.out.count("\n") == 1
    said = harness("studies", "--json")
    assert (said.code, json.loads(said.out)) == (0, [])
    assert not (small / "mlruns" / "optuna.journal").exists(), "looking creates no file"
    said = harness("studies", "--storage", f"sqlite:///{small / 'empty.db'}")
    assert (said.code, said.out.count("\n")) == (0, 1)


def test_the_dashboard_needs_a_study(harness: Harness, small: Path) -> None:
    said = harness("tune", "--dashboard")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "there are no studies in" in said.err


def test_the_dashboard_of_an_unknown_study_is_refused(harness: Harness, small: Path, study_of_one: None) -> None:
    said = harness("tune", "--dashboard", "--study", "other")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "there is no study 'other' to open; there are small" in said.err


def test_the_best_is_confirmed_under_fresh_seeds(harness: Harness, small: Path) -> None:
    arguments = ("--trials", "3", "--pruner", "none", "--confirm", "2", "--budget", "tuning")
    said = tune(harness, *arguments)
    parent = the_study()
    groups = runs("replicates")
    assert set(groups) == {"small-best-tuning", "small-own-tuning"}
    assert {run.data.tags["mlflow.parentRunId"] for run in groups.values()} == {parent.info.run_id}
    children = runs("confirm")
    seeds = sorted(int(run.data.params["train.seed"]) for run in children.values())
    assert seeds == [1000, 1000, 1001, 1001]
    best = optuna_trials()[int(parent.data.tags["harness.best_trial"])]
    for run in children.values():
        assert run.info.status == "FINISHED"
        if "best" in str(run.info.run_name):
            assert run.data.params["optimizer.lr"] == str(best.params["optimizer.lr"])
    own, found = (groups[f"small-{which}-tuning"].data.metrics["test/kid"] for which in ("own", "best"))
    confirmed = client().get_run(parent.info.run_id).data
    assert not any(name.startswith("confirm") for name in confirmed.metrics), "a chart with one dot says nothing"
    gain = float(confirmed.tags["harness.confirmed.gain"])
    assert gain == pytest.approx(own - found)
    assert confirmed.tags["harness.confirmed"] in confirmed.tags["mlflow.note.content"]
    header, *lines = Path(client().download_artifacts(parent.info.run_id, "confirm.csv")).read_text().splitlines()
    assert header == "values,seeds,test kid,deviation,run"
    assert [line.split(",")[0] for line in lines] == ["baseline", "best", "gain"]
    assert lines[1].split(",")[2] == f"{found:.4f}"
    assert f"gain in test kid {gain:.4g}" in said
    count = len(children)
    tune(harness, *arguments)  # nothing is trained again
    assert len(runs("confirm")) == count
    again = client().get_run(parent.info.run_id).data.tags["mlflow.note.content"]
    assert again.count("Confirmed under fresh seeds") == 1
    for trials in ("3", "4"):  # of the same best trial or of another
        tune(harness, "--trials", trials, "--pruner", "none")
        later = client().get_run(parent.info.run_id).data.tags["mlflow.note.content"]
        assert later.partition("**Confirmed")[1:] == again.partition("**Confirmed")[1:]
        assert f"trial {best.number}, {confirmed.tags['harness.confirmed']}" in later
    assert harness("sample", "small", "--count", "4", "--out", "best.png").code == 0  # of the best trial still
    assert "harness tune --study small" in harness("run", "--resume", "small").err


def test_the_experiments_own_values_need_no_confirming(harness: Harness, small: Path) -> None:
    said = tune(harness, "--trials", "1", "--confirm", "2")
    assert "the baseline values of the experiment are the best of the study: there is nothing to confirm" in said
    assert not runs("confirm")


def test_a_gain_is_compared_with_its_spread() -> None:
    from scipy import stats

    from harness.tuning.confirm import compare_scores

    own, found = [3.0, 3.2, 3.1], [1.0, 1.1, 0.9]
    gain, (low, high) = compare_scores(own, found, lower_is_better=True)
    assert gain == pytest.approx(2.1)
    # Welch by hand: variances 0.01 each, so the standard error is sqrt(0.02 / 3), with 4 degrees of freedom.
    half = stats.t.ppf(0.975, 4) * (0.02 / 3) ** 0.5
    assert (low, high) == pytest.approx((2.1 - half, 2.1 + half))
    gain, (low, high) = compare_scores(own, found, lower_is_better=False)
    assert (gain, high) == pytest.approx((-2.1, -2.1 + half))


def test_the_dashboard_opens(harness: Harness, small: Path, study_of_one: None) -> None:
    import urllib.request

    process = spawn("tune", "--dashboard")
    try:
        line = wait_for(process, "optuna-dashboard on")
        address = line.split("on ")[1].split(" ")[0]
        assert address.endswith("/dashboard/studies/0"), "the page of the only study, not the list"
        site = address.partition("/dashboard")[0]
        deadline = time.monotonic() + 120
        while True:
            try:
                studies = json.load(urllib.request.urlopen(f"{site}/api/studies", timeout=5))
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert [study["study_name"] for study in studies["study_summaries"]] == ["small"]
        study = json.load(urllib.request.urlopen(f"{site}/api/studies/0", timeout=5))
        assert study["objective_names"] == ["validation/kid"], "not Objective 0"
    finally:
        process.kill()
        process.wait()
