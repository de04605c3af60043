"""Commands on other data than MNIST: a folder of images, digits, and sets that have to be downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from harness import data
from harness.data.torchvision_sets import TORCHVISION_DATASETS

from ..commands import Harness, client, only_run, run_named, size_of
from .host import serving
from .test_torchvision_sets import publish

OWN_JUDGE = """
import torch


class Plain(torch.nn.Module):
    def forward(self, pixels):
        return pixels.flatten(1)[:, ::7].float() / 255
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _data_cache: Path) -> None:
    """Of the test's own, but for MNIST."""
    (tmp_path / "cache").mkdir()
    data.load_split("mnist", "test")
    (tmp_path / "cache" / "MNIST").symlink_to(_data_cache / "MNIST")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "cache"))


@pytest.fixture
def shapes(workplace: Path) -> Path:
    """300 images of no class, 20x20: bright discs of various sizes and places."""
    folder = workplace / "shapes"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:20, :20]
    for index in range(300):
        row, column, radius = random.uniform([5, 5, 3], [15, 15, 6])
        disc = ((rows - row) ** 2 + (columns - column) ** 2 < radius**2) * np.uint8(255)
        Image.fromarray(disc).save(folder / f"{index:03}.png")
    return folder


FOLDER = (
    "--set",
    "data.name=folder",
    "--set",
    "data.path=shapes",
    "--set",
    "data.size=16",
    "--set",
    "data.subset=null",
)


def test_a_folder_without_labels_trains_unscored_and_its_generator_needs_it_no_more(
    harness: Harness, shapes: Path
) -> None:
    said = harness("run", "tiny.yaml", *FOLDER, "--set", "data.validation=40", "--set", "track.score_every=1")
    assert said.code == 0, said.out + said.err
    assert "of 300 images 300 were cropped and resized to 16x16, 0 converted to grey" in said.out
    assert "folder-shapes/train has no labels to train a judge on, so nothing is scored: for scores, set quality" in (
        " ".join(said.out.split())
    )
    run = only_run()
    assert run.data.tags["harness.dataset"].startswith("folder-shapes/train ")
    assert run.data.params["data.path"] == str(shapes)
    assert not [name for name in run.data.metrics if name.startswith(("quality/", "test/"))]
    shapes.rename(shapes.with_name("moved"))
    assert harness("sample", "latest", "--out", "digits.png", "--count", "4").code == 0
    assert size_of(Path("digits.png")) == (74, 20)
    assert harness("sample", "latest", "--interpolate", "--out", "walk.npz", "--frames", "3", "--count", "2").code == 0
    with np.load("walk.npz") as walk:
        assert walk["images"].shape == (2, 3, 16, 16)
    for arguments in (("run", "--resume", "latest", "--epochs", "5"), ("run", "tiny.yaml", *FOLDER)):
        said = harness(*arguments)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert f"data.path: {shapes} is not there; expected a folder of images" in said.err


