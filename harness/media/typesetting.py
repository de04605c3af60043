"""Lettering: pictures of digits, and strokes of the same pen, set into lines as a writer would set them."""

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
from harness.media.strokes import INK, MARKS, PAD, TALL, Drawn, Floats, Random, pen_width, shade

DIGITS = "0123456789"

# Lengths are in pixels of the digits' own size, before they are magnified.
ASCENT, DESCENT = 30, 10  # of a line's body: its height above the baseline, and below
PITCH = 32  # from one baseline to the next
MARGIN = 10  # to the left and right of the text
GAP = 3.0  # between the ink of neighbours
SPACE = 9.0  # what a space adds to that
EDGE, SOFT = 0.35, 0.5  # of full ink: where the edge of a stroke is drawn; how far its unevenness is smoothed
DUST = 0.15  # of full ink: what is less keeps nothing together
PAUSE = 0.2  # between glyphs, of the time that one takes to be written
FRONT = 12.0  # how abruptly ink appears where the pen comes, in 1 / that time


LONGEST, MOST = 100, 100  # signs in a line, lines in all
MOST_PIXELS = {".png": 16_000_000, ".gif": 2_000_000, ".webp": 2_000_000}
ADVANCE = 17  # of a digit with the gap behind it, about


def lines_for(out: Path, text: str, rows: int, scale: int) -> list[str]:
    """The lines of a text, which is written `rows` times into the file `out`.

    Raises HarnessError for a text that cannot be written, or whose picture would be too large.
    """
    if not text.strip():
        raise HarnessError("the text is empty: expected digits, for example 2026-11-22")
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    known = {*DIGITS, *MARKS, " "}
    for sign in "".join(lines):
        if sign not in known:
            raise HarnessError(
                f"{sign!r} cannot be written: expected digits, spaces, {' '.join(MARKS)} and new lines; leave it out"
            )
    longest = max(map(len, lines))
    if longest > LONGEST:
        raise HarnessError(f"a line of the text is {longest:,} long; expected at most {LONGEST}: break it into lines")
    count = len(lines) * rows
    if count > MOST:
        raise HarnessError(f"the text has {count:,} lines, --rows counted; expected at most {MOST}: write fewer")
    height, width = scale * _tall(count), scale * (2 * MARGIN + ADVANCE * longest)
    if width * height > MOST_PIXELS[out.suffix]:
        raise HarnessError(
            f"--out {out}: the picture would have about {width:,} x {height:,} pixels; expected at most "
            f"{MOST_PIXELS[out.suffix] // 1_000_000} million in all: write fewer lines, or give a smaller --scale"
        )
    return lines * rows


def _tall(lines: int) -> int:
    return (lines - 1) * PITCH + ASCENT + DESCENT


class Glyph(NamedTuple):
    """ink: float32 [h, w], 0 to 1. written: float32 [h, w], when the pen comes there, 0 to 1 where there is ink."""

    ink: Floats
    written: Floats


@dataclass(frozen=True)
class Page:
    """A text that has been set.

    ink: float32 [H, W], 0 to 1. written: float32 [H, W], when the pen comes there: the first glyph takes from 0 to 1.
    boxes: left, top, right and bottom of each glyph's ink, in pixels, the last two exclusive. baselines: one a line.
    """

    ink: Floats
    written: Floats
    boxes: list[tuple[int, int, int, int]]
    baselines: list[int]

    def picture(self, *, paper: bool = False, until: float = math.inf) -> Picture:
        """White on black, or dark on `paper`: what is written `until` then."""
        there = np.clip(FRONT * (until - self.written), 0, 1)
        grey: Picture = np.rint(255 * self.ink * there).astype(np.uint8)
        return np.subtract(255, grey, dtype=np.uint8) if paper else grey

    def frames(self, count: int, *, paper: bool = False) -> Iterator[Picture]:
        """How it is written, in `count` pictures, the last of them the whole."""
        end = float(self.written.max(where=self.ink > 0, initial=0)) + 1 / FRONT
        for frame in range(1, count):
            yield self.picture(paper=paper, until=end * frame / count)
        yield self.picture(paper=paper)


def page(lines: Sequence[Sequence[Picture | str]], scale: int, seed: int) -> Page:
    """Set lines of digits, uint8 [h, w], at most 28 high, and of signs: those of MARKS, and a space as a gap.

    Digits stand on their lowest ink. In every row of pixels a glyph's ink lies to the right of that of the one before.

    scale: the whole factor of magnification. seed: of a hand's unsteadiness, in angle, size, height and distance.
    """
    placed: list[tuple[int, int, Glyph]] = []  # left, top
    boxes, baselines, clock = [], [], 0.0
    for row, line in enumerate(lines):
        top = scale * row * PITCH
        baselines.append(top + scale * ASCENT)
        for left, glyph in _set(line, scale, np.random.default_rng((seed, row))):
            placed.append((left, top, glyph._replace(written=glyph.written + clock)))
            (first, last), (upper, lower) = _extent(glyph.ink, axis=0), _extent(glyph.ink, axis=1)
            boxes.append((left + first, top + upper, left + last, top + lower))
            clock += 1 + PAUSE
    height = scale * _tall(len(lines))
    width = max((left + glyph.ink.shape[1] for left, _, glyph in placed), default=0) + scale * (MARGIN - PAD)
    ink, written = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for left, top, glyph in placed:
        under = np.s_[top : top + glyph.ink.shape[0], left : left + glyph.ink.shape[1]]
        written[under] = np.where(glyph.ink > ink[under], glyph.written, written[under])
        ink[under] = np.maximum(ink[under], glyph.ink)
    return Page(ink, written, boxes, baselines)


