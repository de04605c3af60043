"""Pictures of samples: grids, files of images, and a preview in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import HarnessError

Picture = npt.NDArray[np.uint8]  # [H, W] grey or [H, W, 3]


def grid(images: Tensor, columns: int = 10, gap: int = 2) -> Picture:
    """Lay images uint8 [N, C, H, W] out in rows of `columns`, `gap` black pixels apart."""
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), np.uint8)
    for index, image in enumerate(images.cpu().permute(0, 2, 3, 1).numpy()):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet[:, :, 0] if channels == 1 else sheet


def pairs(images: Tensor, others: Tensor, columns: int = 10, gap: int = 2) -> Picture:
    """A row of `images`, below it their counterparts in `others`, and so on; both uint8 [N, C, H, W]."""
    rows = zip(torch.split(images.cpu(), columns), torch.split(others.cpu(), columns), strict=True)
    return grid(torch.cat([row for pair in rows for row in pair]), columns, gap)


def save_png(path: Path, picture: Picture) -> None:
    """Write a PNG, whole or not at all."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    try:
        Image.fromarray(picture).save(scratch, format="PNG")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def save_npz(path: Path, images: Tensor) -> None:
    """Write `images`, uint8 [N, H, W] or [N, C, H, W] as given, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    try:
        with scratch.open("wb") as file:
            np.savez_compressed(file, images=images.numpy())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def load_npz(path: Path) -> Tensor:
    """`images` of anyone's NPZ file, as uint8 [N, C, H, W]. Raises HarnessError for anything else."""
    images = None
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise TypeError("it is one array without a name")
            names = list(arrays)
            if "images" in names:
                images = arrays["images"]
    except FileNotFoundError as error:
        raise HarnessError(f"there is no file {path}") from error
    except Exception as error:  # there is no telling what a damaged file makes zipfile, zlib and numpy raise
        reason = " ".join(str(error).split())
        raise HarnessError(f"{path} is not an NPZ file (numpy.savez(FILE, images=...)): {reason}") from error
    if images is None:
        raise HarnessError(f"{path} holds {', '.join(names) or 'nothing'}; expected an array named `images`")
    if images.dtype != np.uint8 or images.ndim not in {3, 4}:
        raise HarnessError(
            f"{path}: images are {images.dtype} {list(images.shape)}; "
            "expected uint8, 0 to 255, [N, H, W] or [N, C, H, W]"
        )
    if images.max(initial=0) == 1:  # all black is a collapsed generator, and is scored
        raise HarnessError(
            f"{path}: images hold 0 and 1 only; expected 0 to 255: multiply by 255 before making them uint8"
        )
    pixels = torch.from_numpy(images)
    return pixels.unsqueeze(1) if images.ndim == 3 else pixels


def terminal(picture: Picture, columns: int) -> str:
    """The picture as text of at most `columns` characters a line: two pixels in each, by an upper half block.

    The colours are 24-bit ANSI codes; pictures wider than the terminal are shrunk by averaging.
    """
    from PIL import Image

    image = Image.fromarray(picture).convert("RGB")
    if image.width > columns:
        image = image.resize((columns, max(1, round(image.height * columns / image.width))), Image.Resampling.BOX)
    pixels: npt.NDArray[Any] = np.asarray(image)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = [
            f"\x1b[38;2;{above[0]};{above[1]};{above[2]};48;2;{below[0]};{below[1]};{below[2]}m\u2580"
            for above, below in zip(upper, lower, strict=True)
        ]
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
