"""Measure the stroke width of digits, and draw punctuation marks with the same width."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.media.pictures import Picture

Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

# Lengths are in pixels of the digits before magnification.
STROKE_WIDTH, DIGIT_HEIGHT = 2.3, 20.0  # defaults without digits: medians of MNIST
INK = 0.5  # values from here on count as ink
PAD = 4  # around a glyph, so that it can be rotated and measured


class Stroke(NamedTuple):
    """A glyph before magnification, with a margin of PAD.

    Attributes:
        ink: [H, W], 0 to 1.
        baseline: distance of the baseline from the top, in pixels.
    """

    ink: Floats
    baseline: float


def to_ink(digit: Picture) -> Floats:
    """Convert a digit, uint8 [H, W], to ink in [0, 1]."""
    return digit.astype(np.float32) / np.float32(255)


def stroke_width(digits: Sequence[Picture]) -> float:
    """Return the mean stroke width of digits, in pixels: twice their ink over their total variation."""
    from PIL import Image

    ink = edges = 0.0
    for digit in digits:
        image = Image.fromarray(np.pad(to_ink(digit), PAD))
        larger = image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC)
        fine = np.asarray(larger).clip(0, 1)
        ink += float(fine.sum()) / 16
        edges += float(np.hypot(*np.gradient(fine)).sum()) / 4
    return 2 * ink / edges if edges else STROKE_WIDTH


def _stroke(*parts: tuple[tuple[float, float], tuple[float, float], float], rng: Rng) -> Stroke:
    """Draw strokes, each from a point to a point, (x, height above the baseline), and of a width.

    They are slightly bent and uneven, and their edges are a pixel wide, like those of MNIST.
    """
    paths = []
    for start, end, width in parts:
        t = np.linspace(0, 1, 40)[:, None]
        length = math.dist(start, end)
        control = np.asarray(start) / 2 + np.asarray(end) / 2 + rng.normal(0, 0.04 * length, 2)
        path = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
        swell = rng.normal(0, 0.05) * np.cos(math.pi * t) + rng.normal(0, 0.05) * np.cos(2 * math.pi * t)
        paths.append(np.concatenate([path, width / 2 * (1 + swell)], axis=1))
    points = np.concatenate(paths)  # x, height, radius
    right, top, bottom = (
        math.ceil(value) + PAD for value in (points[:, 0].max(), points[:, 1].max(), -points[:, 1].min())
    )
    left = PAD - math.floor(points[:, 0].min())
    height, across = np.mgrid[top : -max(bottom, 0) : -1, -left:right] + np.array([-0.5, 0.5])[:, None, None]
    distance = np.hypot(across[..., None] - points[:, 0], height[..., None] - points[:, 1])
    return Stroke(np.clip(points[:, 2] - distance + 0.5, 0, 1).max(-1).astype(np.float32), float(top))


def _hyphen(width: float, height: float, rng: Rng) -> Stroke:
    rise = rng.normal(0, 0.03, 2)
    return _stroke(((0, height * (0.43 + rise[0])), (0.4 * height, height * (0.45 + rise[1])), width), rng=rng)


def _slash(width: float, height: float, rng: Rng) -> Stroke:
    lean = rng.normal(0.4, 0.03)
    return _stroke(((0, -0.06 * height), (lean * height, 1.06 * height), width), rng=rng)


def _dot(width: float, height: float, rng: Rng) -> Stroke:
    return _stroke(_point(width, 0.65 * width, rng), rng=rng)


def _colon(width: float, height: float, rng: Rng) -> Stroke:
    return _stroke(*(_point(width, share * height, rng) for share in (0.6, 0.17)), rng=rng)


def _point(width: float, height: float, rng: Rng) -> tuple[tuple[float, float], tuple[float, float], float]:
    """A dot is a very short stroke, a little wider."""
    x, y, along, up = rng.normal(0, 0.12, 4) * width
    return (x, height + y), (x + along + 0.2 * width, height + y + up), 1.2 * width


MARKS: dict[str, Callable[[float, float, Rng], Stroke]] = {"-": _hyphen, "/": _slash, ".": _dot, ":": _colon}
