"""Animations: GIF and WebP files that loop, and show exactly the pixels of their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import HarnessError
from harness.files import atomic_write
from harness.media.pictures import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".gif", ".webp")
MAX_FPS = 20  # frames a second; browsers slow down faster animations
LAST_FRAME_SECONDS = 2.0  # additional time of the last frame of a history
MIN_SECONDS, MAX_SECONDS = 5.0, 12.0  # duration of a history
MIN_SIDE = 600  # pixels of a magnified picture's longer side, at least
_MAX_SIDE = {".gif": 65_535, ".webp": 16_383}  # pixels: limits of the formats


def save_animation(path: Path, frames: Iterable[Picture], milliseconds: int | list[int]) -> None:
    """Write frames of one shape as a looping GIF or a lossless WebP, completely or not at all.

    GIF counts in hundredths of a second and has 256 colours: grey pictures are exact, colour ones get their nearest
    colours without dithering. Equal successive frames become one that is shown longer.

    Args:
        path: ends in .gif or .webp, which is the format.
        frames: One frame or more.
        milliseconds: The duration of each frame, or of all frames.

    Raises:
        HarnessError: a frame is too large for the format; no second frame is generated then.
    """
    rest = iter(frames)
    first = next(rest)
    max_side = _MAX_SIDE[path.suffix]
    if max(first.shape) > max_side:
        height, width = first.shape[:2]
        raise HarnessError(
            f"{path}: a frame is {width:,} x {height:,} pixels, and {path.suffix} takes at most {max_side:,} "
            "each way: use fewer images"
        )
    pictures = (_image(frame, path.suffix) for frame in chain([first], rest))
    options: dict[str, Any] = {"lossless": True, "method": 4} if path.suffix == ".webp" else {"optimize": False}
    with atomic_write(path, parents=True) as fresh:
        next(pictures).save(
            fresh,
            format=path.suffix[1:],
            save_all=True,
            append_images=pictures,
            duration=milliseconds,
            loop=0,
            **options,
        )


def _image(frame: Picture, suffix: str) -> Image:
    from PIL import Image

    image = Image.fromarray(frame)
    if suffix == ".gif" and image.mode == "RGB":
        return image.quantize(256, dither=Image.Dither.NONE)
    return image


def magnify(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """Magnify pictures by a whole factor, each pixel a square, until the longer side has at least `MIN_SIDE` pixels."""
    for picture in pictures:
        factor = -(-MIN_SIDE // max(picture.shape[:2]))
        yield picture.repeat(factor, axis=0).repeat(factor, axis=1)


def frame_durations(count: int, fps: float | None = None) -> list[int]:
    """Return how long each of `count` frames of a history is shown, in milliseconds.

    The last frame is shown `LAST_FRAME_SECONDS` longer. Without `fps`, there are five frames per second if that takes 5
    to 12 s in all. Otherwise the rate is changed to reach these limits, up to 20 per second, so that more than 200
    frames take longer.
    """
    shortest, longest = MIN_SECONDS - LAST_FRAME_SECONDS, MAX_SECONDS - LAST_FRAME_SECONDS
    each = 1 / fps if fps else min(max(0.2, shortest / count), longest / count)
    hundredths = max(round(100 * each), 100 // MAX_FPS)  # the resolution of a GIF
    return [10 * hundredths] * (count - 1) + [10 * hundredths + round(1000 * LAST_FRAME_SECONDS)]


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Return at most `limit` (two or more) indices of 0 to count - 1, evenly spaced, with the first and the last."""
    if count <= limit:
        return list(range(count))
    return [int(index) for index in np.linspace(0, count - 1, limit).round()]
