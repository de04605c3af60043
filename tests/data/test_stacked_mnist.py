"""Stacked MNIST: the counts, whose digits, always the same ones, without labels."""

from __future__ import annotations

import pytest
import torch

from harness import data


@pytest.fixture(scope="module")
def splits() -> data.Splits:
    return data.load("stacked-mnist")


def test_counts_shape_and_no_labels(splits: data.Splits) -> None:
    assert splits.train.pixels.shape == (128_000, 3, 28, 28)
    assert splits.test.pixels.shape == (26_000, 3, 28, 28)
    assert splits.train.pixels.dtype == splits.test.pixels.dtype == torch.uint8
    assert splits.validation is None
    assert (splits.train.labels, splits.train.classes) == (None, 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_channel_is_a_digit_of_the_same_split(splits: data.Splits, split: str) -> None:
    digits = {image.numpy().tobytes() for image in data.load_split("mnist", split).pixels}
    stacked = getattr(splits, split).pixels[-500:]
    assert all(channel.numpy().tobytes() in digits for image in stacked for channel in image)
    assert len({image.numpy().tobytes() for image in stacked}) == 500
    assert not any(torch.equal(image[0], image[1]) for image in stacked[:100])


def test_they_are_always_the_same_ones(splits: data.Splits) -> None:
    again = data.load("stacked-mnist")
    assert again.train.fingerprint == splits.train.fingerprint
    assert again.test.fingerprint == splits.test.fingerprint != splits.train.fingerprint


def test_a_subset_is_seeded(splits: data.Splits) -> None:
    one, other = (data.class_balanced(splits.train, 300, seed=seed) for seed in (0, 1))
    assert one.pixels.shape == (300, 3, 28, 28)
    assert one.fingerprint == data.class_balanced(splits.train, 300, seed=0).fingerprint != other.fingerprint


def test_frequencies_are_those_of_mnist() -> None:
    frequencies = data.digit_frequencies()
    assert frequencies.sum().item() == pytest.approx(1)
    assert (frequencies * 60_000).round().int().tolist()[:2] == [5923, 6742]
