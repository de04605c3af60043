"""The pen: the width of strokes is what was drawn, and the signs are where a writer puts them."""

from __future__ import annotations

import numpy as np
import pytest

from harness.media.pictures import Picture
from harness.media.strokes import INK, MARKS, PAD, Stroke, stroke_width

PEN, TALL = 2.5, 20.0


def bar(width: int) -> Picture:
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 12 : 12 + width] = 255
    return digit


def drawn(sign: str, seed: int = 0, pen: float = PEN) -> Stroke:
    return MARKS[sign](pen, TALL, np.random.default_rng(seed))


def extent(glyph: Stroke) -> tuple[float, float, float, float]:
    """Its ink: left, right, and how high above the baseline it begins and ends."""
    rows, columns = (np.flatnonzero((glyph.ink >= INK).any(axis)) for axis in (1, 0))
    return columns[0], columns[-1] + 1, glyph.baseline - rows[-1] - 1, glyph.baseline - rows[0]


@pytest.mark.parametrize("width", [2, 3, 4])
def test_the_width_of_a_bar_is_twice_its_area_over_its_outline(width: int) -> None:
    assert stroke_width([bar(width)]) == pytest.approx(2 * 20 * width / (2 * (20 + width)), rel=0.06)


def test_the_width_of_several_digits_lies_between_theirs_and_none_have_that_of_mnist() -> None:
    assert stroke_width([bar(2)]) < stroke_width([bar(2), bar(4)]) < stroke_width([bar(4)])
    assert stroke_width([]) == stroke_width([np.zeros((28, 28), np.uint8)]) == 2.3


@pytest.mark.parametrize("seed", range(20))
def test_signs_are_where_a_writer_puts_them(seed: int) -> None:
    left, right, low, high = extent(drawn("-", seed))
    assert 7 <= right - left <= 13
    assert 6 <= low < high <= 14

    left, right, low, high = extent(drawn("/", seed))
    assert 8 <= right - left <= 15
    assert -4 <= low <= 0
    assert high >= TALL
    slash = drawn("/", seed).ink >= INK
    rows = np.flatnonzero(slash.any(1))
    assert slash[rows[0]].argmax() > slash[rows[-1]].argmax() + 5  # it leans to the right

    left, right, low, high = extent(drawn(".", seed))
    assert 2 <= right - left <= 5
    assert -1 <= low <= 1
    assert high <= 5

    colon = (drawn(":", seed).ink >= INK).any(1).astype(int)
    assert (np.diff(colon) == 1).sum() == 2  # one dot above the other
    _, _, low, high = extent(drawn(":", seed))
    assert 0 <= low < high < 0.8 * TALL


@pytest.mark.parametrize("sign", list(MARKS))
def test_signs_are_of_the_pen_they_are_asked_of_and_of_grey_edges(sign: str) -> None:
    thin, thick = drawn(sign, pen=2).ink, drawn(sign, pen=4).ink
    assert thick.sum() > 1.6 * thin.sum()
    for ink in (thin, thick):
        assert (ink.min(), ink.max()) == (0, 1)
        assert ((ink > 0.1) & (ink < 0.9)).any()
        assert not ink[:, : PAD - 3].any()


def test_the_pen_of_a_slash_is_that_of_the_digits() -> None:
    slash = [(255 * drawn("/", seed, pen=3).ink).astype(np.uint8) for seed in range(5)]
    assert stroke_width(slash) == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("sign", list(MARKS))
def test_signs_are_drawn_anew_and_repeat_under_a_seed(sign: str) -> None:
    assert np.array_equal(drawn(sign, 1).ink, drawn(sign, 1).ink)
    assert not np.array_equal(drawn(sign, 1).ink, drawn(sign, 2).ink)
