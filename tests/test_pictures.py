"""Pictures: every image in its place, files whole, a terminal preview of the right size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harness import pictures


def numbered(count: int, channels: int = 1) -> torch.Tensor:
    """Images of one flat colour each: 1, 2, 3, ..."""
    return torch.arange(1, count + 1, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, channels, 4, 4)


def test_a_grid_puts_images_in_rows_with_gaps() -> None:
    sheet = pictures.grid(numbered(7), columns=3, gap=1)
    assert sheet.shape == (3 * 5 + 1, 3 * 5 + 1)
    assert sheet[1:5, 1:5].tolist() == np.full((4, 4), 1).tolist()
    assert (sheet[1:5, 6:10] == 2).all()
    assert (sheet[6:10, 1:5] == 4).all()
    assert (sheet[11:15, 6:] == 0).all()
    assert (sheet[0] == 0).all()


def test_a_grid_of_colour_images_keeps_its_channels() -> None:
    assert pictures.grid(numbered(4, channels=3), columns=2, gap=0).shape == (8, 8, 3)


def test_fewer_images_than_columns_leave_no_empty_columns() -> None:
    assert pictures.grid(numbered(2), columns=10, gap=0).shape == (4, 8)


def test_a_png_holds_the_very_pixels(tmp_path: Path) -> None:
    sheet = pictures.grid(numbered(5))
    pictures.save_png(tmp_path / "new" / "grid.png", sheet)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "grid.png")), sheet)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_an_npz_holds_the_very_images(tmp_path: Path) -> None:
    pictures.save_npz(tmp_path / "images.npz", numbered(5).squeeze(1))
    with np.load(tmp_path / "images.npz") as file:
        assert file["images"].dtype == np.uint8
        assert file["images"].shape == (5, 4, 4)


def test_the_terminal_preview_has_two_pixels_a_character() -> None:
    sheet = np.arange(5 * 6, dtype=np.uint8).reshape(5, 6)
    lines = pictures.terminal(sheet, columns=80).splitlines()
    assert len(lines) == 3
    assert all(line.count("\u2580") == 6 for line in lines)
    first = re.findall(r"38;2;(\d+);\d+;\d+;48;2;(\d+);", lines[0])
    assert first[0] == ("0", "6")
    assert first[5] == ("5", "11")


def test_a_wide_picture_is_shrunk_to_the_terminal() -> None:
    lines = pictures.terminal(np.zeros((100, 200), np.uint8), columns=50).splitlines()
    assert all(line.count("\u2580") == 50 for line in lines)
