"""The commands as people type them, on a real store; what they logged is read back through MLflow."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import mlflow.pytorch
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from harness import cli
from harness.gan import checkpoints

from ..commands import Harness, Server, client, give_time_for_one_epoch, only_run, size_of, spawn, wait_for
from ..gan.test_training import METRICS

# A whole run -----------------------------------------------------------------------------------------------------


def test_a_run_is_kept_in_mlflow_whole(harness: Harness, workplace: Path) -> None:
    said = harness("run", "tiny.yaml", "--name", "first", "--tag", "student=mia", "--note", "a try", "--seed", "7")
    assert said.code == 0, said.err
    run = only_run()
    assert run.info.run_id in said.out
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.params["train.seed"] == "7"
    assert run.data.params["optimizer.lr"] == "0.001"
    assert run.data.params["generator.widths"] == "[16, 16]"
    assert run.data.tags["student"] == "mia"
    assert run.data.tags["mlflow.note.content"].startswith("a try\n")
    expected = {"harness.kind": "run", "harness.experiment": "tiny", "harness.device": "cpu"}
    assert expected.items() <= run.data.tags.items()
    assert run.data.tags["harness.dataset"].startswith("mnist/train[60] ")
    for metric in METRICS:
        assert [point.step for point in client().get_metric_history(run.info.run_id, metric)] == [1, 2, 3], metric
    top = {item.path for item in client().list_artifacts(run.info.run_id)}
    assert {"experiment.yaml", "environment.txt", "checkpoints", "samples", "neighbours", "images"} <= top
    samples = [item.path for item in client().list_artifacts(run.info.run_id, "samples")]
    assert samples == [f"samples/epoch-{epoch:04d}.png" for epoch in (1, 2, 3)]
    assert [dataset.dataset.name for dataset in run.inputs.dataset_inputs] == ["mnist/train[60]"]
    assert client().get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    grid = workplace / next(line.split()[1] for line in said.out.splitlines() if line.startswith("  grid"))
    assert size_of(grid) == (302, 302)
    assert list((workplace / "mlruns" / "spool").iterdir()) == []


def test_the_logged_generator_loads_and_samples(harness: Harness, workplace: Path) -> None:
    assert harness("run", "tiny.yaml", "--epochs", "1").code == 0
    run = only_run()
    mlflow.set_tracking_uri(f"sqlite:///{workplace / 'mlruns' / 'mlflow.db'}")
    model = mlflow.pytorch.load_model(f"runs:/{run.info.run_id}/generator")
    images = model(torch.randn(7, 8))
    assert images.shape == (7, 1, 28, 28)
    assert images.abs().max() <= 1
    said = harness("sample", run.info.run_name, "--count", "7", "--out", "seven.npz", "--seed", "3")
    assert said.code == 0, said.err
    from harness.gan import to_uint8
    from harness.gan.randomness import sample_noise

    with np.load("seven.npz") as file:
        assert file["images"].shape == (7, 28, 28)
        assert np.array_equal(file["images"], to_uint8(model(sample_noise(3, 7, 8))).squeeze(1).numpy())


def test_the_stored_experiment_repeats_the_run(harness: Harness, workplace: Path) -> None:
    assert harness("run", "tiny.yaml", "--set", "optimizer.lr=3e-3", "--device", "auto").code == 0
    first = only_run()
    stored = client().download_artifacts(first.info.run_id, "experiment.yaml", str(workplace))
    assert "auto" not in Path(stored).read_text()
    assert harness("run", stored, "--name", "again").code == 0
    (again,) = client().search_runs([first.info.experiment_id], "attributes.run_name = 'again'")
    same = {name: value for name, value in first.data.metrics.items() if name in METRICS - {"speed/images_per_second"}}
    assert same.items() <= again.data.metrics.items()


def test_samples_are_drawn_as_a_picture_and_by_seed(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--epochs", "1").code == 0
    for name, seed in (("a.png", "1"), ("b.png", "1"), ("c.png", "2")):
        assert harness("sample", "latest", "--count", "25", "--out", name, "--seed", seed).code == 0
    assert size_of(Path("a.png")) == (302, 92)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes() != Path("c.png").read_bytes()


def test_preview_draws_half_blocks(harness: Harness) -> None:
    assert "\u2580" in harness("run", "tiny.yaml", "--epochs", "1", "--preview").out


def test_a_dry_run_prints_the_experiment_and_leaves_nothing(harness: Harness, workplace: Path) -> None:
    before = sorted(workplace.rglob("*"))
    said = harness("run", "tiny.yaml", "--dry-run", "--epochs", "9")
    assert said.code == 0
    assert "epochs: 9" in said.out
    assert "3 steps per epoch" in said.out
    assert sorted(workplace.rglob("*")) == before


# Ending early, and going on --------------------------------------------------------------------------------------


def final_weights(run_id: str, folder: Path) -> dict[str, torch.Tensor]:
    path = client().download_artifacts(run_id, "checkpoints/last.pt", str(folder))
    training = checkpoints.load(Path(path)).training
    flat = {f"g.{name}": value for name, value in training["generator"].items()}
    flat |= {f"d.{name}": value for name, value in training["discriminator"].items()}
    for network in ("generator", "discriminator"):
        for index, state in training[f"{network}_optimizer"]["state"].items():
            flat |= {f"{network}.{index}.{name}": value for name, value in state.items()}
    return flat


LONG = ["--set", "data.subset=6000", "--epochs", "4", "--no-system-metrics"]


@pytest.fixture
def uninterrupted(harness: Harness, workplace: Path, tmp_path: Path) -> dict[str, torch.Tensor]:
    assert harness("run", "tiny.yaml", "--name", "alone", *LONG).code == 0
    return final_weights(only_run().info.run_id, tmp_path)


@pytest.mark.parametrize("where", ["between epochs", "inside an epoch"])
def test_a_killed_run_resumes_to_the_same_bits(
    harness: Harness, workplace: Path, tmp_path: Path, uninterrupted: dict[str, torch.Tensor], where: str
) -> None:
    every = "1" if where == "between epochs" else "2"
    process = spawn("run", "tiny.yaml", "--name", "killed", *LONG, "--set", f"track.checkpoint_every={every}")
    wait_for(process, "epoch 3/4" if where == "inside an epoch" else "epoch 2/4")
    process.send_signal(signal.SIGKILL)
    process.wait()
    said = harness("run", "--resume", "killed", "--no-system-metrics")
    assert said.code == 0, said.err
    assert "was RUNNING, but its process has ended" in said.out + said.err or "set to KILLED" in said.out
    (run,) = client().search_runs(["1"], "attributes.run_name = 'killed'")
    assert run.info.status == "FINISHED"
    for metric in METRICS:
        assert [point.step for point in client().get_metric_history(run.info.run_id, metric)] == [1, 2, 3, 4], metric
    weights = final_weights(run.info.run_id, tmp_path)
    assert weights.keys() == uninterrupted.keys()
    assert all(torch.equal(weights[name], uninterrupted[name]) for name in weights)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_ends_the_epoch_and_saves(
    harness: Harness, workplace: Path, number: signal.Signals, code: int
) -> None:
    process = spawn("run", "tiny.yaml", "--set", "data.subset=6000", "--epochs", "500", "--no-system-metrics")
    wait_for(process, "epoch 2/500")
    process.send_signal(number)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == code, out
    assert f"stopped as requested by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}: epoch " in out
    run = only_run()
    assert run.info.status == "KILLED"
    history = client().get_metric_history(run.info.run_id, "loss/generator")
    done = max(point.step for point in history)
    assert f"epoch {done} of 500 is saved" in out
    said = harness("run", "--resume", "latest", "--epochs", str(done + 1))
    assert said.code == 0, said.err
    history = client().get_metric_history(run.info.run_id, "loss/generator")
    assert [point.step for point in history] == list(range(1, done + 2))
    assert client().get_run(run.info.run_id).info.status == "FINISHED"


def test_the_second_signal_stops_at_once(harness: Harness, workplace: Path) -> None:
    process = spawn("run", "tiny.yaml", "--set", "data.subset=50000", "--set", "train.batch_size=2", "--epochs", "5")
    wait_for(process, "training tiny")
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=300)[0]
    run = only_run()
    assert not client().get_metric_history(run.info.run_id, "loss/generator"), "the epoch was not waited for"
    assert process.returncode == 130, out
    assert run.info.status == "KILLED"


def test_a_run_stopped_in_its_final_scoring_is_finished_by_resuming(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.quality.scoring import Scoring

    score = Scoring.score
    monkeypatch.setattr(Scoring, "score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert harness("run", "tiny.yaml", "--name", "unscored").code == 130
    assert only_run().info.status == "KILLED"
    assert "test/kid" not in only_run().data.metrics
    monkeypatch.setattr(Scoring, "score", score)
    said = harness("run", "--resume", "unscored")
    assert said.code == 0, said.err
    run = only_run()
    assert run.info.status == "FINISHED"
    assert "test/kid" in run.data.metrics
    for metric in METRICS:
        assert [point.step for point in client().get_metric_history(run.info.run_id, metric)] == [1, 2, 3], metric
    assert harness("run", "--resume", "unscored", "--epochs", "4").code == 0


def test_what_a_crash_left_undrawn_is_drawn_when_the_run_goes_on(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch is saved before it is drawn, for which a judge may have to look at all training images first."""
    from harness.runs.session import RunSession

    draw = RunSession.draw

    def killed(self: RunSession) -> None:
        if self.result.epoch == 2:
            raise KeyboardInterrupt
        draw(self)

    monkeypatch.setattr(RunSession, "draw", killed)
    assert harness("run", "tiny.yaml", "--name", "undrawn").code == 130
    monkeypatch.setattr(RunSession, "draw", draw)
    said = harness("run", "--resume", "undrawn")
    assert "resuming undrawn after epoch 2" in said.out
    run = only_run()
    samples = sorted(file.path for file in client().list_artifacts(run.info.run_id, "samples"))
    assert samples == [f"samples/epoch-{epoch:04d}.png" for epoch in (1, 2, 3)]


