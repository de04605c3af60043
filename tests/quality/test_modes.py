"""Modes hit and their KL: cases worked by hand, the references, and what the judge makes of real digits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from harness import data
from harness.data import Splits
from harness.errors import HarnessError
from harness.quality import Judge, ModeScorer, load_judge
from harness.quality.modes import MODES, mode_counts, score_counts, simulate_scores

UNIFORM = torch.full((10,), 0.1, dtype=torch.float64)


@pytest.fixture(scope="module")
def judge(mnist: Splits) -> Judge:
    return load_judge("first", mnist.train)


@pytest.fixture(scope="module")
def stacked() -> Tensor:
    return data.load_split("stacked-mnist", "test").pixels


def test_one_mode_only() -> None:
    found = score_counts(mode_counts(torch.tensor([[4, 0, 7]]).expand(26_000, 3)))
    assert found["modes"] == 1
    assert found["mode_kl"] == pytest.approx(math.log(1000))


def test_all_modes_equally_often() -> None:
    digits = torch.cartesian_prod(*[torch.arange(10)] * 3).repeat(26, 1)
    assert mode_counts(digits).tolist() == [26] * MODES
    found = score_counts(mode_counts(digits))
    assert found["modes"] == 1000
    assert found["mode_kl"] == pytest.approx(0, abs=1e-12)
    assert found["mode_kl"] >= 0


def test_half_of_the_modes_one_of_them_more_often() -> None:
    counts = torch.zeros(MODES, dtype=torch.int64)
    counts[:500] = 2
    assert score_counts(counts)["mode_kl"] == pytest.approx(math.log(2))
    counts[0] = 1002  # 1,000 of 2,000 more: half of the mass, and 1/1000 in each of the others
    expected = 0.501 * math.log(501) + 499 * 0.001 * math.log(1)
    found = score_counts(counts)
    assert found["modes"] == 500
    assert found["mode_kl"] == pytest.approx(expected)


def test_the_channels_are_told_apart_in_order() -> None:
    assert mode_counts(torch.tensor([[1, 2, 3], [3, 2, 1]])).nonzero().squeeze(1).tolist() == [123, 321]


def test_references_at_26_000_samples_are_the_published_ones(judge: Judge) -> None:
    references = ModeScorer(judge, samples=26_000).references()
    (uniform, deviation), (frequent, _) = references["uniform digits"], references["digits as frequent as MNIST's"]
    assert uniform["mode_kl"] == pytest.approx(0.0193, abs=0.0002)
    assert deviation["mode_kl"] == pytest.approx(0.0009, abs=0.0001)
    assert frequent["mode_kl"] == pytest.approx(0.0235, abs=0.0005)
    assert uniform["modes"] == frequent["modes"] == 1000


def test_references_are_those_of_as_many_samples_and_seeded() -> None:
    mean, deviation = simulate_scores(2_000, UNIFORM)
    assert mean["modes"] == pytest.approx(1000 * (1 - (1 - 1 / 1000) ** 2000), abs=1)  # each is missed 2,000 times
    assert mean["mode_kl"] > 0.25, "the bias of so few samples, 999 / 4000 in the first order"
    assert simulate_scores(2_000, UNIFORM) == (mean, deviation)
    assert simulate_scores(2_000, UNIFORM, seed=1)[0] != mean


@pytest.mark.parametrize("which", ["first", "second"])
def test_real_digits_are_at_the_reference(which: str, mnist: Splits, stacked: Tensor) -> None:
    scorer = ModeScorer(load_judge(which, mnist.train), samples=2_000)
    found = scorer.score(stacked)
    mean, deviation = scorer.references()["digits as frequent as MNIST's"]
    assert abs(found["mode_kl"] - mean["mode_kl"]) < 3 * deviation["mode_kl"]
    assert abs(found["modes"] - mean["modes"]) < 3 * deviation["modes"]


def test_judged_modes_are_those_of_the_labels(judge: Judge, mnist: Splits) -> None:
    labels, pixels = mnist.test.labels, mnist.test.pixels
    assert labels is not None
    one, three = (pixels[labels == digit][:40] for digit in (1, 3))
    images = torch.stack([one[:, 0], three[:, 0], one[:, 0]], dim=1)
    digits = ModeScorer(judge, samples=40)._digits(images)
    wrong = (digits != torch.tensor([1, 3, 1])).any(1).sum()
    assert wrong <= 1, "the judge errs in 4 digits of 1,000"
    right = images[(digits == torch.tensor([1, 3, 1])).all(1)]
    assert ModeScorer(judge, samples=30).score(right)["mode_kl"] == pytest.approx(math.log(1000))


def test_several_sets_at_once_are_scored_as_each_alone(judge: Judge, stacked: Tensor) -> None:
    scorer = ModeScorer(judge, samples=50)
    sets = [stacked[:50], stacked[50:150], torch.zeros_like(stacked[:50])]
    assert scorer.score_all(sets) == [scorer.score(pixels) for pixels in sets]
    assert scorer.score(sets[2])["modes"] == 1


def test_scores_rank_and_are_named() -> None:
    found = score_counts(torch.ones(MODES))
    assert found.primary_score == found["mode_kl"]
    assert set(found.metrics("test")) == {"test/modes", "test/mode_kl"}


class Featured(nn.Module):
    """A judge that does not classify, or into too many classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = pixels.float().flatten(1)
        return (features, torch.eye(self.classes)[-1].expand(len(pixels), -1)) if self.classes else features


@pytest.mark.parametrize(("classes", "said"), [(0, "returns features only"), (12, "predicts class 11")])
def test_a_judge_that_does_not_tell_digits_is_refused_at_once(classes: int, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        ModeScorer(Judge(Featured(classes), name="own", sha256=""), samples=20)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(20, 1, 28, 28, dtype=torch.uint8), "images to score are 1x28x28"),
        (torch.zeros(20, 3, 32, 32, dtype=torch.uint8), "are 1x32x32, but judge mnist-first"),
        (torch.zeros(19, 3, 28, 28, dtype=torch.uint8), "got 19 images to score"),
    ],
)
def test_other_images_are_refused_in_one_line(judge: Judge, images: Tensor, said: str) -> None:
    with pytest.raises(HarnessError, match=said) as error:
        ModeScorer(judge, samples=20).score(images)
    assert "\n" not in str(error.value)
