"""Typeset generated digits, and punctuation marks with the same stroke width, in lines that look handwritten."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError
from harness.media.pictures import Picture
from harness.media.strokes import DIGIT_HEIGHT, INK, MARKS, PAD, Floats, Rng, Stroke, stroke_width, to_ink

DIGITS = "0123456789"

# Lengths are in pixels of a digit of 28 x 28, before magnification.
ASCENT, DESCENT = 30, 10  # height of a line above its baseline, and below
PITCH = 32  # from one baseline to the next
MARGIN = 10  # to the left and right of the text
GAP = 3.0  # between the ink of neighbouring glyphs
SPACE = 9.0  # added to the gap by a space
EDGE, SOFT = 0.35, 0.5  # ink value at the edge of a stroke; sigma of the smoothing along it
SPECK_INK = 0.15  # pixels with at least this ink value are connected
PAUSE = 0.2  # between glyphs, as a share of the time of one glyph
FRONT = 12.0  # steepness with which ink appears, in 1 / time of a glyph


MAX_LINE_LENGTH, MAX_LINES = 100, 100  # characters of a line, lines in all
MAX_PIXELS = {".png": 16_000_000, ".gif": 2_000_000, ".webp": 2_000_000}
ADVANCE = 17  # width of a digit and the gap after it, about


def check_text(out: Path, text: str, rows: int, scale: int) -> list[str]:
    """Return the lines of a text that is written `rows` times to the file `out`.

    Raises:
        HarnessError: the text has unsupported characters, or its picture would be too large.
    """
    if not text.strip():
        raise HarnessError("the text is empty: expected digits, for example 2026-11-22")
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    known = {*DIGITS, *MARKS, " "}
    for character in "".join(lines):
        if character not in known:
            raise HarnessError(
                f"{character!r} is not supported: expected digits, spaces, {' '.join(MARKS)} and new lines; remove it"
            )
    longest = max(map(len, lines))
    if longest > MAX_LINE_LENGTH:
        raise HarnessError(
            f"a line of the text has {longest:,} characters; expected at most {MAX_LINE_LENGTH}: break it into lines"
        )
    count = len(lines) * rows
    if count > MAX_LINES:
        raise HarnessError(f"the text has {count:,} lines, including --rows; expected at most {MAX_LINES}: write fewer")
    height, width = scale * _page_height(count), scale * (2 * MARGIN + ADVANCE * longest)
    if width * height > MAX_PIXELS[out.suffix]:
        raise HarnessError(
            f"--out {out}: the picture would have about {width:,} x {height:,} pixels; expected at most "
            f"{MAX_PIXELS[out.suffix] // 1_000_000} million in all: write fewer lines, or use a smaller --scale"
        )
    return lines * rows


def _page_height(lines: int) -> int:
    return (lines - 1) * PITCH + ASCENT + DESCENT


class Glyph(NamedTuple):
    """A magnified glyph.

    Attributes:
        ink: float32 [h, w], 0 to 1.
        times: float32 [h, w], when each pixel is written, from 0 to 1 where there is ink.
    """

    ink: Floats
    times: Floats


@dataclass(frozen=True)
class Page:
    """A typeset text.

    Attributes:
        ink: float32 [H, W], 0 to 1.
        times: float32 [H, W], when each pixel is written; the first glyph takes from 0 to 1.
        boxes: left, top, right and bottom of each glyph's ink, in pixels, the last two exclusive.
        baselines: The baseline of each line, in pixels from the top.
    """

    ink: Floats
    times: Floats
    boxes: list[tuple[int, int, int, int]]
    baselines: list[int]

    def picture(self, *, paper: bool = False, until: float = math.inf) -> Picture:
        """Render what is written until a time: white on black, or dark on `paper`."""
        visible = np.clip(FRONT * (until - self.times), 0, 1)
        grey: Picture = np.rint(255 * self.ink * visible).astype(np.uint8)
        return np.subtract(255, grey, dtype=np.uint8) if paper else grey

    def frames(self, count: int, *, paper: bool = False) -> Iterator[Picture]:
        """Render how the text is written, in `count` pictures; the last one is complete."""
        end = float(self.times.max(where=self.ink > 0, initial=0)) + 1 / FRONT
        for frame in range(1, count):
            yield self.picture(paper=paper, until=end * frame / count)
        yield self.picture(paper=paper)


def typeset(lines: Sequence[Sequence[Picture | str]], scale: int, seed: int) -> Page:
    """Typeset lines of digits and punctuation marks.

    The lowest ink of a digit is on the baseline. In every row of pixels, the ink of a glyph is to the right of that of
    the previous one.

    Args:
        lines: Digits, uint8 [h, w], at most 28 high; characters of MARKS; and spaces.
        scale: integer factor of magnification.
        seed: Seed of the variation in angle, size, height and distance.
    """
    placed: list[tuple[int, int, Glyph]] = []  # left, top
    boxes, baselines, clock = [], [], 0.0
    for row, line in enumerate(lines):
        top = scale * row * PITCH
        baselines.append(top + scale * ASCENT)
        for left, glyph in _place_glyphs(line, scale, np.random.default_rng((seed, row))):
            placed.append((left, top, glyph._replace(times=glyph.times + clock)))
            (first, last), (upper, lower) = _extent(glyph.ink, axis=0), _extent(glyph.ink, axis=1)
            boxes.append((left + first, top + upper, left + last, top + lower))
            clock += 1 + PAUSE
    height = scale * _page_height(len(lines))
    width = max((left + glyph.ink.shape[1] for left, _, glyph in placed), default=0) + scale * (MARGIN - PAD)
    ink, times = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for left, top, glyph in placed:
        under = np.s_[top : top + glyph.ink.shape[0], left : left + glyph.ink.shape[1]]
        times[under] = np.where(glyph.ink > ink[under], glyph.times, times[under])
        ink[under] = np.maximum(ink[under], glyph.ink)
    return Page(ink, times, boxes, baselines)


def _place_glyphs(line: Sequence[Picture | str], scale: int, rng: Rng) -> Iterator[tuple[int, Glyph]]:
    """Yield the magnified glyphs of a line, with the left edge of each.

    The position is the mean of two that keep GAP from the previous glyph: by bounding boxes, which leaves holes after
    a slanted 7, and by ink, which lets the 7 overlap the next glyph.
    """
    digits = [character for character in line if not isinstance(character, str)]
    width, height = stroke_width(digits), _height(digits)
    edge = scale * (MARGIN - GAP)  # right edge of the previous box
    profile = np.full(scale * (ASCENT + DESCENT), edge)  # right end of the ink in each row of pixels
    for character in line:
        if isinstance(character, str) and character == " ":
            edge += scale * SPACE
            profile += scale * SPACE
            continue
        glyph = _magnify(
            MARKS[character](width, height, rng) if isinstance(character, str) else _remove_specks(character, width),
            scale,
            rng,
        )
        found = glyph.ink >= INK
        if not found.any():  # an empty picture
            edge += scale * SPACE
            continue
        first, last = _extent(glyph.ink, axis=0)
        begins = np.where(found.any(1), found.argmax(1), np.inf)
        ends = np.where(found.any(1), found.shape[1] - found[:, ::-1].argmax(1), -np.inf)
        boxed = edge - first
        inked = (_local_max(profile, scale * GAP) - begins).max()
        gap = scale * (GAP + rng.uniform(-0.4, 0.4))
        left = round((boxed + max(inked, boxed - scale * DIGIT_HEIGHT / 2)) / 2 + gap)
        yield left, glyph
        edge = left + last
        profile = np.maximum(profile, left + ends)


def _local_max(profile: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.float64]:
    """The maximum within `reach` of each value."""
    from scipy import ndimage

    return np.asarray(ndimage.maximum_filter1d(profile, 2 * round(reach) + 1))


def _extent(ink: Floats, axis: int) -> tuple[int, int]:
    """The first row or column with ink, and the one after the last."""
    found = np.flatnonzero((ink >= INK).any(axis))
    return int(found[0]), int(found[-1]) + 1


def _remove_specks(digit: Picture, width: float) -> Stroke:
    """Remove specks from a digit: isolated parts with less ink than a dot of this stroke width."""
    from scipy import ndimage

    ink = np.pad(to_ink(digit), PAD)
    parts, _ = ndimage.label(ink >= SPECK_INK, np.ones((3, 3)))
    amounts = np.bincount(parts.ravel(), ink.ravel())
    ink[np.isin(parts, np.flatnonzero((amounts < width**2) & (amounts < amounts[1:].max(initial=0))))] = 0
    return Stroke(ink, _extent(ink, axis=1)[1] if (ink >= INK).any() else len(ink) - PAD)


def _magnify(glyph: Stroke, scale: int, rng: Rng) -> Glyph:
    """Magnify a glyph onto a body of ASCENT + DESCENT, cut to PAD around its ink; rotate, resize and lift it at random.

    MNIST digits are black and white shapes at a lower resolution: a grey value is the covered share of a pixel. So the
    magnified glyph is smoothed along its edges and sharpened across them, more strongly for larger factors.
    """
    from PIL import Image
    from scipy import ndimage

    width = glyph.ink.shape[1]
    angle, size = math.radians(rng.normal(0, 1.2)), scale * (1 + rng.normal(0, 0.02))
    lift = rng.uniform(-0.3, 0.3)
    across, down = math.cos(angle) / size, math.sin(angle) / size
    middle, stands = scale * (width / 2), scale * (ASCENT - lift)
    transform = (
        *(across, down, width / 2 - across * middle - down * stands),
        *(-down, across, glyph.baseline + down * middle - across * stands),
    )
    shape = (scale * width, scale * (ASCENT + DESCENT))
    ink, times = (
        np.asarray(Image.fromarray(values).transform(shape, Image.Transform.AFFINE, transform, way))
        for values, way in (
            (ndimage.gaussian_filter(glyph.ink, SOFT * (1 - 1 / scale)), Image.Resampling.BICUBIC),
            (_write_times(glyph.ink), Image.Resampling.BILINEAR),
        )
    )
    ink = np.clip((ink - EDGE) * (1 + scale) / 2 + EDGE, 0, 1)
    if (ink >= INK).any():
        first, last = _extent(ink, axis=0)
        columns = slice(max(0, first - scale * PAD), last + scale * PAD)
        ink, times = ink[:, columns], times[:, columns]
    return Glyph(ink, times)


def _write_times(ink: Floats) -> Floats:
    """Return when each pixel is written, from 0 to 1, by a stroke that starts at the upper left and follows the ink.

    The order is that of the distance along the ink; the time is the share of all ink that is nearer. If the ink returns
    to its start, as in a zero, the stroke goes anticlockwise.
    """
    from scipy import ndimage

    begins = np.add.outer(np.arange(ink.shape[0]), np.arange(ink.shape[1]) / 2)
    start = np.unravel_index(np.where(ink >= min(INK, ink.max()), begins, np.inf).argmin(), ink.shape)
    cost = 1 / (ink + 0.02)
    bar = np.zeros(ink.shape, bool)  # across the stroke, to the right of its start
    bar[: start[0] + np.flatnonzero(ink[start[0] :, start[1] + 1] < 0.05)[0] + 1, start[1] + 1] = True
    returns = ndimage.label(ink * ~bar >= INK)[1] == ndimage.label(ink >= INK)[1]
    if returns:
        cost[bar] = np.inf
    distance = np.full(np.add(ink.shape, 2), np.inf)
    distance[1:-1, 1:-1][start] = 0
    rows, columns = ink.shape
    steps = [(down, across) for down in (0, 1, 2) for across in (0, 1, 2) if (down, across) != (1, 1)]
    while True:
        inner = distance[1:-1, 1:-1]
        nearer = np.minimum.reduce(
            [distance[d : d + rows, a : a + columns] + math.hypot(d - 1, a - 1) * cost for d, a in steps] + [inner]
        )
        if np.array_equal(nearer, inner):
            break
        distance[1:-1, 1:-1] = nearer
    if returns:
        inner[bar] = inner[np.roll(bar, 1, axis=1)]
    order = inner.ravel().argsort(kind="stable")
    times = np.empty(ink.size, np.float32)
    times[order] = ink.ravel()[order].cumsum() / max(ink.sum(), 1)
    return times.reshape(ink.shape)


def _height(digits: Sequence[Picture]) -> float:
    extents = (_extent(ink, axis=1) for ink in map(to_ink, digits) if (ink >= INK).any())
    return float(np.median([float(lower - upper) for upper, lower in extents] or [DIGIT_HEIGHT]))
