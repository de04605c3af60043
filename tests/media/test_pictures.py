"""Pictures: every image in its place, files whole, a terminal preview of the right size."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.errors import HarnessError
from harness.media import pictures


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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("white", [False, True])
def test_a_caption_stands_below_the_untouched_picture(channels: int, white: bool) -> None:
    picture = pictures.grid(torch.randint(0, 256, (25, channels, 28, 28), dtype=torch.uint8))
    told = pictures.add_caption(picture, ["epoch 3 \u00b7 KID 0.0123", "second line"], white=white)
    assert told.dtype == np.uint8
    assert told.shape[1:] == picture.shape[1:]
    assert np.array_equal(told[: len(picture)], picture)
    text = told[len(picture) :]
    assert len(text) == pytest.approx(2 * 14 * 1.6, abs=6)
    ground = 255 if white else 0
    assert (text[[0, -1]] == ground).all()
    assert (text[:, [0, -1]] == ground).all()
    lit = text.reshape(*text.shape[:2], -1)[:, :, 0] != ground
    assert 0.02 < lit.mean() < 0.3
    first, second = np.array_split(lit, 2)
    assert first.any()
    assert second.any()
    assert pictures.add_caption(picture, []) is picture


def test_a_caption_too_wide_for_its_picture_is_cut() -> None:
    long = pictures.add_caption(np.zeros((10, 100), np.uint8), ["a name that is much too long for this picture"])
    assert long.shape[1] == 100
    assert not long[:, -4:].any()
    assert long[:, 70:].any(), "as much as there is room for"
    assert np.array_equal(pictures.add_caption(np.zeros((4, 3), np.uint8), ["a name"])[:, :], np.zeros((31, 3)))


def test_a_sheet_has_captioned_pictures_in_rows() -> None:
    entries = [(np.full((20, 60), shade, np.uint8), [f"number {shade}"]) for shade in (50, 100, 150)]
    whole = pictures.contact_sheet(entries, 2)
    cell = pictures.add_caption(*entries[0])
    height, width = len(cell) + 20, 80
    assert whole.shape == (2 * height + 20, 2 * width + 20)
    for index, entry in enumerate(entries):
        top, left = 20 + index // 2 * height, 20 + index % 2 * width
        assert np.array_equal(whole[top : top + len(cell), left : left + 60], pictures.add_caption(*entry))
    assert not whole[20 + height :, 20 + width :].any()
    assert (pictures.contact_sheet(entries, 2, white=True)[20 + height :, 20 + width :] == 255).all()
    assert pictures.contact_sheet(entries, 9).shape[1] == 3 * width + 20


def test_a_sheet_takes_grey_and_colour_pictures_of_several_sizes() -> None:
    grey, colour = np.full((20, 30), 7, np.uint8), np.zeros((10, 50, 3), np.uint8)
    colour[:, :, 1] = 200
    whole = pictures.contact_sheet([(grey, []), (colour, [])], 2)
    assert whole.shape == (60, 20 + 70 + 70, 3)
    assert (whole[20:40, 20:50] == 7).all()
    assert (whole[20:30, 90:140] == (0, 200, 0)).all()


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_files_that_are_no_images_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "epoch-0001.png").write_bytes(content)
    with pytest.raises(HarnessError, match=r"epoch-0001\.png is not a readable image") as caught:
        pictures.load_image(tmp_path / "epoch-0001.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_read_back_as_it_was_written(tmp_path: Path, channels: int) -> None:
    picture = pictures.grid(numbered(5, channels))
    pictures.save_png(tmp_path / "a.png", picture)
    assert np.array_equal(pictures.load_image(tmp_path / "a.png"), picture)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HarnessError, match="is not a readable image"):
        pictures.load_image(tmp_path / "a.png")


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


@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 3, 4, 4)])
def test_anyones_images_are_read_with_their_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.savez(tmp_path / "images.npz", images=images)
    read = pictures.load_npz(tmp_path / "images.npz")
    assert read.shape == (5, shape[1] if len(shape) == 4 else 1, 4, 4)
    assert np.array_equal(read.numpy().reshape(shape), images)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": np.zeros(3), "labels": np.zeros(3)}, "holds pictures, labels; expected an array named `images`"),
        ({}, "holds nothing; expected an array named `images`"),
        ({"images": np.zeros((5, 4, 4), np.float32)}, r"images are float32 \[5, 4, 4\]; expected uint8, 0 to 255"),
        ({"images": np.zeros((5, 16), np.uint8)}, r"images are uint8 \[5, 16\]; expected uint8, 0 to 255, \[N, H, W\]"),
        ({"images": np.array([[["a"]]], dtype=object)}, "is not an NPZ file .*: Object arrays cannot be loaded"),
        ({"images": np.eye(4, dtype=np.uint8)[None]}, "images hold 0 and 1 only; expected 0 to 255: multiply by 255"),
    ],
)
def test_other_arrays_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "images.npz", allow_pickle=True, **arrays)
    with pytest.raises(HarnessError, match=said) as caught:
        pictures.load_npz(tmp_path / "images.npz")
    assert "\n" not in str(caught.value)


def test_black_images_and_none_are_read(tmp_path: Path) -> None:
    for shape in [(5, 1, 4, 4), (0, 1, 4, 4)]:
        pictures.save_npz(tmp_path / "images.npz", torch.zeros(shape, dtype=torch.uint8))
        assert pictures.load_npz(tmp_path / "images.npz").shape == shape


def test_files_that_are_not_npz_are_refused_in_one_line(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8), np.uint8)
    path = tmp_path / "images.npz"
    np.savez_compressed(path, images=images)
    whole = path.read_bytes()
    np.save(tmp_path / "bare.npy", images)
    flipped = [
        whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(0, len(whole), len(whole) // 20)
    ]
    contents = [b"", b"PK", b"not images", pickle.dumps([images]), (tmp_path / "bare.npy").read_bytes(), whole[:-100]]
    said: list[str] = []
    for content in [*contents, *flipped]:
        path.write_bytes(content)
        try:
            read = pictures.load_npz(path)
        except HarnessError as error:
            said.append(str(error))
        else:
            assert np.array_equal(read.squeeze(1).numpy(), images)
    assert len(said) > 15
    assert all(line.startswith(f"{path} ") and "\n" not in line for line in said)
    for file, expected in [
        ("absent.npz", "there is no file"),
        ("bare.npy", "is not an NPZ file .*: it is one array"),
        (".", "is not an NPZ file"),
    ]:
        with pytest.raises(HarnessError, match=expected):
            pictures.load_npz(tmp_path / file)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"", "it is empty"),
        (b"\x89PNG\r\n\x1a\n", "it is a PNG picture; give the images themselves, as an array"),
        (b"\xff\xd8\xff\xe0", "it is a JPEG picture"),
        (b"\x93NUMPY\x01\x00", r"it is one array without a name \(.npy\); save numpy.load\(FILE.npy\) as `images`"),
        (b"name: tiny", "it is not a ZIP archive; it starts with b'name: tiny'"),
        (b"PK\x03\x04", "it is damaged or cut short"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, start: bytes, said: str) -> None:
    (tmp_path / "d.png").write_bytes(start)
    with pytest.raises(HarnessError, match=said) as caught:
        pictures.load_npz(tmp_path / "d.png")
    assert "sample RUN --out FILE.npz" in str(caught.value)
    assert "pickle" not in str(caught.value)


def test_the_terminal_preview_has_two_pixels_a_character() -> None:
    sheet = np.arange(5 * 6, dtype=np.uint8).reshape(5, 6)
    lines = pictures.render_terminal(sheet, columns=80).splitlines()
    assert len(lines) == 3
    assert all(line.count("\u2580") == 6 for line in lines)
    first = re.findall(r"38;2;(\d+);\d+;\d+;48;2;(\d+);", lines[0])
    assert first[0] == ("0", "6")
    assert first[5] == ("5", "11")


def test_a_wide_picture_is_shrunk_to_the_terminal() -> None:
    lines = pictures.render_terminal(np.zeros((100, 200), np.uint8), columns=50).splitlines()
    assert all(line.count("\u2580") == 50 for line in lines)
