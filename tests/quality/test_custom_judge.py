"""A user's own feature network as judge."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.data import Images
from harness.errors import HarnessError
from harness.quality import Scorer, load_judge

NETWORK = """
import torch

class Pixels(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(14 * 14, 6)
        torch.nn.init.constant_(self.linear.weight, 0.5)

    def forward(self, pixels):
        return self.linear(pixels.flatten(1).float() / 255)

class Broken(torch.nn.Module):
    def forward(self, pixels):
        return pixels.float()

class Needy(torch.nn.Module):
    def __init__(self, path):
        super().__init__()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module in the current folder."""
    name = f"own_{abs(hash(request.node.nodeid))}"  # a module is imported once a process
    (tmp_path / f"{name}.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    return name


def test_own_network_is_found_and_scores(module: str, small: Images, own_cache: Path) -> None:
    judge = load_judge(f"{module}:Pixels", small)
    assert judge.name == f"{module}:Pixels"
    assert judge.features_and_classes(small.pixels)[0].shape == (256, 6)
    found = Scorer(judge, small, small, samples=100).score(small.pixels)
    assert found.values["class_kl"] is None  # it does not classify
    assert found.values["coverage"] is not None


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_own_weights_are_read_and_name_the_judge(module: str, small: Images, tmp_path: Path, suffix: str) -> None:
    plain = load_judge(f"{module}:Pixels", small)
    state = {"linear.weight": torch.zeros(6, 196), "linear.bias": torch.arange(6.0)}
    weights = tmp_path / f"weights{suffix}"
    save_file(state, weights) if suffix == ".safetensors" else torch.save(state, weights)
    judge = load_judge(f"{module}:Pixels", small, weights=weights)
    assert judge.features_and_classes(small.pixels[:1])[0].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert judge.sha256 != plain.sha256


def test_what_does_not_fit_is_named(module: str, small: Images, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"something": torch.zeros(1)}, other)
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"not weights")
    for which, weights, expected in (
        ("no_such_module:Class", None, "cannot import 'no_such_module'"),
        (f"{module}:Absent", None, "no torch.nn.Module class named 'Absent'"),
        (f"{module}:Needy", None, "building it without arguments failed"),
        (f"{module}:Pixels", other, "cannot be used"),
        (f"{module}:Pixels", garbage, "cannot be used"),
        (f"{module}:Pixels", tmp_path / "absent.pt", "cannot be used"),
    ):
        with pytest.raises(HarnessError, match=expected):
            load_judge(which, small, weights=weights)


def test_wrong_answers_are_named(module: str, small: Images) -> None:
    with pytest.raises(HarnessError, match=r"returned a tensor \[256, 1, 14, 14\] for 256 images"):
        load_judge(f"{module}:Broken", small).features_and_classes(small.pixels)[0]
    with pytest.raises(HarnessError, match="failed on uint8"):
        load_judge(f"{module}:Pixels", small).features_and_classes(small.pixels[:, :, :7])[0]
