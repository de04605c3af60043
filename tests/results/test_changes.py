"""Images, judge or networks that have changed since a run or study began: said, refused, or continued knowingly."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.errors import HarnessError
from harness.experiment import trust
from harness.results import changes
from harness.runs.batched import RunSpec, run_batched
from harness.runs.display import NullDisplay
from harness.runs.options import RunOptions
from harness.runs.prepare import prepare
from harness.runs.resumable import find_resumable
from harness.tracking import Store

from ..commands import Harness, client, only_run, run_named
from ..tuning.common import QUIET, optuna_trials, runs, the_study

FOLDER = """
name: tiny
data: {name: folder, path: shapes, size: 8, validation: 10}
generator: {kind: mlp, latent: 8, widths: [16]}
discriminator: {kind: mlp, widths: [16], dropout: 0}
train: {epochs: 2, batch_size: 10, precision: fp32, device: cpu}
track: {samples_every: 2, checkpoint_every: 1, score_every: 1}
quality: {samples: 10, samples_while_training: 10, judge: "plain_judge:Plain"}
search:
  optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
"""
JUDGE = """
import torch


class Plain(torch.nn.Module):
    def forward(self, pixels):
        return pixels.flatten(1)[:, ::7].float() / 255
"""
NETWORKS = """
import math
from torch import nn

WIDTH = 8


class Generator(nn.Module):
    def __init__(self, shape, *, inputs):
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, math.prod(shape)), nn.Tanh())

    def forward(self, noise):
        return self.layers(noise).view(-1, *self.shape)
