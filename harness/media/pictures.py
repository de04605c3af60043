"""Pictures of samples: grids, captions and contact sheets, image and NPZ files, and a preview in the terminal."""

from __future__ import annotations

import base64
import io
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
LETTER_SIZE = 14  # pixels, of captions
SHEET_GAP = 20  # pixels between the pictures of a contact sheet


def grid(images: Tensor, columns: int = 10, gap: int = 2) -> Picture:
    """Arrange images uint8 [N, C, H, W] in rows of `columns`, with `gap` black pixels between them."""
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), np.uint8)
    for index, image in enumerate(images.cpu().permute(0, 2, 3, 1).numpy()):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet[:, :, 0] if channels == 1 else sheet


def neighbour_grid(images: Tensor, neighbours: Tensor) -> Picture:
    """Arrange rows of ten images, each above its neighbours; both are uint8 [N, C, H, W]."""
    import torch

    rows = zip(torch.split(images.cpu(), 10), torch.split(neighbours.cpu(), 10), strict=True)
    return grid(torch.cat([row for pair in rows for row in pair]))


def add_caption(picture: Picture, caption: Sequence[str], *, white: bool = False) -> Picture:
    """Return the unchanged picture with lines of text below it: on black, or dark on `white`.

    A line that is wider than the picture is cut and ends in an ellipsis.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not caption:
        return picture
    font = ImageFont.load_default(LETTER_SIZE)
    width, margin = picture.shape[1], LETTER_SIZE // 3
    pitch = round(1.35 * LETTER_SIZE)
    background, ink = (255, 0) if white else (0, 235)
    text = Image.new("L", (width, 2 * margin + pitch * len(caption)), background)
    draw = ImageDraw.Draw(text)
    for index, line in enumerate(caption):
        whole = line
        while line and font.getlength(line) > width - 2 * margin:
            whole = whole[:-1]
            line = whole.rstrip() + "…" if whole else ""
        draw.text((margin, margin + pitch * index), line, fill=ink, font=font)
    return np.concatenate([picture, _match_channels(np.asarray(text), picture)])


def contact_sheet(
    entries: Sequence[tuple[Picture, Sequence[str]]],
    columns: int,
    *,
    white: bool = False,
) -> Picture:
    """Arrange pictures with their captions in rows of `columns`; in colour if one of them is.

    Cells have the size of the largest picture; smaller ones are at the upper left. `white`: see `add_caption`.
    """
    cells = [add_caption(picture, caption, white=white) for picture, caption in entries]
    colour = max(cells, key=lambda cell: cell.ndim)
    cells = [_match_channels(cell, colour) for cell in cells]
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    height, width = (max(cell.shape[axis] for cell in cells) + SHEET_GAP for axis in (0, 1))
    shape = (rows * height + SHEET_GAP, columns * width + SHEET_GAP, *colour.shape[2:])
    sheet = np.full(shape, 255 if white else 0, np.uint8)
    for index, cell in enumerate(cells):
        top, left = SHEET_GAP + index // columns * height, SHEET_GAP + index % columns * width
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet


def _match_channels(picture: Picture, other: Picture) -> Picture:
    """Return the picture in colour, [H, W, 3], if the other one is in colour."""
    return np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim < other.ndim else picture


def load_image(path: Path) -> Picture:
    """Read an image file: grey if it is stored as grey, else colour.

    Raises:
        HarnessError: it is not a readable image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # Pillow's PNG reader calls damage a SyntaxError
        raise HarnessError(f"{path.name} is not a readable image: {' '.join(str(error).split())}") from error


def save_png(path: Path, picture: Picture) -> None:
    """Write a PNG, completely or not at all."""
    from PIL import Image

    with atomic_write(path, parents=True) as fresh:
        Image.fromarray(picture).save(fresh, format="PNG")


def to_png(picture: Picture, *, optimize: bool = False) -> bytes:
    """Return a picture as a PNG file. optimize: smaller, and slower."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", optimize=optimize)
    return file.getvalue()


def data_uri(picture: Picture, *, optimize: bool = False) -> str:
    """Return a picture as the address of an image in a page, which contains its data."""
    return "data:image/png;base64," + base64.b64encode(to_png(picture, optimize=optimize)).decode()


def save_npz(path: Path, images: Tensor) -> None:
    """Write `images`, uint8 [N, ...], completely or not at all."""
    with atomic_write(path, parents=True) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, images=images.numpy())


@contextmanager
def report_write_errors(path: Path, option: str) -> Iterator[None]:
    """Turn an OSError into a HarnessError that names the path and the option that it was given with."""
    try:
        yield
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror or error}; give {option} another path") from error


_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture",
    b"BM": "a BMP picture",
}


def _why_not_npz(start: bytes) -> str | None:
    """Return why a file that starts with these bytes is not an NPZ file (a ZIP archive); None if it may be one."""
    if start.startswith(b"PK"):
        return None
    if not start:
        return "it is empty"
    if start.startswith(b"\x93NUMPY"):
        return "it is one array without a name (.npy); save numpy.load(FILE.npy) as `images`"
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return f"it is {kind}; give the images themselves, as an array"
    return f"it is not a ZIP archive; it starts with {start!r}"


def _npz_error(path: Path, reason: str) -> HarnessError:
    sample = formatting.harness_command("sample", "RUN", out="FILE.npz")
    return HarnessError(
        f"{path} is not an NPZ file (as of numpy.savez('FILE.npz', images=ARRAY), or of `{sample}`): {reason}"
    )


def load_npz(path: Path) -> Tensor:
    """Read the array `images` of an NPZ file, uint8 [N, H, W] or [N, C, H, W], as uint8 [N, C, H, W].

    Raises:
        HarnessError: it is missing, damaged, or of another type or shape.
    """
    import torch

    images = None
    try:
        with path.open("rb") as file:
            if reason := _why_not_npz(file.read(16)):
                raise _npz_error(path, reason)
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
        raise _npz_error(path, str(error.strerror or error)) from error
    except Exception as error:  # zipfile, zlib and numpy raise many types for damage
        if "allow_pickle" in str(error):
            raise _npz_error(path, "Object arrays cannot be loaded; give an array of numbers") from error
        raise _npz_error(path, f"it is damaged or cut short ({' '.join(str(error).split())})") from error
    if images is None:
        raise HarnessError(f"{path} holds {', '.join(names) or 'nothing'}; expected an array named `images`")
    if images.dtype != np.uint8 or images.ndim not in {3, 4}:
        raise HarnessError(
            f"{path}: images are {images.dtype} {list(images.shape)}; "
            "expected uint8, 0 to 255, [N, H, W] or [N, C, H, W]"
        )
    if images.max(initial=0) == 1:  # all 0 may be a collapsed generator, which can be scored
        raise HarnessError(
            f"{path}: images hold 0 and 1 only; expected 0 to 255: multiply by 255 before making them uint8"
        )
    pixels = torch.from_numpy(images)
    return pixels.unsqueeze(1) if images.ndim == 3 else pixels


HALF_BLOCK = "\u2580"  # the upper half of a character
_SHADES = " .:-=+*#%@"  # from black to white


def render_terminal(picture: Picture, columns: int, *, ascii_only: bool = False) -> str:
    """Render the picture as text of at most `columns` characters a line, two pixels in each (an upper half block).

    Colours are 24-bit ANSI codes; wider pictures are shrunk by averaging.

    Args:
        picture: grey or colour.
        columns: width of the terminal.
        ascii_only: use ASCII characters as grey levels, without colours.
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