def test_a_run_that_goes_on_leaves_the_threads_of_the_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.runs import resumable
    from harness.runs.display import NullDisplay

    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", f"{before + 1},2")  # of threads within threads only the first are ours
    with resumable.restore_threads():
        resumable._use_threads(before + 1, NullDisplay())
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_live_run_is_not_resumed(harness: Harness, workplace: Path) -> None:
    process = spawn("run", "tiny.yaml", "--name", "live", "--set", "data.subset=6000", "--epochs", "500")
    wait_for(process, "epoch 2/500")
    answer = harness("run", "--resume", "live")
    process.kill()
    process.wait()
    assert answer.code == 2, answer.out
    assert answer.err.count("\n") == 1


def test_a_server_that_dies_in_mid_run_costs_nothing(harness: Harness, workplace: Path, server: Server) -> None:
    arguments = ["tiny.yaml", "--name", "orphan", "--tracking-uri", server.uri, "--no-system-metrics"]
    process = spawn("run", *arguments, "--set", "data.subset=6000", "--epochs", "8")
    wait_for(process, "epoch 2/8")
    server.kill()
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 0, out
    assert f"harness sync --tracking-uri {server.uri}` sends it later" in out
    server.start()
    said = harness("sync", "--tracking-uri", server.uri)
    assert said.code == 0, said.err
    assert "shipped" in said.out
    there = MlflowClient(server.uri)
    (run,) = there.search_runs(["1"], "attributes.run_name = 'orphan'")
    assert run.info.status == "FINISHED"
    for metric in METRICS:
        steps = [point.step for point in there.get_metric_history(run.info.run_id, metric)]
        assert steps == list(range(1, 9)), metric
    assert len(there.list_artifacts(run.info.run_id, "samples")) == 8


