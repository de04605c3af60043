"""The smallest real set: whole, split as always, and good enough for both judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import data
from harness.errors import HarnessError
from harness.quality import Judge, Scorer
from harness.quality.train_judge import accuracy, train_judge


def test_it_is_complete_and_always_split_alike() -> None:
    splits = data.load("digits")
    assert splits.train.pixels.shape == (1438, 1, 8, 8)
    assert splits.test.pixels.shape == (359, 1, 8, 8)
    assert (int(splits.train.pixels.min()), int(splits.train.pixels.max())) == (0, 255)
    assert splits.train.labels is not None
    assert splits.test.labels is not None
    counts = splits.train.labels.bincount() + splits.test.labels.bincount()
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # scikit-learn's description
    assert splits.test.fingerprint == data.load_split("digits", "test").fingerprint
    held = {image.numpy().tobytes() for image in splits.test.pixels}
    assert not any(image.numpy().tobytes() in held for image in splits.train.pixels)


def test_holding_out_too_many_says_what_to_set() -> None:
    with pytest.raises(
        HarnessError, match=r"digits/train has 1,438 .*set data\.validation to 143 \(a tenth\), or to 0"
    ):
        data.load("digits", validation=10_000)


@pytest.mark.parametrize("which", ["first", "second"])
def test_both_judges_know_the_digits_of_eight_by_eight(which: str, cache: Path) -> None:
    splits = data.load("digits", validation=143)
    network = train_judge(which, splits.train)
    assert accuracy(network, splits.test) > 0.97
    judge = Judge(network, name="digits", sha256="0")
    scorer = Scorer(judge, splits.test, splits.train, samples=300)
    assert scorer.reference()["kid"] < 0.05 < scorer.score(255 - splits.test.pixels)["kid"]
