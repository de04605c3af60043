"""Scoring real digits, and what was done to them, with the shipped judge."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from harness.data import Images, Splits
from harness.errors import HarnessError
from harness.quality import Judge, Scorer, ScoreSet, load_judge

SAMPLES = 1_000


@pytest.fixture(scope="module")
def judge(mnist: Splits) -> Judge:
    return load_judge("first", mnist.train)


def held_out(splits: Splits) -> Images:
    assert splits.validation is not None
    return splits.validation


def known(score: float | None) -> float:
    assert score is not None
    return score


@pytest.fixture
def seen(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the judge is given, call by call."""
    counts: list[int] = []
    look = judge.features_and_classes

    def counted(pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        counts.append(len(pixels))
        return look(pixels)

    monkeypatch.setattr(judge, "features_and_classes", counted)
    return counts


@pytest.fixture(scope="module")
def scorer(judge: Judge, mnist: Splits) -> Scorer:
    return Scorer(judge, held_out(mnist), mnist.train, samples=SAMPLES)


@pytest.fixture(scope="module")
def digits(mnist: Splits) -> Tensor:
    """Digits that neither the judge nor the Scorer has seen."""
    return mnist.test.pixels[5_000 : 5_000 + SAMPLES]


def blurred(pixels: Tensor, times: int) -> Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).view(1, 1, 3, 3) / 16
    blurry = pixels.float()
    for _ in range(times):
        blurry = F.conv2d(blurry, kernel, padding=1)
    return blurry.round().to(torch.uint8)


def noisy(pixels: Tensor, deviation: int) -> Tensor:
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)) * deviation
    return (pixels + noise).round().clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def damaged(scorer: Scorer, digits: Tensor, mnist: Splits) -> Callable[[str], list[ScoreSet]]:
    """The scores of digits under no damage and at three strengths of it."""
    labels = mnist.test.labels
    assert labels is not None
    sets = {
        "blur": [blurred(digits, times) for times in (1, 2, 4)],
        "noise": [noisy(digits, deviation) for deviation in (20, 40, 80)],
        "dropped": [mnist.test.pixels[labels >= dropped][:SAMPLES] for dropped in (1, 4, 8)],
    }
    clean = scorer.score(digits)
    found = {damage: [clean, *(scorer.score(pixels) for pixels in sets[damage])] for damage in sets}
    return found.__getitem__


