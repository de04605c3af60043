"""MNIST from the package to tensors: whole, verified, split and cut as asked; safe to start together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness import data
from harness.errors import HarnessError


@pytest.fixture(scope="module")
def train() -> data.Images:
    return data.load_split("mnist", "train")


def test_mnist_is_complete() -> None:
    splits = data.load("mnist")
    assert splits.train.pixels.shape == (60_000, 1, 28, 28)
    assert splits.test.pixels.shape == (10_000, 1, 28, 28)
    assert splits.train.pixels.dtype == torch.uint8
    assert splits.validation is None
    assert splits.train.labels is not None
    assert splits.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert splits.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert round(splits.train.pixels.float().mean().item() / 255, 4) == 0.1307


def test_validation_images_are_held_out_and_always_the_same() -> None:
    one, other = data.load("mnist", validation=10_000), data.load("mnist", validation=10_000, subset=500, seed=9)
    assert one.validation is not None
    assert other.validation is not None
    assert one.validation.fingerprint == other.validation.fingerprint
    assert len(one.train) == 50_000
    assert len(other.train) == 500
    held = {image.numpy().tobytes() for image in one.validation.pixels}
    assert not any(image.numpy().tobytes() in held for image in other.train.pixels)


def test_a_subset_is_class_balanced_and_seeded(train: data.Images) -> None:
    subset = data.class_balanced(train, 1003, seed=0)
    assert subset.labels is not None
    assert set(subset.labels.bincount().tolist()) == {100, 101}
    assert data.class_balanced(train, 1003, seed=0).fingerprint == subset.fingerprint
    assert data.class_balanced(train, 1003, seed=1).fingerprint != subset.fingerprint


def test_a_subset_larger_than_the_rarest_class_allows_takes_the_rest_of_the_others(train: data.Images) -> None:
    subset = data.class_balanced(train, 58_000, seed=0)
    assert subset.labels is not None
    counts = subset.labels.bincount()
    assert counts.sum() == 58_000
    assert counts[5] == 5421
    assert counts.max() <= 5981  # as level as the rarer classes allow


def test_too_much_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"data\.subset is 60,001, but there are 60,000 training images"):
        data.load("mnist", subset=60_001)
    with pytest.raises(HarnessError, match=r"data\.validation is 60,000, but mnist/train has 60,000"):
        data.load("mnist", validation=60_000)


def test_an_unknown_data_set_names_the_known() -> None:
    with pytest.raises(HarnessError, match=r"data\.name is 'mnits'; known data sets: mnist, digits, fashion-mnist, "):
        data.load("mnits")


def test_a_fingerprint_follows_the_content_alone(train: data.Images) -> None:
    ten = train.index_select(torch.arange(10))
    assert ten.fingerprint == train.index_select(torch.arange(10), "another name").fingerprint
    assert ten.fingerprint != train.index_select(torch.arange(1, 11)).fingerprint


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_cache_is_named_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    data.load_split("mnist", "test")
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = file.read_bytes()
    file.unlink()
    if damage == "truncate":
        file.write_bytes(content[:1000])
    elif damage == "flip":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(HarnessError, match=r"t10k-images-idx3-ubyte.*delete the folder .*raw and run again") as caught:
        data.load_split("mnist", "test")
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "file"))
    with pytest.raises(HarnessError, match="set HARNESS_DATA to a folder you own"):
        data.load_split("mnist", "test")


def test_processes_that_start_together_do_not_trip_over_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "cache"))
    code = "from harness import data; print(data.load_split('mnist', 'test').fingerprint)"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(printed)) == 1
    assert sorted(path.name for path in (tmp_path / "cache" / "MNIST").iterdir()) == ["raw"]
