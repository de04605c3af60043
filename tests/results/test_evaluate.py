"""Scores in runs and by command: the curve, the best epoch, the test split once, references, replicates."""

from __future__ import annotations

import json
import math
import re
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import data
from harness.gan import Report, checkpoints
from harness.quality import ScoreSet
from harness.quality.scoring import Scoring
from harness.results import load
from harness.tracking import Store

from ..commands import Harness, client, only_run, spawn, wait_for

SCORED = ["--set", "data.validation=10000", "--set", "track.score_every=1"]
TEST = {f"test/{name}" for name in ("kid", "kid_se", "frechet", "density", "coverage", "class_kl", "memorisation")}
QUALITY = {name.replace("test/", "quality/") for name in TEST}


def test_a_run_scores_every_epoch_and_the_best_one_once_on_the_test_split(harness: Harness, tmp_path: Path) -> None:
    assert harness("run", "tiny.yaml", *SCORED, "--epochs", "4").code == 0
    run = only_run()
    curve = {}
    for name in QUALITY:
        history = client().get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == [1, 2, 3, 4], name
        curve[name] = [point.value for point in history]
    best = 1 + min(range(4), key=lambda index: curve["quality/kid"][index])
    for name in TEST:
        (point,) = client().get_metric_history(run.info.run_id, name)
        assert point.step == best, name
    kept = checkpoints.load(Path(client().download_artifacts(run.info.run_id, "checkpoints/best.pt", str(tmp_path))))
    assert kept.epoch == best
    assert kept.score == min(curve["quality/kid"])
    assert run.data.tags["harness.best_epoch"] == str(best)
    assert run.data.tags["harness.judge"].startswith("mnist-first ")
    assert len(client().list_artifacts(run.info.run_id, "neighbours")) == 4