def test_max_time_ends_at_an_epoch_and_can_be_resumed(
    harness: Harness, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = iter([False] * 5)  # before the first epoch, and after each of the next four
    with monkeypatch.context() as patch:
        patch.setattr("harness.interrupts.Deadline.too_late_for", lambda *_: next(near, True))
        said = harness("run", "tiny.yaml", "--epochs", "100000", "--max-time", "1h", "--no-system-metrics")
    assert said.code == 3, said.err
    assert "stopped as requested by the time limit: epoch " in said.out
    assert only_run().info.status == "KILLED"
    done = len(client().get_metric_history(only_run().info.run_id, "loss/generator"))
    assert 0 < done < 100_000
    assert harness("run", "--resume", "latest", "--epochs", str(done + 2)).code == 0
    assert len(client().get_metric_history(only_run().info.run_id, "loss/generator")) == done + 2


@pytest.mark.parametrize("seeds", [(), ("--seeds", "2", "--batch-runs", "2")])
def test_a_time_limit_that_the_start_has_used_up_leaves_a_run_to_resume(
    harness: Harness, seeds: tuple[str, ...]
) -> None:
    said = harness("run", "tiny.yaml", *seeds, "--name", "late", "--max-time", "0.001s", "--no-system-metrics")
    assert said.code == 3, said.err
    assert "stopped as requested by the time limit: epoch 0 of 3 is saved (KILLED in MLflow)" in said.out
    assert {run.info.status for run in client().search_runs(["1"])} == {"KILLED"}
    resumed = harness("run", "--resume", "late", "--no-system-metrics")
    assert resumed.code == 0, resumed.err
    assert {run.data.tags.get("harness.epoch", "3") for run in client().search_runs(["1"])} == {"3"}


def test_the_time_between_a_stop_and_its_resumption_does_not_count(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        give_time_for_one_epoch(patch)
        assert harness("run", "tiny.yaml", "--max-time", "1h", "--no-system-metrics").code == 3
    run = only_run().info
    client().set_terminated(run.run_id, "KILLED", end_time=run.start_time + 5000)
    assert harness("run", "--resume", "latest", "--no-system-metrics").code == 0
    resumed = int(only_run().data.tags["harness.resumed"])
    client().set_terminated(run.run_id, "FINISHED", end_time=resumed + 2000)
    (row,) = json.loads(harness("runs", "--json").out)
    assert row["seconds"] == pytest.approx(7)


def test_a_finished_run_can_be_extended_and_nothing_else_changed(
    harness: Harness, workplace: Path, tmp_path: Path
) -> None:
    assert harness("run", "tiny.yaml", "--name", "whole", "--epochs", "4").code == 0
    whole = final_weights(only_run().info.run_id, tmp_path)
    assert harness("run", "tiny.yaml", "--name", "parts", "--epochs", "2").code == 0
    assert "is complete: 2 of 2 epochs" in harness("run", "--resume", "parts").err
    refused = harness("run", "--resume", "parts", "--epochs", "4", "--set", "optimizer.lr=1")
    assert refused.code == 2
    assert "only train.epochs may change, not optimizer.lr 0.001 -> 1.0" in refused.err
    assert (
        "train.epochs is 1, but the run has 2 trained epochs"
        in harness("run", "--resume", "parts", "--epochs", "1").err
    )
    assert harness("run", "--resume", "parts", "--epochs", "4").code == 0
    (run,) = client().search_runs(["1"], "attributes.run_name = 'parts'")
    assert run.data.params["train.epochs"] == "2"
    assert run.data.tags["harness.epochs"] == "4"
    parts = final_weights(run.info.run_id, tmp_path)
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_a_run_whose_schedule_counts_epochs_cannot_be_extended(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--epochs", "1", "--set", "optimizer.schedule=linear").code == 0
    answer = harness("run", "--resume", "latest", "--epochs", "2")
    assert answer.code == 2
    assert "optimizer.schedule linear depends on the number of epochs" in answer.err
    assert only_run().info.status == "FINISHED"


def test_a_conditional_average_is_what_samples_and_loads(harness: Harness, workplace: Path) -> None:
    overrides = ["generator.kind=conv", "discriminator.kind=conv", "conditional=true", "train.ema_half_life=1000"]
    said = harness("run", "tiny.yaml", *(word for value in overrides for word in ("--set", value)))
    assert said.code == 0, said.err
    for name, options in (("average.npz", []), ("raw.npz", ["--raw"])):
        assert harness("sample", "latest", "--count", "20", "--out", name, *options).code == 0
    with np.load("average.npz") as average, np.load("raw.npz") as raw:
        assert not np.array_equal(average["images"], raw["images"])
        drawn = average["images"]
    from harness import data
    from harness.gan import sample_inputs, to_uint8
    from harness.results import load as recall
    from harness.tracking import Store

    mlflow.set_tracking_uri(f"sqlite:///{workplace / 'mlruns' / 'mlflow.db'}")
    model = mlflow.pytorch.load_model(f"runs:/{only_run().info.run_id}/generator")
    experiment = recall.experiment(Store.open(), only_run())
    inputs = sample_inputs(experiment, data.load_split("mnist", "test"), 20)
    assert inputs.shape == (20, 8 + 10)
    difference = to_uint8(model(inputs)).squeeze(1).numpy().astype(int) - drawn
    assert abs(difference).max() <= 1


def test_a_diverged_run_fails_and_keeps_its_numbers(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gan import Report, Training

    train_steps = Training.train_steps

    def exploding(self: Training, count: int) -> Report | None:
        if self.epoch == 1:
            with torch.no_grad():
                next(self.generator.parameters()).fill_(float("inf"))
        return train_steps(self, count)

    monkeypatch.setattr(Training, "train_steps", exploding)
    said = harness("run", "tiny.yaml")
    run = only_run()
    assert said.code == 1, said.out
    assert run.info.status == "FAILED"
    assert run.data.tags["harness.diverged"]
    assert "diverged in epoch 2" in said.out
    assert [point.step for point in client().get_metric_history(run.info.run_id, "loss/generator")] == [1, 2]


def test_an_exception_fails_the_run(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gan import Training

    def broken(self: Training, count: int) -> None:
        raise RuntimeError("the GPU fell off: http://mia:secret@host/")

    monkeypatch.setattr(Training, "train_steps", broken)
    said = harness("run", "tiny.yaml")
    assert said.code == 1
    assert "the GPU fell off" in said.err
    assert said.err.count("\n") == 1
    run = only_run()
    assert run.info.status == "FAILED"
    assert "secret" not in said.err + str(run.data.tags)


# Looking ---------------------------------------------------------------------------------------------------------


def test_check_nests_a_run_below_one_parent_and_reads_it_back(harness: Harness) -> None:
    said = harness("check", "tiny.yaml", "notebook")
    assert said.code == 0, said.out + said.err
    assert said.out.count("passed") == 2
    runs = {run.info.run_name: run for run in client().search_runs(["1"])}
    parent = runs.pop("check")
    assert set(runs) == {"tiny", "notebook"}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {run.data.tags["harness.kind"] for run in (parent, *runs.values())} == {"check"}
    assert {run.info.status for run in (parent, *runs.values())} == {"FINISHED"}
    assert parent.data.metrics == {"check/passed": 2, "check/failed": 0, "check/skipped": 0}


def test_every_bundled_experiment_passes_its_check(harness: Harness) -> None:
    said = harness("check")
    assert said.code == 0, said.out + said.err
    names = {row["name"] for row in json.loads(harness("experiments", "--json").out)}
    passed = {run.info.run_name for run in client().search_runs(["1"]) if run.info.status == "FINISHED"}
    assert passed == names - {"fashion"} | {"check"}
    (skipped,) = [line for line in said.out.splitlines() if "skipped" in line]
    assert "fashion-mnist is not in" in skipped


def test_check_fails_what_does_not_reload(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gan import Training

    load = Training.load_state_dict

    def forgetful(self: Training, state: dict[str, object]) -> None:
        load(self, state)
        with torch.no_grad():
            next(self.generator.parameters()).zero_()

    monkeypatch.setattr(Training, "load_state_dict", forgetful)
    said = harness("check", "tiny.yaml")
    assert said.code == 1
    assert "failed" in said.out
    assert client().search_runs(["1"], "attributes.run_name = 'check'")[0].info.status == "FAILED"


def test_runs_lists_status_and_numbers(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--name", "one", "--epochs", "1").code == 0
    assert harness("run", "tiny.yaml", "--name", "two", "--epochs", "1").code == 0
    listed = json.loads(harness("runs", "--json").out)
    assert [row["name"] for row in listed] == ["two", "one"]
    assert listed[0]["status"] == "FINISHED"
    assert set(listed[0]["metrics"]) >= METRICS
    assert "FINISHED" in harness("runs").out
    assert json.loads(harness("runs", "--json", "--limit", "1").out)[0]["name"] == "two"


def test_experiments_and_schema_and_doctor(harness: Harness) -> None:
    assert "notebook" in harness("experiments").out
    assert {row["name"] for row in json.loads(harness("experiments", "--json").out)} >= {"notebook", "default"}
    assert json.loads(harness("schema").out)["title"] == "Experiment"
    said = harness("doctor")
    assert said.code == 0, said.out
    for subject in ("versions", "devices", "tracking", "data", "disk"):
        assert subject in said.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "tiny.yaml", "--device", "gpu"], "train.device is 'gpu'"),
        (["check", "other.yaml"], "data.name is 'cifar'"),
    ],
)
def test_check_refuses_bad_input_before_anything_is_tracked(harness: Harness, arguments: list[str], said: str) -> None:
    Path("other.yaml").write_text("data: {name: cifar}")
    answer = harness(*arguments)
    assert answer.code == 2
    assert said in answer.err
    assert client().search_runs([e.experiment_id for e in client().search_experiments()]) == []


def test_check_skips_what_is_not_here(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.data.mnist import MNIST

    monkeypatch.setattr(MNIST, "missing", lambda self: "not downloaded, and there is no network")
    said = harness("check", "tiny.yaml")
    assert said.code == 0
    assert "skipped" in said.out
    assert "not downloaded" in said.out
    assert only_run().data.metrics == {"check/passed": 0, "check/failed": 0, "check/skipped": 1}


def test_check_stops_at_a_signal(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from harness.gan import Report, Training

    train_steps = Training.train_steps

    def interrupted(self: Training, count: int) -> Report | None:
        os.kill(os.getpid(), signal.SIGINT)
        return train_steps(self, count)

    monkeypatch.setattr(Training, "train_steps", interrupted)
    assert harness("check", "tiny.yaml", "notebook").code == 130
    runs = {run.info.run_name: run.info.status for run in client().search_runs(["1"])}
    assert runs == {"check": "KILLED", "tiny": "FINISHED"}


def test_sync_with_nothing_to_ship_says_so(harness: Harness) -> None:
    assert harness("sync").out == "nothing to send\n"


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "notebok"], "there is no experiment 'notebok'; did you mean notebook or notebook-fixed?"),
        (["run", "absent.yaml"], "there is no experiment file absent.yaml"),
        (["run", "tiny.yaml", "--set", "optimizer.lrr=1"], "did you mean optimizer.lr?"),
        (["run", "tiny.yaml", "--set", "optimizer=1"], "optimizer is a section, not a field"),
        (["run", "tiny.yaml", "--epochs", "0"], "train.epochs is 0"),
        (["run", "tiny.yaml", "--subset", "5"], "less than one batch"),
        (["run", "tiny.yaml", "--set", "train.discriminator_steps=4"], "for each of train.discriminator_steps 4"),
        (["run", "tiny.yaml", "--set", "objective.r1=1"], "objective.r1 is 1.0 and discriminator.dropout 0.3"),
        (
            ["run", "tiny.yaml", "--set", "discriminator.pack=3"],
            "train.batch_size 20 is no multiple of it: set it to 18",
        ),
        (
            ["run", "tiny.yaml", "--set", "discriminator.pack=2", "--set", "conditional=true"],
            "has no single class for a",
        ),
        (
            ["run", "tiny.yaml", "--set", "generator.kind=conv", "--set", "generator.widths=[3]"],
            "it has kind, latent, wi",
        ),
        (["run", "tiny.yaml", "--subset", "60001"], "but there are 60,000 training images"),
        (["run", "tiny.yaml", "--tag", "oops"], "expected key=value"),
        (["run", "tiny.yaml", "--tag", "harness.kind=trial"], "set by harness itself"),
        (["run", "tiny.yaml", "--max-time", "soon"], "expected a time such as"),
        (["run", "tiny.yaml", "--tracking-uri", "sqlite:////proc/none/mlflow.db"], "/proc/none"),
        (["run", "tiny.yaml", "--tracking-uri", "http://mia:secret@127.0.0.1:9"], "127.0.0.1:9"),
        (["run", "--resume", "nothing"], "there is no run 'nothing'"),
        (["run", "tiny.yaml", "--resume", "latest"], "continues the run as it was started: leave out EXPERIMENT"),
        (["sample", "latest", "--out", "digits.png"], "there is no run"),
        (["sample", "latest", "--out", "digits.jpg"], "must end in .png"),
        (["check", "notebok"], "did you mean notebook or notebook-fixed?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(harness: Harness, arguments: list[str], said: str) -> None:
    answer = harness(*arguments)
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert "secret" not in answer.err
    assert client().search_runs([e.experiment_id for e in client().search_experiments()]) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_asked_for_and_absent_is_bad_input(harness: Harness) -> None:
    answer = harness("run", "tiny.yaml", "--device", "cuda")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "device is cuda, but torch does not find it on this machine" in answer.err


def test_malformed_yaml_is_named_by_line_and_column(harness: Harness) -> None:
    Path("bad.yaml").write_text("name: bad\ntrain: {epochs: 3\n")
    answer = harness("run", "bad.yaml")
    assert answer.code == 2
    assert "bad.yaml, line 3, column 1: malformed YAML" in answer.err


def test_an_empty_directory_has_no_runs_and_gets_no_store(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    answer = harness("runs")
    assert (answer.code, answer.err) == (0, "")  # an empty list is no error
    assert "there are no runs here" in answer.out
    answer = harness("runs", "--json")
    assert (answer.code, json.loads(answer.out)) == (0, [])
    assert harness("sample", "latest").code == 2
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_damaged_checkpoint_is_named(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--epochs", "1").code == 0
    for path in Path("mlruns").rglob("last.pt"):
        path.write_bytes(path.read_bytes()[:500])
    answer = harness("run", "--resume", "latest", "--epochs", "2")
    assert answer.code == 2
    assert "is not a readable checkpoint" in answer.err
    assert only_run().info.status == "FINISHED"


def test_debug_shows_the_traceback(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.errors import HarnessError

    monkeypatch.setattr(sys, "argv", ["harness", "run", "notebok", "--debug"])
    with pytest.raises(HarnessError):
        cli.main()