def rises(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


@pytest.mark.parametrize("damage", ["blur", "noise", "dropped"])
def test_distances_grow_with_damage(damaged: Callable[[str], list[ScoreSet]], damage: str) -> None:
    found = damaged(damage)
    assert rises([score["kid"] for score in found])
    assert rises([score["frechet"] for score in found])


def test_density_falls_under_noise(damaged: Callable[[str], list[ScoreSet]]) -> None:
    assert rises([score["density"] for score in damaged("noise")][::-1])


def test_coverage_falls_and_class_kl_grows_as_classes_are_dropped(damaged: Callable[[str], list[ScoreSet]]) -> None:
    found = damaged("dropped")
    assert rises([score["coverage"] for score in found][::-1])
    assert rises([score["class_kl"] for score in found])


def test_fresh_digits_are_as_good_as_the_reference(scorer: Scorer, digits: Tensor) -> None:
    for found in (scorer.reference(), scorer.score(digits)):
        assert abs(found["kid"]) < 3 * found["kid_se"]
        assert 0.85 < found["density"] < 1.15
        assert found["coverage"] > 0.9
        assert found["class_kl"] < 0.02
        assert 0.9 < found["memorisation"] < 1.1


def test_a_reference_without_training_images_halves_the_real_ones(judge: Judge, mnist: Splits) -> None:
    found = Scorer(judge, held_out(mnist), None, samples=SAMPLES).reference()
    assert abs(found["kid"]) < 3 * found["kid_se"]
    assert found.values["memorisation"] is None


def test_copies_of_training_images_are_found_out(judge: Judge, mnist: Splits) -> None:
    training = mnist.train.index_select(torch.arange(SAMPLES))
    scorer = Scorer(judge, held_out(mnist), training, samples=SAMPLES)
    assert scorer.score(training.pixels)["memorisation"] < 0.001
    assert torch.equal(scorer.neighbours(training.pixels[:20]), training.pixels[:20])


def test_neighbours_are_sought_among_all_training_images_which_are_looked_at_once(
    judge: Judge, mnist: Splits, own_cache: Path, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = mnist.train.index_select(torch.arange(2_000))
    wanted = training.pixels[::100]
    monkeypatch.setattr("harness.quality.scorer.LARGE_SET", 2_000)
    said: list[str] = []
    for _ in range(2):
        scorer = Scorer(judge, held_out(mnist), training, samples=100, message=said.append)
        for _ in range(2):
            assert torch.equal(scorer.neighbours(wanted), wanted)
    assert sorted(seen) == [20, 20, 20, 20, 2_000]
    assert said == ["computing the features of 2,000 images of mnist/train (once; they are stored)"]


def test_memorisation_compares_with_as_many_training_images_as_held_out_ones(
    judge: Judge, mnist: Splits, digits: Tensor, own_cache: Path
) -> None:
    scorer = Scorer(judge, held_out(mnist), mnist.train, samples=100)
    scorer.score(digits)
    assert all(len(load(file.read_bytes()[32:])["features"]) == 100 for file in own_cache.rglob("*-features.*"))


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_constant_images_get_a_true_bad_score(scorer: Scorer, digits: Tensor, grey: int) -> None:
    found = scorer.score(torch.full_like(digits, grey))
    good = scorer.score(digits)
    assert found["kid"] > 50 * abs(good["kid"])
    assert found["frechet"] > 50 * good["frechet"]
    assert found["coverage"] < 0.01
    assert found["class_kl"] > 1.5


def test_same_seed_same_numbers_with_and_without_the_cache(
    judge: Judge, mnist: Splits, digits: Tensor, own_cache: Path
) -> None:
    found = [Scorer(judge, held_out(mnist), mnist.train, samples=200, seed=3).score(digits) for _ in range(2)]
    assert found[0] == found[1]
    other = Scorer(judge, held_out(mnist), mnist.train, samples=200, seed=4).score(digits)
    assert other != found[0]


def test_cheap_scores_are_the_same_numbers(scorer: Scorer, digits: Tensor) -> None:
    cheap, full = scorer.score(digits, full=False), scorer.score(digits)
    assert (cheap["kid"], cheap["kid_se"], cheap["frechet"]) == (full["kid"], full["kid_se"], full["frechet"])
    assert set(cheap.metrics("quality")) == {"quality/kid", "quality/kid_se", "quality/frechet"}
    assert len(full.metrics("test")) == 7


def test_real_images_are_looked_at_once(
    judge: Judge, mnist: Splits, digits: Tensor, own_cache: Path, seen: list[int]
) -> None:
    for _ in range(2):
        Scorer(judge, held_out(mnist), mnist.train, samples=100).score(digits[:100])
    assert len(seen) == 4  # the real ones, the training ones, and twice what was scored


def test_damaged_cache_is_made_anew(judge: Judge, mnist: Splits, digits: Tensor, own_cache: Path) -> None:
    def score() -> ScoreSet:
        return Scorer(judge, held_out(mnist), mnist.train, samples=100).score(digits[:100])

    found = score()
    files = sorted((own_cache / "features").iterdir())
    assert len(files) == 3
    whole = [file.read_bytes() for file in files]
    files[0].write_bytes(b"")
    files[1].write_bytes(whole[1][: len(whole[1]) // 2])
    files[2].write_bytes(whole[2][:-1] + bytes([whole[2][-1] ^ 1]))
    assert score() == found
    assert [file.read_bytes() for file in files] == whole


def test_unwritable_cache_is_done_without(
    judge: Judge, mnist: Splits, digits: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "file"))
    found = Scorer(judge, held_out(mnist), None, samples=100).score(digits[:100])
    assert 0 < found["frechet"] < math.inf
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.zeros(2_000, 1, 32, 32, dtype=torch.uint8), "are 1x32x32; mnist/validation is 1x28x28"),
        (torch.zeros(2_000, 3, 28, 28, dtype=torch.uint8), "are 3x28x28; mnist/validation is 1x28x28"),
        (torch.zeros(2_000, 1, 28, 28), "are float32"),
        (torch.zeros(2_000, 28, 28, dtype=torch.uint8), "expected uint8"),
        (torch.zeros(999, 1, 28, 28, dtype=torch.uint8), "got 999 images to score, but quality.samples is 1,000"),
        (torch.zeros(0, 1, 28, 28, dtype=torch.uint8), "got 0 images"),
    ],
)
def test_other_images_are_refused_in_one_line(scorer: Scorer, images: Tensor, expected: str) -> None:
    with pytest.raises(HarnessError, match=expected):
        scorer.score(images)


def test_too_few_real_images_are_refused(judge: Judge, mnist: Splits) -> None:
    with pytest.raises(HarnessError, match=r"quality.samples is 10,001, but mnist/test has 10,000 images"):
        Scorer(judge, mnist.test, None, samples=10_001)
    with pytest.raises(HarnessError, match="expected at least 10"):
        Scorer(judge, mnist.test, None, samples=3)
    with pytest.raises(HarnessError, match="no training images"):
        Scorer(judge, mnist.test, None, samples=100).neighbours(mnist.test.pixels[:1])
