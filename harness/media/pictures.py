"""Pictures of samples: grids, captions and sheets, files of images, and a preview in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness import formatting
from harness.errors import HarnessError
from harness.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

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


def pairs(images: Tensor, others: Tensor) -> Picture:
    """A row of `images`, below it their counterparts in `others`, and so on; both uint8 [N, C, H, W]."""
    import torch

    rows = zip(torch.split(images.cpu(), 10), torch.split(others.cpu(), 10), strict=True)
    return grid(torch.cat([row for pair in rows for row in pair]))


def captioned(picture: Picture, caption: Sequence[str], *, size: int = 14, white: bool = False) -> Picture:
    """The picture, pixel by pixel, and below it the lines of `caption`: on black, or dark on `white`.

    size: of the letters, in pixels. A line that is wider than the picture is cut, and ends in an ellipsis.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not caption:
        return picture
    font = ImageFont.load_default(size)
    width, margin = picture.shape[1], size // 3
    pitch = round(1.35 * size)
    ground, ink = (255, 0) if white else (0, 235)
    text = Image.new("L", (width, 2 * margin + pitch * len(caption)), ground)
    draw = ImageDraw.Draw(text)
    for index, line in enumerate(caption):
        whole = line
        while line and font.getlength(line) > width - 2 * margin:
            whole = whole[:-1]
            line = whole.rstrip() + "…" if whole else ""
        draw.text((margin, margin + pitch * index), line, fill=ink, font=font)
    return np.concatenate([picture, _like(np.asarray(text), picture)])


def sheet(
    entries: Sequence[tuple[Picture, Sequence[str]]],
    columns: int,
    *,
    size: int = 14,
    gap: int = 20,
    white: bool = False,
) -> Picture:
    """Pictures with their captions in rows of `columns`, `gap` pixels apart; in colour where one of them is.

    Pictures of several sizes stand at the upper left of cells that hold the largest. size, white: see `captioned`.
    """
    cells = [captioned(picture, caption, size=size, white=white) for picture, caption in entries]
    colour = max(cells, key=lambda cell: cell.ndim)
    cells = [_like(cell, colour) for cell in cells]
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    height, width = (max(cell.shape[axis] for cell in cells) + gap for axis in (0, 1))
    shape = (rows * height + gap, columns * width + gap, *colour.shape[2:])
    whole = np.full(shape, 255 if white else 0, np.uint8)
    for index, cell in enumerate(cells):
        top, left = gap + index // columns * height, gap + index % columns * width
        whole[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return whole


def _like(picture: Picture, other: Picture) -> Picture:
    """The picture in colour, [H, W, 3], where the other is."""
    return np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim < other.ndim else picture


def load_image(path: Path) -> Picture:
    """An image file as grey, where it is stored so, or as colour. Raises HarnessError for anything else."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # Pillow's PNG reader calls damage a SyntaxError
        raise HarnessError(f"{path.name} is not a readable image: {' '.join(str(error).split())}") from error


def save_png(path: Path, picture: Picture) -> None:
    """Write a PNG, whole or not at all."""
    from PIL import Image

    with atomic_write(path, parents=True) as fresh:
        Image.fromarray(picture).save(fresh, format="PNG")


def save_npz(path: Path, images: Tensor) -> None:
    """Write `images`, uint8 [N, ...] as given, whole or not at all."""
    with atomic_write(path, parents=True) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, images=images.numpy())


@contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """Raises HarnessError, which names the option that the path was given with, where a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise HarnessError(
            f"cannot write {path}: {error.strerror or error}; give {option} a place that can be written"
        ) from error


_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture",
    b"BM": "a BMP picture",
}


def _no_archive(start: bytes) -> str | None:
    """Why a file that starts with these bytes is no NPZ file, which is a ZIP archive; None for one that may be."""
    if start.startswith(b"PK"):
        return None
    if not start:
        return "it is empty"
    if start.startswith(b"\x93NUMPY"):
        return "it is one array without a name (.npy); save numpy.load(FILE.npy) as `images`"
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return f"it is {kind}; give the images themselves, as an array"
    return f"it is no ZIP archive, and begins with {start!r}"


def _not_npz(path: Path, reason: str) -> HarnessError:
    sample = formatting.harness_command("sample", "RUN", out="FILE.npz")
    return HarnessError(
        f"{path} is not an NPZ file (as of numpy.savez('FILE.npz', images=ARRAY), or of `{sample}`): {reason}"
    )


def load_npz(path: Path) -> Tensor:
    """`images` of anyone's NPZ file, as uint8 [N, C, H, W]. Raises HarnessError for anything else."""
    import torch

    images = None
    try:
        with path.open("rb") as file:
            if reason := _no_archive(file.read(16)):
                raise _not_npz(path, reason)
            file.seek(0)
            arrays = np.load(file, allow_pickle=False)
            names = list(arrays)
            if "images" in names:
                images = arrays["images"]
    except HarnessError:
        raise
    except FileNotFoundError as error:
        raise HarnessError(f"there is no file {path}") from error
    except OSError as error:
        raise _not_npz(path, str(error.strerror or error)) from error
    except Exception as error:  # there is no telling what a damaged file makes zipfile, zlib and numpy raise
        if "allow_pickle" in str(error):
            raise _not_npz(path, "Object arrays cannot be loaded; give an array of numbers") from error
        raise _not_npz(path, f"it is damaged or cut short ({' '.join(str(error).split())})") from error
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


HALF_BLOCK = "\u2580"  # the upper half of a character
_SHADES = " .:-=+*#%@"  # from black to white


def terminal(picture: Picture, columns: int, *, ascii_only: bool = False) -> str:
    """The picture as text of at most `columns` characters a line: two pixels in each, by an upper half block.

    The colours are 24-bit ANSI codes; pictures wider than the terminal are shrunk by averaging.
    ascii_only: for a terminal that has no half block, grey as ASCII characters, without colours.
    """
    from PIL import Image

    image = Image.fromarray(picture).convert("RGB")
    if image.width > columns:
        image = image.resize((columns, max(1, round(image.height * columns / image.width))), Image.Resampling.BOX)
    pixels: npt.NDArray[Any] = np.asarray(image)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    if ascii_only:
        grey = pixels.reshape(-1, 2, image.width, 3).mean(axis=(1, 3)) / 256
        return "\n".join("".join(_SHADES[int(value * len(_SHADES))] for value in row).rstrip() for row in grey)
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = [
            f"\x1b[38;2;{above[0]};{above[1]};{above[2]};48;2;{below[0]};{below[1]};{below[2]}m{HALF_BLOCK}"
            for above, below in zip(upper, lower, strict=True)
        ]
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