def test_a_folder_without_labels_is_scored_by_a_judge_of_ones_own(harness: Harness, shapes: Path) -> None:
    Path("plain_judge.py").write_text(OWN_JUDGE)
    scores = ("--set", "data.validation=40", "--set", "quality.samples=30", "--set", "quality.judge=plain_judge:Plain")
    said = harness("run", "tiny.yaml", *FOLDER, *scores, "--set", "track.score_every=1")
    assert said.code == 0, said.out + said.err
    assert set(only_run().data.metrics) >= {"quality/kid", "test/kid", "test/memorisation"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.path=shapes"], "data.path is set, but data.name is mnist: it belongs to folder"),
        (["data.size=16"], "data.size is set, but data.name is mnist: it belongs to folder"),
        (["data.name=folder"], "data.name is folder, but data.path is not set: set it to the folder of your images"),
        (["data.name=folder", "data.path=shapes", "data.channels=2"], "data.channels is 2; input should be 1 or 3"),
        (["data.name=folder", "data.path=absent", "data.subset=null"], "absent is not there; expected a folder of"),
        (["data.name=folder", "data.path=tiny.yaml"], "tiny.yaml is not a folder"),
        (
            ["data.name=folder", "data.path=shapes", "data.subset=null", "conditional=true"],
            "folder-shapes/train has no labels, but `conditional: true` needs them: set it to false",
        ),
        (
            ["data.name=folder", "data.path=shapes", "data.size=18", "generator.kind=conv"],
            "folder-shapes/train[60] are 18x18; networks of kind conv take sides divisible by 4",
        ),
        (
            ["data.name=folder", "data.path=shapes", "data.validation=10000"],
            "folder-shapes has 300 images: data.validation is 10,000, but there are 270 training images; these work "
            "together: data.validation=27 train.batch_size=20",
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_tracked(
    harness: Harness, shapes: Path, arguments: list[str], said: str
) -> None:
    answer = harness("run", "tiny.yaml", *(word for argument in arguments for word in ("--set", argument)))
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert client().search_runs([e.experiment_id for e in client().search_experiments()]) == []


def test_a_study_of_images_without_a_judge_is_refused(harness: Harness, shapes: Path) -> None:
    answer = harness("tune", "tiny.yaml", *FOLDER, "--set", "data.validation=40", "--trials", "1")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "a search needs scores, and there is no judge for the images of tiny" in answer.err


def test_check_passes_a_folder_and_the_small_digits_with_their_own_judge(harness: Harness, shapes: Path) -> None:
    tiny = Path("tiny.yaml").read_text().replace("data: {name: mnist, subset: 60, validation: 0}", "data: {DATA}")
    Path("shapes.yaml").write_text(
        tiny.replace("name: tiny", "name: shapes").replace(
            "DATA", "name: folder, path: shapes, validation: 40, size: 8"
        )
    )
    Path("small.yaml").write_text(
        tiny.replace("name: tiny", "name: small").replace("DATA", "name: digits, validation: 143")
        + "conditional: true\n"
    )
    said = harness("check", "shapes.yaml", "small.yaml")
    assert said.code == 0, said.out + said.err
    assert said.out.count("passed") == 2
    assert "test/kid" not in run_named("shapes").data.metrics
    small = run_named("small")
    assert "test/kid" in small.data.metrics
    assert small.data.tags["harness.judge"].startswith("digits-first ")


def test_a_set_that_is_not_here_is_skipped_by_check_unless_a_mirror_has_it(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Path("tiny.yaml").read_text().replace("name: mnist, subset: 60", "name: fashion-mnist, subset: 10")
    tiny = tiny.replace("batch_size: 20", "batch_size: 4").replace("quality: {", "quality: {judge: null, ")
    Path("cloth.yaml").write_text(tiny.replace("name: tiny", "name: cloth"))
    assert harness("check", "cloth.yaml").code == 0
    assert only_run().data.metrics["check/skipped"] == 1
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as host:
        publish(host, "fashion-mnist", monkeypatch)
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
        host.files = {f"FashionMNIST/raw/{name}": content for name, content in host.files.items()}
        said = harness("run", "cloth.yaml")
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "cannot download train-images-idx3-ubyte.gz: 127.0.0.1 cannot be reached" in said.err
        monkeypatch.setenv("HARNESS_MIRROR", host.url)
        said = harness("check", "cloth.yaml")
        assert said.code == 0, said.out + said.err
        assert "passed" in said.out
    said = harness("doctor")
    assert "fashion-mnist: 12 + 6 images, checked" in said.out
    assert (
        f"downloaded at first use: {', '.join(name for name in TORCHVISION_DATASETS if name != 'fashion-mnist')}"
        in said.out
    )


def test_a_download_is_told_of(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as host:
        publish(host, "usps", monkeypatch)
        words = (
            "--set",
            "data.name=usps",
            "--subset",
            "10",
            "--set",
            "train.batch_size=5",
            "--set",
            "quality.judge=null",
        )
        said = harness("run", "tiny.yaml", *words)
    assert said.code == 0, said.out + said.err
    assert "downloading usps.bz2 from 127.0.0.1" in said.out


def test_older_checkpoints_go_by_the_data_set(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--epochs", "1").code == 0
    assert harness("sample", "latest", "--out", "new.npz", "--count", "5").code == 0
    for path in Path("mlruns").rglob("last.pt"):
        state = torch.load(path, weights_only=True)
        assert state.pop("images") == {"name": "mnist/train[60]", "shape": [1, 28, 28], "classes": 10, "labelled": True}
        torch.save(state, path)
    assert harness("sample", "latest", "--out", "old.npz", "--count", "5").code == 0
    with np.load("new.npz") as new, np.load("old.npz") as old:
        assert np.array_equal(new["images"], old["images"])
