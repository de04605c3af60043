"""Samplers of the user, by dotted path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.tuning.custom_sampler import build_sampler

from ..commands import Harness
from .common import QUIET, optuna_trials

CODE = """
import optuna
class Fixed(optuna.samplers.RandomSampler):
    def sample_independent(self, study, trial, name, distribution):
        ended = len([each for each in study.get_trials(deepcopy=False) if each.state.is_finished()])
        if name == "generator.latent":
            return 4 + ended
        return super().sample_independent(study, trial, name, distribution)
def broken(): raise RuntimeError("no luck")
def other(): return 3
number = 3
"""
TUNE = ("tune", "small.yaml", *QUIET, "--epochs", "1", "--pruner", "none")


@pytest.fixture(autouse=True)
def my_samplers(small: Path) -> Iterator[None]:
    (small / "my_samplers.py").write_text(CODE)
    yield
    sys.modules.pop("my_samplers", None)


def test_a_study_uses_the_users_sampler(harness: Harness, small: Path) -> None:
    for study in ("one", "again"):
        said = harness(*TUNE, "--trials", "3", "--sampler", "my_samplers:Fixed", "--study", study)
        assert said.code == 0, said.out + said.err
    assert [trial.params["generator.latent"] for trial in optuna_trials("one")[1:]] == [5, 6]
    assert [trial.params for trial in optuna_trials("one")] == [trial.params for trial in optuna_trials("again")]


def test_a_sampler_that_a_storage_names_needs_trust(harness: Harness, small: Path) -> None:
    assert harness(*TUNE, "--trials", "1", "--sampler", "my_samplers:Fixed").code == 0
    resume = ("tune", "--study", "small", "--trials", "2", "--no-system-metrics")
    said = harness(*resume)
    assert (said.code, "my_samplers:Fixed" in said.err, "--trust" in said.err) == (2, True, True), said.err
    assert len(optuna_trials()) == 1
    said = harness(*resume, "--trust")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("my_samplers:Missing", "my_samplers has no class or function named 'Missing'"),
        ("my_samplers:number", "my_samplers has no class or function named 'number'"),
        ("my_samplers:broken", "cannot be created: no luck"),
        ("my_samplers:other", "it is of type int, expected an optuna.samplers.BaseSampler"),
        ("not_there:Fixed", "cannot be created"),
        ("optunahub:samplers/auto_sampler:AutoSampler", "pip install optunahub"),
    ],
)
def test_a_wrong_sampler_is_refused(harness: Harness, small: Path, path: str, text: str) -> None:
    said = harness(*TUNE, "--trials", "1", "--sampler", path)
    assert (said.code, text in said.err) == (2, True), said.err
    assert said.err.count("\n") == 1
    assert not (small / "mlruns" / "optuna.journal").exists()


def test_a_package_of_optunahub_is_loaded(monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    """By its own function, which downloads it: here a stand-in."""
    import types

    import optuna

    hub = types.ModuleType("optunahub")
    asked = []

    def load_module(package: str) -> object:
        asked.append(package)
        return types.SimpleNamespace(AutoSampler=optuna.samplers.RandomSampler)

    hub.load_module = load_module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optunahub", hub)
    assert isinstance(build_sampler("optunahub:samplers/auto_sampler:AutoSampler", 3), optuna.samplers.RandomSampler)
    assert asked == ["samplers/auto_sampler"]
    with pytest.raises(HarnessError, match="no class or function named 'Other'"):
        build_sampler("optunahub:samplers/auto_sampler:Other", 3)
