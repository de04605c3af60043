"""Checkpoints: whole or not at all, and one clear line for a damaged one."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from harness import data
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import Training, checkpoints
from harness.gan.checkpoints import Checkpoint


@pytest.fixture
def checkpoint(tiny: Experiment) -> Checkpoint:
    training = Training(tiny, data.load("mnist", subset=60).train)
    training.train_epoch()
    return Checkpoint(tiny, training.state_dict(), threads=1, score=0.5, empty_images=training.images.empty_like())


def test_what_is_saved_is_what_is_loaded(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.pt"
    checkpoints.save(path, checkpoint)
    loaded = checkpoints.load(path)
    assert loaded.experiment == checkpoint.experiment
    assert (loaded.epoch, loaded.threads, loaded.score) == (1, 1, 0.5)
    assert loaded.empty_images is not None
    assert (loaded.empty_images.name, loaded.empty_images.shape, loaded.empty_images.classes) == (
        "mnist/train[60]",
        (1, 28, 28),
        10,
    )
    assert loaded.empty_images.labels is not None
    assert len(loaded.empty_images) == 0
    training = Training(loaded.experiment, data.load("mnist", subset=60).train)
    training.load_state_dict(loaded.training)
    for name, weights in training.generator.state_dict().items():
        assert torch.equal(weights, checkpoint.training["generator"][name])


def test_saving_leaves_nothing_beside_the_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for _ in range(2):
        checkpoints.save(tmp_path / "last.pt", checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_failed_save_leaves_the_old_checkpoint(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    checkpoints.save(path, checkpoint)
    before = path.read_bytes()

    def full(state: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(HarnessError, match="No space left on device"):
        checkpoints.save(path, checkpoint)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("keep", [0, 10, 1000, -100])
def test_a_truncated_checkpoint_is_refused(checkpoint: Checkpoint, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "last.pt"
    checkpoints.save(path, checkpoint)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(HarnessError, match=r"last\.pt is not a readable checkpoint"):
        checkpoints.load(path)


def test_flipped_bits_are_refused_or_change_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoints.save(path, checkpoint)
    whole = path.read_bytes()
    said: list[str] = []
    marks_a_folder = whole.rindex(b"PK\x01\x02") + 38  # the one place of the directory that torch alone reads
    for position in [*range(0, len(whole), len(whole) // 20), marks_a_folder, len(whole) - 1]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        try:
            loaded = checkpoints.load(path)
        except HarnessError as error:
            said.append(str(error))
        else:
            assert (loaded.experiment, loaded.threads, loaded.score) == (checkpoint.experiment, 1, 0.5)
            assert_equal(loaded.training, checkpoint.training)
    assert len(said) > 10
    assert all("is not a readable checkpoint" in line for line in said)


def assert_equal(found: object, expected: object) -> None:
    """The same values in the same places, tensors to the bit."""
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found, expected)
    elif isinstance(expected, Mapping):
        assert isinstance(found, Mapping)
        assert list(found) == list(expected)
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert isinstance(found, list | tuple)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        assert found == expected


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    path = tmp_path / "last.pt"
    torch.save({"format": 3, "training": Evil()}, path)
    with pytest.raises(HarnessError):
        checkpoints.load(path)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(HarnessError):
        checkpoints.load(path)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_another_format_is_named(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "last.pt")
    with pytest.raises(HarnessError, match="another version of harness \\(format 99, expected 3\\)"):
        checkpoints.load(tmp_path / "last.pt")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="there is no checkpoint"):
        checkpoints.load(tmp_path / "last.pt")