def _set(line: Sequence[Picture | str], scale: int, random: Random) -> Iterator[tuple[int, Glyph]]:
    """The glyphs of a line, magnified, and where each begins.

    Each is set halfway between two ways to keep GAP from the one before: box beside box, which leaves holes behind a
    slanted 7, and ink beside ink, which lets it hang over what follows.
    """
    digits = [sign for sign in line if not isinstance(sign, str)]
    pen, tall = pen_width(digits), _height(digits)
    edge = scale * (MARGIN - GAP)  # of the box that went before
    profile = np.full(scale * (ASCENT + DESCENT), edge)  # how far right the ink goes, in each row of pixels
    for sign in line:
        if isinstance(sign, str) and sign == " ":
            edge += scale * SPACE
            profile += scale * SPACE
            continue
        glyph = _magnified(
            MARKS[sign](pen, tall, random) if isinstance(sign, str) else _upright(sign, pen), scale, random
        )
        found = glyph.ink >= INK
        if not found.any():  # of a generator that draws nothing
            edge += scale * SPACE
            continue
        first, last = _extent(glyph.ink, axis=0)
        begins = np.where(found.any(1), found.argmax(1), np.inf)
        ends = np.where(found.any(1), found.shape[1] - found[:, ::-1].argmax(1), -np.inf)
        boxed = edge - first
        inked = (_near(profile, scale * GAP) - begins).max()
        gap = scale * (GAP + random.uniform(-0.4, 0.4))
        left = round((boxed + max(inked, boxed - scale * TALL / 2)) / 2 + gap)
        yield left, glyph
        edge = left + last
        profile = np.maximum(profile, left + ends)


def _near(profile: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.float64]:
    """The highest value within `reach` of each."""
    from scipy import ndimage

    return np.asarray(ndimage.maximum_filter1d(profile, 2 * round(reach) + 1))


def _extent(ink: Floats, axis: int) -> tuple[int, int]:
    """The first row or column with ink, and that after the last."""
    found = np.flatnonzero((ink >= INK).any(axis))
    return int(found[0]), int(found[-1]) + 1


def _upright(digit: Picture, pen: float) -> Drawn:
    """A digit without its dust: specks that touch nothing else and have less ink than a dot of the pen."""
    from scipy import ndimage

    ink = np.pad(shade(digit), PAD)
    parts, _ = ndimage.label(ink >= DUST, np.ones((3, 3)))
    amounts = np.bincount(parts.ravel(), ink.ravel())
    ink[np.isin(parts, np.flatnonzero((amounts < pen**2) & (amounts < amounts[1:].max(initial=0))))] = 0
    return Drawn(ink, _extent(ink, axis=1)[1] if (ink >= INK).any() else len(ink) - PAD)


def _magnified(glyph: Drawn, scale: int, random: Random) -> Glyph:
    """On a body of ASCENT + DESCENT, cut to PAD around its ink; tilted, resized and lifted a little, at random.

    Digits of MNIST are black and white shapes that were shrunk, and their greys tell how much of a pixel is covered. So
    a magnified grey edge is not blurred ink but a sharp edge, somewhere: it is smoothed along, and made steeper across,
    the more the larger the factor is.
    """
    from PIL import Image
    from scipy import ndimage

    width = glyph.ink.shape[1]
    angle, size = math.radians(random.normal(0, 1.2)), scale * (1 + random.normal(0, 0.02))
    lift = random.uniform(-0.3, 0.3)
    across, down = math.cos(angle) / size, math.sin(angle) / size
    middle, stands = scale * (width / 2), scale * (ASCENT - lift)
    transform = (
        *(across, down, width / 2 - across * middle - down * stands),
        *(-down, across, glyph.baseline + down * middle - across * stands),
    )
    shape = (scale * width, scale * (ASCENT + DESCENT))
    ink, written = (
        np.asarray(Image.fromarray(values).transform(shape, Image.Transform.AFFINE, transform, way))
        for values, way in (
            (ndimage.gaussian_filter(glyph.ink, SOFT * (1 - 1 / scale)), Image.Resampling.BICUBIC),
            (_written(glyph.ink), Image.Resampling.BILINEAR),
        )
    )
    ink = np.clip((ink - EDGE) * (1 + scale) / 2 + EDGE, 0, 1)
    if (ink >= INK).any():
        first, last = _extent(ink, axis=0)
        kept = slice(max(0, first - scale * PAD), last + scale * PAD)
        ink, written = ink[:, kept], written[:, kept]
    return Glyph(ink, written)


def _written(ink: Floats) -> Floats:
    """When a pen that begins at the upper left and follows the ink comes to each pixel: 0, 1 where it has drawn all.

    The order is that of the distance along the ink; the time is the share of all ink that is nearer. Where the ink
    comes back to where it began, as in a zero, the pen goes round anticlockwise.
    """
    from scipy import ndimage

    begins = np.add.outer(np.arange(ink.shape[0]), np.arange(ink.shape[1]) / 2)
    start = np.unravel_index(np.where(ink >= min(INK, ink.max()), begins, np.inf).argmin(), ink.shape)
    cost = 1 / (ink + 0.02)
    bar = np.zeros(ink.shape, bool)  # across the stroke, to the right of where the pen begins
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
    written = np.empty(ink.size, np.float32)
    written[order] = ink.ravel()[order].cumsum() / max(ink.sum(), 1)
    return written.reshape(ink.shape)


def _height(digits: Sequence[Picture]) -> float:
    extents = (_extent(ink, axis=1) for ink in map(shade, digits) if (ink >= INK).any())
    return float(np.median([float(lower - upper) for upper, lower in extents] or [TALL]))
