"""Lettering: digits of known shapes are where they should be, and a pen seems to write them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.media.pictures import Picture
from harness.media.typesetting import ASCENT, DESCENT, MARGIN, PITCH, SPACE, check_text, typeset

SCALE = 4


def block(top: int = 4, bottom: int = 24, left: int = 10, right: int = 16) -> Picture:
    digit = np.zeros((28, 28), np.uint8)
    digit[top:bottom, left:right] = 255
    return digit


def ring() -> Picture:
    rows, columns = np.mgrid[:28, :28] - 13.5
    away = np.hypot(rows, columns * 1.3)
    return np.where((away > 7) & (away < 10), 255, 0).astype(np.uint8)


def seven() -> Picture:
    """A bar above, 16 wide, and a stem that leans down to the left."""
    digit = block(4, 7, 6, 22)
    for row in range(7, 24):
        column = 20 - (row - 7) * 12 // 17
        digit[row, column - 1 : column + 2] = 255
    return digit


def test_glyphs_follow_each_other_in_every_row_of_pixels() -> None:
    glyphs = [block(), seven(), block(8, 20, 2, 26), seven(), ring(), block()]
    for seed in range(10):
        set_page = typeset([glyphs], SCALE, seed)
        assert len(set_page.boxes) == len(glyphs)
        assert [box[0] for box in set_page.boxes] == sorted(box[0] for box in set_page.boxes)
        # each is written in its own time, so that tells the ink of one from that of another
        number = np.where(set_page.ink >= 0.5, set_page.times // 1.2, np.nan)
        assert set(np.unique(number[~np.isnan(number)])) == set(range(6))
        for row in number:
            there = row[~np.isnan(row)]
            assert (np.diff(there) >= 0).all()


def test_the_gap_between_upright_neighbours_is_about_three_pixels() -> None:
    for seed in range(10):
        boxes = typeset([[block()] * 5], SCALE, seed).boxes
        for before, after in pairwise(boxes):
            assert 1.5 * SCALE <= after[0] - before[2] <= 4.5 * SCALE


def test_a_digit_is_moved_below_the_bar_of_a_seven() -> None:
    low = block(16, 24, 10, 16)
    for seed in range(10):
        below, beside = typeset([[seven(), low]], SCALE, seed).boxes, typeset([[block(), low]], SCALE, seed).boxes
        assert below[1][0] - below[0][2] < beside[1][0] - beside[0][2] - 1.5 * SCALE


def test_digits_stand_on_a_common_baseline_wherever_they_were_drawn() -> None:
    glyphs = [block(0, 20), block(4, 24), block(8, 28), block(12, 20)]
    set_page = typeset([glyphs, glyphs], SCALE, 0)
    assert set_page.baselines == [SCALE * ASCENT, SCALE * (ASCENT + PITCH)]
    for index, box in enumerate(set_page.boxes):
        assert abs(box[3] - set_page.baselines[index // 4]) <= 1.2 * SCALE
        height = 8 if index % 4 == 3 else 20
        assert box[3] - box[1] == pytest.approx(height * SCALE, abs=1.6 * SCALE)


def test_a_space_is_a_wider_gap_and_two_are_wider_still() -> None:
    gaps = [
        np.mean([np.subtract(boxes[1][0], boxes[0][2]) for boxes in set_pages])
        for spaces in ([], [" "], [" ", " "])
        for set_pages in [[typeset([[block(), *spaces, block()]], SCALE, seed).boxes for seed in range(5)]]
    ]
    assert np.diff(gaps) == pytest.approx([SPACE * SCALE] * 2, abs=1)


def test_signs_have_their_ink_between_the_digits() -> None:
    for sign, above, below in (("-", 14, 6), ("/", 24, -4), (".", 6, -2), (":", 16, 0)):
        set_page = typeset([[block(right=13), sign, block(right=13)]], SCALE, 0)
        before, box, after = set_page.boxes
        assert before[2] < box[0] < box[2] < after[0]
        baseline = set_page.baselines[0]
        assert baseline - above * SCALE <= box[1] < box[3] <= baseline - below * SCALE
        assert set_page.ink[box[1] : box[3], box[0] : box[2]].max() == 1


def test_the_picture_holds_all_and_is_black_around_it() -> None:
    set_page = typeset([[block(0, 28, 0, 28)] * 3, [ring()]], SCALE, 0)
    picture = set_page.picture()
    assert picture.dtype == np.uint8
    assert picture.shape[0] == SCALE * (ASCENT + DESCENT + PITCH)
    assert set_page.boxes[0][0] == pytest.approx(SCALE * MARGIN, abs=SCALE)
    assert picture.shape[1] - set_page.boxes[2][2] == SCALE * MARGIN
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert not edge.any()
    assert picture.max() == 255
    assert np.array_equal(set_page.picture(paper=True), 255 - picture)


def test_the_same_seed_sets_the_same_and_another_does_not() -> None:
    line: list[Picture | str] = [ring(), "-", seven()]
    one, again, other = (typeset([line, line], SCALE, seed) for seed in (1, 1, 2))
    assert one.picture().tobytes() == again.picture().tobytes()
    assert one.picture().tobytes() != other.picture().tobytes()
    upper, lower = one.ink[: SCALE * PITCH], one.ink[SCALE * PITCH : 2 * SCALE * PITCH]
    assert not np.array_equal(upper, lower)


def test_dust_is_dropped_and_a_digit_is_not() -> None:
    dusty = block()
    dusty[4:6, 0:2] = 255  # would move it ten pixels to the right
    boxes = [typeset([[block(), digit]], SCALE, 0).boxes[1] for digit in (block(), dusty)]
    assert boxes[0] == boxes[1]
    assert len(typeset([[block(10, 12, 10, 12)]], SCALE, 0).boxes) == 1


def test_magnified_edges_are_sharp() -> None:
    for scale in (1, 4, 8):
        ink = typeset([[block()]], scale, 0).ink
        row = ink[scale * (ASCENT - 10)]
        assert ((row > 0.05) & (row < 0.95)).sum() <= 8  # pixels, at both edges
        assert (row >= 0.5).sum() == pytest.approx(6 * scale, abs=1 + scale / 2)


def test_a_digit_without_ink_is_a_gap() -> None:
    set_page = typeset([[block(), np.zeros((28, 28), np.uint8), block()]], SCALE, 0)
    assert len(set_page.boxes) == 2
    nothing = typeset([[np.zeros((28, 28), np.uint8)]], SCALE, 0)
    assert not nothing.picture().any()
    assert len(list(nothing.frames(2))) == 2


# Writing ---------------------------------------------------------------------------------------------------------


def test_frames_add_ink_from_the_left_and_end_with_the_whole() -> None:
    set_page = typeset([[block(), ring(), "-", block()]], SCALE, 0)
    frames = list(set_page.frames(24))
    assert len(frames) == 24
    for before, after in pairwise(frames):
        assert (after >= before).all()
        assert (after > before).any() or after is frames[-1]
    assert frames[0].any()
    assert np.array_equal(frames[-1], set_page.picture())
    begun = [next(i for i, f in enumerate(frames) if f[:, left:right].any()) for left, _, right, _ in set_page.boxes]
    assert begun == sorted(set(begun))
    assert begun[0] == 0


def test_lines_are_written_one_after_the_other() -> None:
    set_page = typeset([[block(), block()], [block(), block()]], SCALE, 0)
    half = set_page.picture(until=2 * 1.2)
    assert half[: SCALE * PITCH].any()
    assert not half[SCALE * (PITCH + 5) :].any()


def test_a_stroke_is_written_from_above_and_a_ring_anticlockwise() -> None:
    (left, top, right, bottom) = typeset([[block()]], SCALE, 0).boxes[0]
    half = typeset([[block()]], SCALE, 0).picture(until=0.5)[top:bottom, left:right]
    assert half[: len(half) // 4].mean() > 200
    assert not half[3 * len(half) // 4 :].any()

    set_page = typeset([[ring()]], SCALE, 0)
    (left, top, right, bottom) = set_page.boxes[0]
    written = np.where(set_page.ink >= 0.9, set_page.times, np.nan)[top:bottom, left:right]
    height, width = written.shape
    row, column = height // 2, width // 2
    west, south, east = (
        np.nanmean(part) for part in (written[row, :column], written[row:, column], written[row, column:])
    )
    assert west < south < east


# Text ------------------------------------------------------------------------------------------------------------


def lines_of(text: str, rows: int = 1, scale: int = 4, out: str = "a.png") -> list[str]:
    return check_text(Path(out), text, rows, scale)


def test_a_text_is_read_in_lines() -> None:
    assert lines_of("2026-11-22 10:45\n1/2.5\r\n\n7\n") == ["2026-11-22 10:45", "1/2.5", "", "7"]
    assert lines_of("1\n2", rows=2) == ["1", "2", "1", "2"]
    assert lines_of("1" * 100) == ["1" * 100]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the text is empty: expected digits"),
        (" \n ", "the text is empty"),
        ("2026, 1", "',' is not supported: expected digits, spaces, - / . : and new lines; remove it"),
        ("1a", "'a' is not supported"),
        ("1\t2", r"'\t' is not supported"),
        ("٣", "'٣' is not supported"),
        ("1" * 101, "a line of the text has 101 characters; expected at most 100"),
    ],
)
def test_texts_that_cannot_be_written_are_refused(text: str, said: str) -> None:
    with pytest.raises(HarnessError) as refused:
        lines_of(text)
    assert said in str(refused.value)


def test_pictures_that_are_too_large_are_refused() -> None:
    with pytest.raises(HarnessError, match=r"the text has 102 lines, including --rows; expected at most 100"):
        lines_of("1\n2", rows=51)
    with pytest.raises(HarnessError, match=r"the text has 1,000,000,000 lines"):
        lines_of("1", rows=10**9)
    assert len(lines_of("1" * 100, rows=17)) == 17
    with pytest.raises(HarnessError, match=r"--out a.png: .* 6,880 x 2,592 pixels; expected at most 16 million in all"):
        lines_of("1" * 100, rows=20)
    assert len(lines_of("1" * 100, rows=20, scale=3)) == 20
    with pytest.raises(HarnessError, match=r"--out a.gif: .* expected at most 2 million"):
        lines_of("1" * 100, rows=3, out="a.gif")
