"""Decode an image file of the user to one size and mode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DecodedImage:
    """An image file as pixels.

    Attributes:
        pixels: [C, size, size].
        resized: Whether the file has another size.
        converted: Whether the file has another mode.
    """

    pixels: Pixels
    resized: bool
    converted: bool


def decode_image(file: Path, size: int, channels: int) -> DecodedImage | str:
    """Return one image (the first frame of an animation); a text says why it cannot be decoded."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            converted_image = _convert(upright, mode)
            resized, converted = converted_image.size != (size, size), upright.mode != mode
            if resized:
                converted_image = ImageOps.fit(converted_image, (size, size), Image.Resampling.LANCZOS)
            pixels = np.asarray(converted_image, dtype=np.uint8).reshape(size, size, channels)
    except Exception as error:  # decoders raise many types for damaged files
        return " ".join(f"{error}".split()).replace(f"'{file}'", "it") or type(error).__name__
    return DecodedImage(pixels.transpose(2, 0, 1), resized, converted)


def _convert(image: Any, mode: str) -> Any:
    """A Pillow image in mode L or RGB: 16-bit grey is scaled to 8 bits, transparent pixels are put on white."""
    from PIL import Image

    if image.mode == mode:
        return image
    if image.mode.startswith("I"):  # Pillow would clip the values
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its values are neither 8 nor 16 bits")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its values are floats of unknown scale")
    elif image.has_transparency_data:
        front = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), front)
    return image.convert(mode)
