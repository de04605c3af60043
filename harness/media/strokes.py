"""The pen that digits were written with: how wide its strokes are, and the signs between digits, drawn with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.media.pictures import Picture

Floats = npt.NDArray[np.float32]
Random = np.random.Generator

# Lengths are in pixels of the digits' own size.
PEN, TALL = 2.3, 20.0  # where there are no digits (medians of MNIST): the width of a stroke, the height of a digit
INK = 0.5  # of full ink: what is measured as ink
PAD = 4  # around a glyph, so that it can be tilted and measured


class Drawn(NamedTuple):
    """A glyph before it is magnified, PAD of nothing around it. baseline: the height at which it stands, from above."""

    ink: Floats
    baseline: float


def shade(digit: Picture) -> Floats:
    return digit.astype(np.float32) / np.float32(255)


def pen_width(digits: Sequence[Picture]) -> float:
    """The mean width of the strokes of digits: twice their ink over the length of its edges, its total variation."""
    from PIL import Image

    ink = edges = 0.0
    for digit in digits:
        image = Image.fromarray(np.pad(shade(digit), PAD))
        larger = image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC)
        fine = np.asarray(larger).clip(0, 1)
        ink += float(fine.sum()) / 16
        edges += float(np.hypot(*np.gradient(fine)).sum()) / 4
    return 2 * ink / edges if edges else PEN


def _stroke(*parts: tuple[tuple[float, float], tuple[float, float], float], random: Random) -> Drawn:
    """Strokes of a pen, each from a point to a point, (x, height above the baseline), and of a width.

    They bend a little, swell and thin a little, and their edges are as wide as a pixel, as those of MNIST.
    """
    paths = []
    for start, end, width in parts:
        there = np.linspace(0, 1, 40)[:, None]
        length = math.dist(start, end)
        bend = np.asarray(start) / 2 + np.asarray(end) / 2 + random.normal(0, 0.04 * length, 2)
        path = (1 - there) ** 2 * start + 2 * there * (1 - there) * bend + there**2 * end
        swell = random.normal(0, 0.05) * np.cos(math.pi * there) + random.normal(0, 0.05) * np.cos(2 * math.pi * there)
        paths.append(np.concatenate([path, width / 2 * (1 + swell)], axis=1))
    points = np.concatenate(paths)  # x, height, radius
    right, top, bottom = (
        math.ceil(value) + PAD for value in (points[:, 0].max(), points[:, 1].max(), -points[:, 1].min())
    )
    left = PAD - math.floor(points[:, 0].min())
    height, across = np.mgrid[top : -max(bottom, 0) : -1, -left:right] + np.array([-0.5, 0.5])[:, None, None]
    distance = np.hypot(across[..., None] - points[:, 0], height[..., None] - points[:, 1])
    return Drawn(np.clip(points[:, 2] - distance + 0.5, 0, 1).max(-1).astype(np.float32), float(top))


def _hyphen(pen: float, tall: float, random: Random) -> Drawn:
    rise = random.normal(0, 0.03, 2)
    return _stroke(((0, tall * (0.43 + rise[0])), (0.4 * tall, tall * (0.45 + rise[1])), pen), random=random)


def _slash(pen: float, tall: float, random: Random) -> Drawn:
    lean = random.normal(0.4, 0.03)
    return _stroke(((0, -0.06 * tall), (lean * tall, 1.06 * tall), pen), random=random)


def _dot(pen: float, tall: float, random: Random) -> Drawn:
    return _stroke(_point(pen, 0.65 * pen, random), random=random)


def _colon(pen: float, tall: float, random: Random) -> Drawn:
    return _stroke(*(_point(pen, height * tall, random) for height in (0.6, 0.17)), random=random)


def _point(pen: float, height: float, random: Random) -> tuple[tuple[float, float], tuple[float, float], float]:
    """A dot is a very short stroke, pressed a little harder."""
    x, y, along, up = random.normal(0, 0.12, 4) * pen
    return (x, height + y), (x + along + 0.2 * pen, height + y + up), 1.2 * pen


MARKS: dict[str, Callable[[float, float, Random], Drawn]] = {"-": _hyphen, "/": _slash, ".": _dot, ":": _colon}