def test_the_best_epoch_has_a_grid_which_is_named_at_the_end(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    between = Scoring.score_during_training
    kids = iter((0.5, 0.2, 0.1, 0.4))

    def scored(self: Scoring, *arguments: object) -> object:
        return [replace(scores, values={**scores.values, "kid": next(kids)}) for scores in between(self, *arguments)]  # type: ignore[arg-type]

    monkeypatch.setattr(Scoring, "score_during_training", scored)
    said = harness(
        "run", "tiny.yaml", *SCORED, "--epochs", "4", "--set", "track.samples_every=4", "--no-system-metrics"
    )
    assert said.code == 0, said.err
    run_id = only_run().info.run_id
    assert [item.path for item in client().list_artifacts(run_id, "samples")] == [
        f"samples/epoch-{epoch:04d}.png" for epoch in (1, 2, 3, 4)
    ], "each best epoch so far, and the last"
    neighbours = [item.path for item in client().list_artifacts(run_id, "neighbours")]
    assert neighbours == ["neighbours/epoch-0004.png"], "they are looked up only where grids are due"
    lines = said.out.splitlines()
    shown = [line.split("  ")[2] for line in lines if line.startswith("epoch ")]
    assert shown == ["KID 0.5000 best", "KID 0.2000 best", "KID 0.1000 best", "KID 0.4000"]
    (grid,) = (line for line in lines if line.startswith("  grid "))
    assert grid.endswith("samples/epoch-0003.png")
    (test,) = (line for line in lines if line.startswith("  test "))
    assert "  of epoch 3  (judge mnist-first" in test
    (losses,) = (line for line in lines if line.startswith("  losses "))
    assert losses.endswith("  of epoch 4")
    (time,) = (line for line in lines if line.startswith("  time "))
    assert re.fullmatch(r"  time     (\d+ min )?\d+ s of training and scoring, (\d+ min )?\d+ s in all", time)


def test_the_best_weights_are_those_that_sample_and_load(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", *SCORED, "--epochs", "4").code == 0
    store = Store.open()
    run = store.find("latest")
    _, best, epoch, _ = load.generator(store, run)
    _, last, last_epoch, _ = load.generator(store, run, "last")
    assert (epoch, last_epoch) == (int(run.data.tags["harness.best_epoch"]), 4)
    same = all(torch.equal(a, b) for a, b in zip(best.parameters(), last.parameters(), strict=True))
    assert same == (epoch == 4)


def test_a_resumed_run_remembers_its_best_epoch(harness: Harness, workplace: Path) -> None:
    arguments = ["tiny.yaml", *SCORED, "--set", "data.subset=4000", "--no-system-metrics", "--epochs", "5"]
    assert harness("run", *arguments, "--name", "alone").code == 0
    process = spawn("run", *arguments, "--name", "killed")
    wait_for(process, "epoch 3/5")
    process.kill()
    process.wait()
    assert harness("run", "--resume", "killed").code == 0
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    for name in ("harness.best_epoch", "harness.judge"):
        assert runs["alone"].data.tags[name] == runs["killed"].data.tags[name]
    assert {n: runs["alone"].data.metrics[n] for n in TEST} == {n: runs["killed"].data.metrics[n] for n in TEST}
    history = client().get_metric_history(runs["killed"].info.run_id, "quality/kid")
    assert [point.step for point in history] == [1, 2, 3, 4, 5]


def test_without_validation_images_only_the_test_split_is_scored(harness: Harness) -> None:
    said = harness("run", "tiny.yaml")
    assert said.code == 0
    assert "no validation images are held out (data.validation is 0)" in said.out
    metrics = only_run().data.metrics
    assert set(metrics) >= TEST
    assert not set(metrics) & QUALITY


def test_no_judge_means_no_scores(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--set", "quality.judge=null").code == 0
    assert not set(only_run().data.metrics) & (TEST | QUALITY)


def test_a_diverged_run_gets_its_true_bad_score(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gan import Training

    train_steps = Training.train_steps

    def exploding(self: Training, count: int) -> Report | None:
        with torch.no_grad():
            next(self.generator.parameters()).fill_(float("nan"))
        return train_steps(self, count)

    assert harness("run", "tiny.yaml", "--name", "sound").code == 0
    monkeypatch.setattr(Training, "train_steps", exploding)
    assert harness("run", "tiny.yaml", "--name", "broken").code == 1
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert runs["broken"].info.status == "FAILED"
    assert all(math.isfinite(runs["broken"].data.metrics[name]) for name in TEST)
    assert runs["broken"].data.metrics["test/frechet"] > 50  # a grey square, a hundred times the reference's distance
    assert runs["broken"].data.metrics["test/class_kl"] > 2  # one class out of ten: about ln 10
    rows = json.loads(harness("evaluate", "broken", "--json").out)
    assert rows[1]["scores"]["kid"] == pytest.approx(runs["broken"].data.metrics["test/kid"])


def test_evaluate_shows_the_reference_first_and_writes_back(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--name", "one").code == 0
    before = dict(only_run().data.metrics)
    said = harness("evaluate", "latest")
    assert said.code == 0, said.err
    lines = [line for line in said.out.splitlines() if line.strip()]
    assert "real against real" in lines[2]
    assert "one" in lines[3]
    assert only_run().data.metrics == before, "the same protocol gives the same numbers"
    for name in TEST:
        assert len(client().get_metric_history(only_run().info.run_id, name)) == 1
    rows = json.loads(harness("evaluate", "latest", "--json").out)
    assert rows[0]["name"] == "real against real"
    assert rows[0]["scores"]["frechet"] < rows[1]["scores"]["frechet"]
    assert rows[1]["scores"]["kid"] == pytest.approx(before["test/kid"])


def test_the_second_judge_writes_beside_and_not_over(harness: Harness) -> None:
    assert harness("run", "tiny.yaml").code == 0
    before = dict(only_run().data.metrics)
    assert harness("evaluate", "latest", "--judge", "second").code == 0
    after = only_run().data
    assert before.items() <= after.metrics.items()
    assert after.metrics["test/second/kid"] != before["test/kid"]
    assert after.tags["harness.judge.second"].startswith("mnist-second ")
    assert after.tags["harness.judge"].startswith("mnist-first ")


def test_a_runs_own_judge_keeps_its_names(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--set", "quality.judge=second").code == 0
    before = dict(only_run().data.metrics)
    assert harness("evaluate", "latest", "--judge", "first").code == 0
    after = only_run().data
    assert before.items() <= after.metrics.items()
    assert "test/first/kid" in after.metrics
    assert after.tags["harness.judge"].startswith("mnist-second ")


def test_the_validation_split_has_names_of_its_own(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--set", "data.validation=10000").code == 0
    assert harness("evaluate", "latest", "--split", "validation").code == 0
    assert "validation/kid" in only_run().data.metrics


def test_a_trial_number_of_samples_is_not_written_back(harness: Harness) -> None:
    assert harness("run", "tiny.yaml").code == 0
    before = dict(only_run().data.metrics)
    rows = json.loads(harness("evaluate", "latest", "--samples", "40", "--json").out)
    assert rows[0]["samples"] == 40
    assert only_run().data.metrics == before


def test_anyones_images_are_scored(harness: Harness, workplace: Path) -> None:
    pixels = data.load("mnist", validation=10_000).train.pixels[:300].squeeze(1).numpy()
    np.savez("real.npz", images=pixels)
    np.savez("noise.npz", images=np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8))
    real = json.loads(harness("evaluate", "--images", "real.npz", "--samples", "300", "--json").out)
    noise = json.loads(harness("evaluate", "--images", "noise.npz", "--samples", "300", "--json").out)
    assert real[1]["name"] == "real.npz"
    assert abs(real[1]["scores"]["kid"]) < 5 * real[1]["scores"]["kid_se"]
    assert noise[1]["scores"]["frechet"] > 50 * real[1]["scores"]["frechet"]


@pytest.mark.parametrize("together", ["1", "2", "3"])
def test_replicates_carry_mean_and_deviation(harness: Harness, together: str) -> None:
    words = ["--seeds", "3", "--batch-runs", together, "--name", "three", "--seed", "5"]
    said = harness("run", "tiny.yaml", *SCORED, *words)
    assert said.code == 0, said.err
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    parent = runs.pop("three")
    assert sorted(runs) == ["three-seed5", "three-seed6", "three-seed7"]
    assert parent.data.tags["harness.kind"] == "replicates"
    assert parent.data.tags["harness.batch_runs"] == together
    ids = " ".join(runs[name].info.run_id[:8] for name in sorted(runs))
    assert re.search(rf"^  compare  .*harness compare {ids}$", said.out, re.MULTILINE)
    assert re.search(r"^  look     .*harness ui ", said.out, re.MULTILINE)
    assert re.search(r"^  time     .*of training and scoring, .* in all$", said.out, re.MULTILINE)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    for name in TEST:
        values = [run.data.metrics[name] for run in runs.values()]
        assert parent.data.metrics[name] == pytest.approx(statistics.fmean(values))
        assert parent.data.metrics[f"{name}_std"] == pytest.approx(statistics.stdev(values))
    for metric in ("quality/kid", "loss/generator"):
        means = [point.value for point in client().get_metric_history(parent.info.run_id, metric)]
        curves = [
            [point.value for point in client().get_metric_history(run.info.run_id, metric)] for run in runs.values()
        ]
        assert means == pytest.approx([statistics.fmean(values) for values in zip(*curves, strict=True)])
    assert client().list_artifacts(parent.info.run_id, "images")
    assert harness("sample", "three", "--count", "10", "--out", "best.png").code == 0
    rows = json.loads(harness("evaluate", "three", "--json").out)
    assert [row["name"] for row in rows[1:]] == [*sorted(runs), "three, mean"]
    assert rows[-1]["scores"]["kid"] == pytest.approx(parent.data.metrics["test/kid"])


def test_replicates_count_diverged_seeds(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gan import Training

    train_steps = Training.train_steps

    def exploding(self: Training, count: int) -> Report | None:
        if self.experiment.train.seed == 1:
            with torch.no_grad():
                next(self.generator.parameters()).fill_(float("nan"))
        return train_steps(self, count)

    monkeypatch.setattr(Training, "train_steps", exploding)
    assert harness("run", "tiny.yaml", "--seeds", "2", "--batch-runs", "1", "--name", "two").code == 1
    assert_one_of_two_diverged()


def test_a_seed_that_diverges_leaves_its_population(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gan import BatchedTraining, Training

    train_epoch = BatchedTraining.train_epoch
    sizes = []

    def exploding(self: BatchedTraining) -> list[tuple[Training, Report]]:
        sizes.append(len(self.members))
        for member in self.members:
            if member.experiment.train.seed == 1:
                with torch.no_grad():
                    next(member.generator.parameters()).fill_(float("nan"))
        return train_epoch(self)

    monkeypatch.setattr(BatchedTraining, "train_epoch", exploding)
    assert harness("run", "tiny.yaml", "--seeds", "2", "--batch-runs", "2", "--name", "two").code == 1
    assert sizes == [2, 1, 1]
    assert_one_of_two_diverged()


def assert_one_of_two_diverged() -> None:
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert runs["two-seed1"].info.status == "FAILED"
    assert runs["two"].info.status == "FINISHED"
    assert runs["two"].data.metrics["replicates/diverged"] == 1
    values = [runs[f"two-seed{seed}"].data.metrics["test/kid"] for seed in (0, 1)]
    assert runs["two"].data.metrics["test/kid"] == pytest.approx(statistics.fmean(values))


def test_a_signal_in_a_seeds_last_epoch_stops_the_seeds_after_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    from harness.gan import Training

    train_steps = Training.train_steps

    def interrupted(self: Training, count: int) -> Report | None:
        if self.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_steps(self, count)

    monkeypatch.setattr(Training, "train_steps", interrupted)
    assert harness("run", "tiny.yaml", "--seeds", "2", "--batch-runs", "1", "--name", "two").code == 143
    runs = {run.info.run_name: run.info.status for run in client().search_runs(["1"])}
    assert runs == {"two": "KILLED", "two-seed0": "FINISHED"}
    monkeypatch.setattr(Training, "train_steps", train_steps)
    assert harness("run", "--resume", "two").code == 0
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert sorted(runs) == ["two", "two-seed0", "two-seed1"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    values = [runs[f"two-seed{seed}"].data.metrics["test/kid"] for seed in (0, 1)]
    assert runs["two"].data.metrics["test/kid"] == pytest.approx(statistics.fmean(values))


def test_a_population_that_is_stopped_ends_where_each_seed_can_go_on(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time, of three: a signal in the second epoch of the first two; then, in their last, another."""
    import os
    import signal

    from harness.gan import BatchedTraining, Training

    train_epoch = BatchedTraining.train_epoch
    when = 1

    def interrupted(self: BatchedTraining) -> list[tuple[Training, Report]]:
        if self.members[0].epoch == when:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_epoch(self)

    monkeypatch.setattr(BatchedTraining, "train_epoch", interrupted)
    words = ["run", "tiny.yaml", "--seeds", "3", "--batch-runs", "2"]
    assert harness(*words, "--name", "parts").code == 143
    runs = {run.info.run_name: run.info.status for run in client().search_runs(["1"])}
    assert runs == {"parts": "KILLED", "parts-seed0": "KILLED", "parts-seed1": "KILLED"}
    when = 2
    assert harness("run", "--resume", "parts").code == 143
    runs = {run.info.run_name: run.info.status for run in client().search_runs(["1"])}
    assert runs == {"parts": "KILLED", "parts-seed0": "FINISHED", "parts-seed1": "FINISHED"}
    monkeypatch.setattr(BatchedTraining, "train_epoch", train_epoch)
    assert harness("run", "--resume", "parts").code == 0
    assert harness(*words, "--name", "whole").code == 0
    found = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    for name in TEST:
        assert found["parts"].data.metrics[name] == pytest.approx(found["whole"].data.metrics[name], rel=1e-3)
    for seed in range(3):
        history = client().get_metric_history(found[f"parts-seed{seed}"].info.run_id, "loss/generator")
        assert [point.step for point in history] == [1, 2, 3]


def test_members_that_were_saved_at_different_epochs_go_on_together(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has only its end before it, the second an epoch more."""
    from harness.runs.session import RunSession

    log = RunSession.log

    def killed(self: RunSession, report: Report, scores: ScoreSet | None) -> None:
        if self.training.epoch == 3 and self.training.experiment.train.seed == 1:
            raise KeyboardInterrupt
        log(self, report, scores)

    monkeypatch.setattr(RunSession, "log", killed)
    words = ["run", "tiny.yaml", "--seeds", "2", "--batch-runs", "2"]
    assert harness(*words, "--name", "parts").code == 130
    assert {run.info.status for run in client().search_runs(["1"])} == {"KILLED"}
    monkeypatch.setattr(RunSession, "log", log)
    said = harness("run", "--resume", "parts")
    assert said.code == 0, said.err
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for seed in range(2):
        history = client().get_metric_history(runs[f"parts-seed{seed}"].info.run_id, "loss/generator")
        assert [point.step for point in history] == [1, 2, 3]


def test_an_error_fails_every_member_of_a_population(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gan import BatchedTraining

    def broken(self: BatchedTraining) -> None:
        raise RuntimeError("out of coffee")

    monkeypatch.setattr(BatchedTraining, "train_epoch", broken)
    said = harness("run", "tiny.yaml", "--seeds", "2", "--batch-runs", "2", "--name", "two")
    assert (said.code, "out of coffee" in said.err) == (1, True)
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert {run.info.status for run in runs.values()} == {"FAILED"}
    assert len(runs) == 3
    assert all("out of coffee" in run.data.tags["harness.error"] for run in runs.values())


@pytest.mark.parametrize(("together", "images"), [("1", 3000), ("2", 1000)])
def test_stopped_replicates_go_on(harness: Harness, workplace: Path, together: str, images: int) -> None:
    arguments = ["tiny.yaml", "--subset", str(images), "--epochs", "40", "--no-system-metrics"]
    arguments += ["--seeds", "2", "--batch-runs", together]
    assert harness("run", *arguments, "--name", "whole").code == 0
    process = spawn("run", *arguments, "--name", "parts")
    wait_for(process, "epoch 3/40")
    process.terminate()
    assert process.communicate(timeout=60)
    assert process.returncode == 143
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert runs["parts"].info.status == runs["parts-seed0"].info.status == "KILLED"
    assert harness("run", "--resume", "parts", "--no-system-metrics").code == 0
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    assert runs["parts"].info.status == "FINISHED"
    for name in TEST:
        assert runs["parts"].data.metrics[name] == runs["whole"].data.metrics[name]


def test_seeds_are_not_trained_anew_because_the_store_does_not_answer(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.errors import UnreachableError
    from harness.results import load
    from harness.runs.session import RunSession

    log = RunSession.log

    def killed(self: RunSession, report: Report, scores: ScoreSet | None) -> None:
        if self.training.epoch == 2:
            raise KeyboardInterrupt
        log(self, report, scores)

    monkeypatch.setattr(RunSession, "log", killed)
    assert harness("run", "tiny.yaml", "--seeds", "2", "--batch-runs", "1", "--name", "parts").code == 130
    monkeypatch.setattr(RunSession, "log", log)
    known = {run.info.run_id for run in client().search_runs(["1"])}

    def silent(*_: object) -> None:
        raise UnreachableError("the tracking store failed: 503")

    with monkeypatch.context() as patch:
        patch.setattr(load, "checkpoint", silent)
        said = harness("run", "--resume", "parts")
        assert (said.code, said.err) == (2, "harness: the tracking store failed: 503\n")
    assert {run.info.run_id for run in client().search_runs(["1"])} == known


def test_a_judge_of_ones_own_is_tried_before_anything_is_tracked(harness: Harness, workplace: Path) -> None:
    (workplace / "coloured.py").write_text(
        "import torch\nclass Judge(torch.nn.Conv2d):\n    def __init__(self): super().__init__(3, 4, 28)\n"
        "    def forward(self, pixels): return super().forward(pixels.float()).flatten(1)\n"
    )
    said = harness("run", "tiny.yaml", "--set", "quality.judge=coloured:Judge")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "failed on uint8 [2, 1, 28, 28]" in said.err
    assert not client().search_experiments(filter_string="name = 'gan'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "tiny.yaml", "--set", "track.score_every=1"], "set data.validation to 10000"),
        (["run", "tiny.yaml", "--set", "quality.judge=third"], "quality.judge is 'third'; expected first, second"),
        (["run", "tiny.yaml", "--set", "quality.judge=my_nets:Judge"], "cannot import 'my_nets'"),
        (
            ["run", "tiny.yaml", "--set", "quality.samples=10001"],
            "10,001, but mnist/test has 10,000",
        ),
        (["run", "tiny.yaml", "--seeds", "1"], "--seeds is 1; expected 2 or more"),
        (["run", "tiny.yaml", "--batch-runs", "2"], "--batch-runs is 2; use it with --seeds N"),
        (["run", "tiny.yaml", "--seeds", "2", "--batch-runs", "3"], "--batch-runs is 3; expected 1 to 2"),
        (["run", "--resume", "x", "--seeds", "2"], "--resume x continues the run as it was started: leave out --seeds"),
        (["evaluate"], "give one or more RUNs, or --images"),
        (["evaluate", "--images", "absent.npz"], "there is no file absent.npz"),
        (["evaluate", "--images", "tiny.yaml"], "tiny.yaml is not an NPZ file"),
        (["evaluate", "--images", "names.npz"], "holds pictures; expected an array named `images`"),
        (["evaluate", "--images", "floats.npz"], "images are float32 [3, 28, 28]; expected uint8"),
        (["evaluate", "--images", "small.npz", "--samples", "10"], "1x8x8"),
        (["evaluate", "--images", "few.npz"], "few.npz holds 20 images, but 10,000 are compared"),
        (["evaluate", "latest"], "there is no run"),
    ],
)
def test_bad_input_is_one_line(harness: Harness, arguments: list[str], said: str) -> None:
    np.savez("names.npz", pictures=np.zeros((3, 28, 28), np.uint8))
    np.savez("floats.npz", images=np.zeros((3, 28, 28), np.float32))
    np.savez("small.npz", images=np.zeros((20, 8, 8), np.uint8))
    np.savez("few.npz", images=np.zeros((20, 28, 28), np.uint8))
    answer = harness(*arguments)
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert client().search_runs([e.experiment_id for e in client().search_experiments()]) == []


def test_evaluating_a_split_that_was_not_held_out_says_how_to(harness: Harness) -> None:
    assert harness("run", "tiny.yaml").code == 0
    answer = harness("evaluate", "latest", "--split", "validation")
    assert answer.code == 2
    assert "holds out no validation images (data.validation is 0)" in answer.err
