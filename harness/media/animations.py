"""Animations: GIF and WebP files that loop, with the very pixels of the pictures they are made of."""

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
FASTEST = 20  # frames a second; browsers slow down what is much faster
HOLD = 2.0  # seconds that the last frame of a history stays
SHORTEST, LONGEST = 5.0, 12.0  # seconds, of a history
_WIDEST = {".gif": 65_535, ".webp": 16_383}  # pixels: what the formats can hold


def save_animation(path: Path, frames: Iterable[Picture], milliseconds: int | list[int]) -> None:
    """Write frames of one shape as an endless GIF or lossless WebP, whole or not at all; `path` says which.

    milliseconds: how long each frame is shown, or all of them. GIF counts in hundredths of a second, and has 256
    colours: grey pictures are kept exactly, colour ones in their nearest colours, undithered. Frames that do not differ
    become one that is shown longer. Raises HarnessError, before a second frame is asked for, where one is too large.
    """
    rest = iter(frames)
    first = next(rest)
    widest = _WIDEST[path.suffix]
    if max(first.shape) > widest:
        height, width = first.shape[:2]
        raise HarnessError(
            f"{path}: a frame is {width:,} x {height:,} pixels, and {path.suffix} holds {widest:,} each way: draw fewer"
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


def magnified(pictures: Iterable[Picture], pixels: int = 600) -> Iterator[Picture]:
    """Small pictures enlarged by a whole factor, each pixel a square, so that the longer side has at least `pixels`."""
    for picture in pictures:
        factor = -(-pixels // max(picture.shape[:2]))
        yield picture.repeat(factor, axis=0).repeat(factor, axis=1)


def pace(count: int, fps: float | None = None) -> list[int]:
    """How long each of `count` frames of a history is shown, in milliseconds; the last for HOLD longer than that.

    Without `fps`, five frames a second where the whole then takes 5 to 12 s, else what makes it so; but never more
    than 20 frames a second, which makes it longer where there are more than 200.
    """
    each = 1 / fps if fps else min(max(0.2, (SHORTEST - HOLD) / count), (LONGEST - HOLD) / count)
    hundredths = max(round(100 * each), 100 // FASTEST)  # what a GIF can say
    return [10 * hundredths] * (count - 1) + [10 * hundredths + round(1000 * HOLD)]


def evenly(count: int, most: int) -> list[int]:
    """At most `most` (two or more) of the indices 0 to count - 1, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [int(index) for index in np.linspace(0, count - 1, most).round()]
