"""Real digits, and a data set small enough to train a judge on within a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.data import Images, Splits, class_balanced, load


@pytest.fixture(scope="session")
def mnist() -> Splits:
    return load("mnist", validation=10_000)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for this test alone."""
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(mnist: Splits) -> Images:
    """256 digits at 14x14, under a name that no judge is shipped for."""
    images = class_balanced(mnist.train, 256, seed=0)
    return replace(images, name="small/train", pixels=images.pixels[:, :, ::2, ::2].contiguous())