"""
TRUST = ("--trust", "--no-system-metrics")


@pytest.fixture
def place(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with folder.yaml, 120 images in 3 classes, a judge and a generator of the user's own."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if str(workplace.parents[1]) not in place])
    monkeypatch.setenv("HARNESS_DATA", str(workplace / "cache"))
    (workplace / "folder.yaml").write_text(FOLDER)
    (workplace / "plain_judge.py").write_text(JUDGE)
    (workplace / "networks.py").write_text(NETWORKS)
    draw(workplace, "abc", 40)
    forget()
    yield workplace
    forget()


def forget() -> None:
    for name in ("networks", "plain_judge"):
        sys.modules.pop(name, None)


def draw(place: Path, kinds: str, count: int, first: int = 0) -> None:
    for kind in kinds:
        folder = place / "shapes" / kind
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(ord(kind) + first)
        for index in range(first, first + count):
            Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{index:03}.png")


def rewrite(file: Path, before: str, after: str) -> None:
    """The user edits a module, and calls the next command in a new process."""
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    forget()


def refused(harness: Harness, *arguments: str) -> str:
    said = harness(*arguments)
    assert (said.code, said.err.count("\n")) == (2, 1), said.out + said.err
    return said.err


def study_progress(name: str) -> tuple[object, ...]:
    run = run_named(name)
    return run.info.status, run.info.end_time, run.data.tags, run.data.metrics


# Images ----------------------------------------------------------------------------------------------------------


def test_a_folder_that_has_grown_is_refused_until_that_is_allowed(harness: Harness, place: Path) -> None:
    assert harness("run", "folder.yaml", "--name", "one", "--no-system-metrics").code == 0
    before = study_progress("one")
    assert run_named("one").data.tags["harness.data.train"].startswith("98 images, 3 classes, ")
    draw(place, "a", 10, first=40)
    said = refused(harness, "run", "--resume", "one", "--epochs", "3", *TRUST)
    assert "the images of run one" in said
    assert re.search(r"train: 98 images, 3 classes, \w{16} -> 107 images, 3 classes, \w{16}", said)
    assert "validation: 10 images" in said
    assert "test: 12 images" in said
    assert "--allow-changes" in said
    assert study_progress("one") == before

    answer = harness("run", "--resume", "one", "--epochs", "3", "--allow-changes", *TRUST)
    assert answer.code == 0, answer.err
    after = run_named("one")
    assert after.info.status == "FINISHED"
    assert after.data.tags["harness.changed"].startswith("from epoch 3 on: train: 98 images, 3 classes, ")
    assert after.data.tags["harness.data.train"].startswith("107 images")
    assert len(after.inputs.dataset_inputs) == 2
    assert harness("run", "--resume", "one", "--epochs", "4", *TRUST).code == 0, "nothing has changed since then"
    assert harness("run", "folder.yaml", "--name", "two", "--epochs", "1", "--no-system-metrics").code == 0
    said = harness("compare", "one", "two").err
    assert "one continues with other images, judge or code from epoch 3 on" in " ".join(said.split())


def test_a_class_more_does_not_fit_a_conditional_run_and_fails_none(harness: Harness, place: Path) -> None:
    run = ("run", "folder.yaml", "--set", "conditional=true", "--no-system-metrics")
    assert harness(*run, "--name", "one").code == 0
    before = study_progress("one")
    draw(place, "d", 20)
    assert "3 classes" in refused(harness, "run", "--resume", "one", "--epochs", "3", *TRUST)
    said = harness("run", "--resume", "one", "--epochs", "3", "--allow-changes", *TRUST)
    assert said.code == 2
    assert "the weights of run one do not fit the networks as they are now: size mismatch for" in said.err
    assert (
        "is asked for one of 3 classes, but folder-shapes/train has 4 now" in harness("evaluate", "one", "--trust").err
    )
    assert study_progress("one") == before
    assert harness("sample", "one", "--out", "a.png").code == 0, "it needs no images"


def test_scores_against_other_images_are_shown_and_not_written_back(harness: Harness, place: Path) -> None:
    assert harness("run", "folder.yaml", "--name", "one", "--no-system-metrics").code == 0
    before = study_progress("one")
    assert harness("evaluate", "one", "--trust").err.count("run one is scored with what is here now") == 0
    assert study_progress("one") == before
    draw(place, "abc", 10, first=40)
    said = harness("evaluate", "one", "--trust")
    assert said.code == 0, said.err
    assert "run one is scored with what is here now, which is not what it was trained on and with (train: " in said.err
    assert "its scores are shown, not written back" in said.err
    assert study_progress("one") == before
    assert harness("evaluate", "one", "--trust", "--allow-changes").code == 0
    after = run_named("one").data
    assert after.metrics["test/kid"] != before[3]["test/kid"]  # type: ignore[index]
    assert after.tags["harness.changed"].startswith("evaluated: train: ")


def test_seeds_are_not_continued_on_other_images(harness: Harness, place: Path) -> None:
    seeds = ("--seeds", "2", "--batch-runs", "2", "--epochs", "1", "--no-system-metrics")
    assert harness("run", "folder.yaml", *seeds, "--name", "all").code == 0
    names = ("all", "all-seed0", "all-seed1")
    before = [study_progress(name) for name in names]
    assert run_named("all").data.tags["harness.dataset"] == run_named("all-seed1").data.tags["harness.dataset"]
    draw(place, "a", 10, first=40)
    assert "the images of run all" in refused(harness, "run", "--resume", "all", *TRUST)
    assert [study_progress(name) for name in names] == before

    store = Store.open()
    known = find_resumable(store, "all-seed0")
    with trust.trusting():
        training, scoring = prepare(known.checkpoint.experiment, NullDisplay())
    plans = [RunSpec(known.checkpoint.experiment.with_values({"train.epochs": 2}), RunOptions(), known)] * 2
    with trust.trusting(), pytest.raises(HarnessError, match="the images of run all-seed0"):
        run_batched(plans, training.images, training.validation, scoring, store, NullDisplay())
    assert [study_progress(name) for name in names] == before


def test_a_study_is_not_continued_on_other_images_or_with_another_judge(harness: Harness, place: Path) -> None:
    tune = ("tune", "folder.yaml", *QUIET, "--pruner", "none", "--epochs", "1", "--study", "small")
    assert harness(*tune, "--trials", "1").code == 0
    before = study_progress("small")
    draw(place, "abc", 10, first=40)
    said = refused(harness, *tune, "--trials", "2")
    assert "the images of study small" in said
    assert "98 images" in said
    assert study_progress("small") == before
    assert len(optuna_trials()) == 1

    assert harness(*tune, "--trials", "2", "--allow-changes").code == 0
    trials = optuna_trials()
    assert ["harness.changed" in trial.user_attrs for trial in trials] == [False, True]
    assert ["harness.changed" in run.data.tags for _, run in sorted(runs("trial").items())] == [False, True]
    assert the_study().data.tags["harness.changed"].startswith("from trial 1 on: train: 98 images")
    rewrite(place / "plain_judge.py", "/ 255", "/ 256")
    assert "the source of plain_judge:Plain differs from that of study small" in refused(
        harness, *tune, "--trials", "3"
    )

    # A study of an older version says nothing of its images.
    import optuna

    from harness.tuning.storage import open_storage

    storage = open_storage(None, place / "mlruns", "")
    optuna.load_study(study_name="small", storage=storage).set_user_attr("harness.identity", {})
    assert harness(*tune, "--trials", "3").code == 0


def test_runs_of_older_versions_are_compared_by_what_they_have_kept(harness: Harness, place: Path) -> None:
    own = ("--set", "generator.kind=networks:Generator")
    assert harness("run", "folder.yaml", *own, "--name", "one", "--no-system-metrics").code == 0
    run_id = only_run().info.run_id
    for tag in only_run().data.tags:
        if tag.startswith(("harness.data.", "harness.code.")):
            client().delete_tag(run_id, tag)
    rewrite(place / "networks.py", "ReLU", "SiLU")
    said = harness("sample", "one", "--out", "a.png", "--trust")
    assert (said.code, said.err.count("the source of networks:Generator differs")) == (0, 1)
    rewrite(place / "networks.py", "SiLU", "ReLU")
    draw(place, "a", 10, first=40)
    said_so = refused(harness, "run", "--resume", "one", "--epochs", "3", *TRUST)
    assert re.search(r"\(train: \w{16} -> \w{16}\)", said_so)
    client().delete_tag(run_id, "harness.dataset")
    assert harness("run", "--resume", "one", "--epochs", "3", *TRUST).code == 0


# Code ------------------------------------------------------------------------------------------------------------


def test_networks_that_have_changed_are_said_and_the_kept_source_is_offered(harness: Harness, place: Path) -> None:
    own = ("--set", "generator.kind=networks:Generator")
    assert harness("run", "folder.yaml", *own, "--epochs", "1", "--name", "one", "--no-system-metrics").code == 0
    draw_ = ("sample", "one", "--count", "4", "--trust", "--out")
    assert harness(*draw_, "before.npz").err == ""
    before, images = study_progress("one"), np.load("before.npz")["images"]
    assert re.fullmatch(r"networks\.py \w{16}", run_named("one").data.tags["harness.code.generator"])

    rewrite(place / "networks.py", "WIDTH = 8", "WIDTH = 8  # enough")
    assert harness(*draw_, "a.npz").err == "", "a comment changes nothing"
    rewrite(place / "networks.py", "ReLU", "SiLU")  # the same shapes
    said = harness(*draw_, "a.npz")
    assert (said.code, said.err.count("\n")) == (0, 1)
    assert "the source of networks:Generator differs from that of run one" in said.err
    assert "sampled with the local source" in said.err
    assert not np.array_equal(np.load("a.npz")["images"], images)
    said = harness("evaluate", "one", "--trust")
    assert (said.code, "its scores are shown, not written back" in said.err) == (0, True)
    assert study_progress("one") == before

    rewrite(place / "networks.py", "WIDTH = 8", "WIDTH = 16")  # other shapes
    extend = ("run", "--resume", "one", "--epochs", "2", *TRUST)
    assert "differs from that of run one" in refused(harness, *draw_, "a.npz")
    assert "--stored-code uses the source stored with it; --allow-changes" in refused(harness, *extend)
    said = harness(*extend, "--allow-changes")
    assert (said.code, "do not fit the networks as they are now: size mismatch" in said.err) == (2, True)
    assert study_progress("one") == before

    said = harness(*draw_, "kept.npz", "--stored-code")
    assert (said.code, said.err) == (0, "")
    assert np.array_equal(np.load("kept.npz")["images"], images)
    said = harness(*extend, "--stored-code")
    assert said.code == 0, said.err
    after = run_named("one")
    assert after.info.status == "FINISHED"
    assert "harness.changed" not in after.data.tags
    assert after.data.tags["harness.code.generator"] == before[2]["harness.code.generator"]  # type: ignore[index]


def test_a_study_goes_on_with_the_source_that_it_kept(harness: Harness, place: Path) -> None:
    kind = ("--set", "generator.kind=networks:Generator")
    tune = ("tune", "folder.yaml", *kind, *QUIET, "--pruner", "none", "--epochs", "1", "--study", "small")
    assert harness(*tune, "--trials", "1").code == 0
    rewrite(place / "networks.py", "WIDTH = 8", "WIDTH = 16")
    assert "the source of networks:Generator differs from that of study small" in refused(harness, *tune)
    assert the_study().info.status == "FINISHED"
    assert harness(*tune, "--trials", "2", "--stored-code").code == 0
    first, second = (run.data.tags["harness.code.generator"] for run in runs("trial").values())
    assert first == second


def test_files_of_one_name_are_kept_apart(harness: Harness, place: Path) -> None:
    for package, width in (("near", 8), ("far", 4)):
        (place / package).mkdir()
        (place / package / "layers.py").write_text(NETWORKS.replace("WIDTH = 8", f"WIDTH = {width}"))
    (place / "far" / "__init__.py").write_text("from .layers import Generator\n")
    judge = "class Judge(nn.Module):\n    def forward(self, pixels):\n        return pixels.flatten(1)[:, :9].float()\n"
    with (place / "near" / "layers.py").open("a") as file:
        file.write(judge)
    own = ("--set", "generator.kind=far:Generator", "--set", "quality.judge=near.layers:Judge")
    assert harness("run", "folder.yaml", *own, "--epochs", "1", "--name", "one", "--no-system-metrics").code == 0
    run = run_named("one")
    assert run.data.tags["harness.code.generator"].startswith("far/layers.py "), "where the class stands"
    assert run.data.tags["harness.code.judge"].startswith("near/layers.py ")
    kept = Path(client().download_artifacts(run.info.run_id, "networks"))
    for package in ("near", "far"):
        assert (kept / package / "layers.py").read_text() == (place / package / "layers.py").read_text()
    for name in [name for name in sys.modules if name.split(".")[0] in ("near", "far")]:
        del sys.modules[name]
    shutil.rmtree(place / "near")
    said = harness("evaluate", "one", "--trust", "--stored-code")
    assert said.code == 0, said.err


def test_what_a_run_has_not_kept_cannot_be_used(harness: Harness, place: Path) -> None:
    own = ("--set", "generator.kind=networks:Generator")
    assert harness("run", "folder.yaml", *own, "--epochs", "1", "--name", "one", "--no-system-metrics").code == 0
    kept = Path(client().get_run(run_named("one").info.run_id).info.artifact_uri.removeprefix("file://"))
    shutil.rmtree(kept / "networks")
    said = refused(harness, "sample", "one", "--out", "a.png", "--trust", "--stored-code")
    assert "has no stored source of generator.kind networks:Generator: leave --stored-code out" in said


def test_differences_in_words() -> None:
    before = {
        "harness.data.train": "4 images, 2 classes, aa",
        "harness.judge": "first 1",
        "harness.code.judge": "j.py 1",
    }
    now = {"harness.data.train": "5 images, 2 classes, bb", "harness.judge": "first 1", "harness.data.test": "1"}
    found = changes.differences(before, now)
    assert changes.format_differences(found) == "train: 4 images, 2 classes, aa -> 5 images, 2 classes, bb"
    older = {"harness.dataset": "mnist/train aa"}
    assert changes.differences(older, {"harness.data.train": "4 images, 2 classes, aa"}) == {}
    assert changes.differences({}, now) == {}
