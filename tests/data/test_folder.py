"""A folder of images to tensors: classes, splits, sizes, modes, and what cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness import data
from harness.data.folder import Folder
from harness.errors import HarnessError

pytestmark = pytest.mark.usefixtures("cache")


def picture(file: Path, value: int | tuple[int, ...] = 0, size: tuple[int, int] = (8, 8), mode: str = "L") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(file)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten grey images each, of one value each."""
    path = tmp_path / "faces"
    for index in range(10):
        picture(path / "bright" / f"{index}.png", 200 + index)
        picture(path / "dark" / "deeper" / f"{index}.png", 10 + index)
    return path


def load(path: Path, said: list[str] | None = None, **options: Any) -> data.Splits:
    return data.load("folder", path=str(path), size=8, message=(said if said is not None else []).append, **options)


def values(images: data.Images) -> list[int]:
    return [int(image.flatten()[0]) for image in images.pixels]


def test_subfolders_are_classes_and_a_tenth_is_the_test_split(folder: Path) -> None:
    said: list[str] = []
    splits = load(folder, said)
    assert said == []
    assert (splits.train.name, splits.train.shape, splits.train.classes) == ("folder-faces/train", (1, 8, 8), 2)
    assert (len(splits.train), len(splits.test)) == (18, 2)
    assert sorted(values(splits.train) + values(splits.test)) == [*range(10, 20), *range(200, 210)]
    for images in (splits.train, splits.test):
        assert images.labels is not None
        assert images.labels.tolist() == [int(value < 100) for value in values(images)]
    assert load(folder).test.fingerprint == splits.test.fingerprint


def test_folders_named_train_and_test_are_the_splits(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "test" / "dark").mkdir(parents=True)
    folder.rename(root / "train")
    picture(root / "test" / "dark" / "one.png", 99)
    picture(root / "aside" / "ignored.png", 1)
    splits = load(root)
    assert len(splits.train) == 20
    assert splits.test.labels is not None
    assert (values(splits.test), splits.test.labels.tolist(), splits.test.classes) == ([99], [1], 2)


def test_images_without_subfolders_have_no_labels(tmp_path: Path) -> None:
    for index in range(25):
        picture(tmp_path / "loose" / f"{index:02}.png", index)
    (tmp_path / "loose" / "notes.txt").write_text("no image")
    (tmp_path / "loose" / ".hidden.png").write_text("no image")
    splits = load(tmp_path / "loose", validation=3)
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20, 3, 2)
    assert splits.train.labels is splits.test.labels is None
    assert splits.train.classes == 0


def test_decoded_once_and_again_when_a_file_has_changed(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(folder).train
    kept = sorted((cache / "folders").glob("*.npy"))
    assert len(kept) == 1
    assert np.load(kept[0]).shape == (20, 1, 8, 8)
    assert json.loads(kept[0].with_suffix(".json").read_text())["folder"] == str(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        assert load(folder).train.fingerprint == first.fingerprint
    os.utime(folder / "bright" / "0.png", (1, 1))
    assert load(folder).train.fingerprint == first.fingerprint
    picture(folder / "bright" / "0.png", 77)
    changed = load(folder)
    assert 77 in values(changed.train) + values(changed.test)
    assert len(list((cache / "folders").glob("*.npy"))) == 3
    assert not list((cache / "folders").glob("*.decoding"))


def test_sizes_and_modes_are_made_one_with_one_notice_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "mixed"
    picture(path / "a.png", 50)
    picture(path / "b.jpg", 100, (16, 16))
    picture(path / "c.png", (150, 150, 150), (8, 8), "RGB")
    picture(path / "d.webp", (200, 200, 200), (30, 20), "RGB")
    said: list[str] = []
    splits = load(path, said)
    assert said == [f"{path}: of 4 images 2 were cropped and resized to 8x8, 2 converted to grey"]
    found = sorted(values(splits.train) + values(splits.test))
    assert found == pytest.approx([50, 100, 150, 200], abs=1)  # JPEG and WebP are not exact
    colour = load(path, said, channels=3)
    assert colour.train.shape == (3, 8, 8)
    assert said[1:] == [f"{path}: of 4 images 2 were cropped and resized to 8x8, 2 converted to colour"]


def one(tmp_path: Path, image: Image.Image, name: str = "a.png", **options: Any) -> torch.Tensor:
    """What becomes of an image."""
    path = tmp_path / "pair"
    path.mkdir()
    image.save(path / name, **({"exif": options.pop("exif")} if "exif" in options else {}))
    (path / f"b{Path(name).suffix}").write_bytes((path / name).read_bytes())
    return load(path, **options).train.pixels[0]


def test_the_centre_is_what_is_kept(tmp_path: Path) -> None:
    wide = np.zeros((8, 24), dtype=np.uint8)
    wide[:, 8:16] = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert one(tmp_path, Image.fromarray(wide))[0].tolist() == wide[:, 8:16].tolist()


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    shrunk = one(tmp_path, Image.fromarray(board.astype(np.uint8)))
    assert shrunk.float().std() < 5
    assert shrunk.float().mean() == pytest.approx(127.5, abs=2)


def test_sixteen_bits_are_scaled_and_what_is_transparent_is_white(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
    assert one(tmp_path, deep)[0, 0, 0] == round(40_000 / 257)
    (tmp_path / "other").mkdir()
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 0, 255))
    assert one(tmp_path / "other", clear)[0, 0].tolist() == [0, *[255] * 7]


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat(np.arange(0, 256, 32, dtype=np.uint8)[None], 8, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter, clockwise
    turned = one(tmp_path, image, exif=exif)[0]
    assert turned[:, 0].tolist() == list(range(0, 256, 32))


@pytest.fixture
def damaged(folder: Path) -> Path:
    picture(folder / "bright" / "big.png", 1, (300, 300))
    whole = (folder / "bright" / "big.png").read_bytes()
    (folder / "bright" / "big.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dark" / "no.jpg").write_text("no image")
    return folder


def test_an_unreadable_image_is_named_and_refused(damaged: Path, cache: Path) -> None:
    with pytest.raises(
        HarnessError, match=r"the image .*bright/big\.png cannot be read \(.*set data\.unreadable to skip"
    ):
        load(damaged)
    assert [path.suffix for path in (cache / "folders").iterdir()] in ([], [".lock"])


def test_unreadable_images_are_skipped_counted_and_named_where_that_is_asked_for(damaged: Path) -> None:
    said: list[str] = []
    splits = load(damaged, said, unreadable="skip")
    assert said == [
        f"2 of 22 images in {damaged} are unreadable and were skipped: bright/big.png, dark/no.jpg",
    ]
    assert sorted(values(splits.train) + values(splits.test)) == [*range(10, 20), *range(200, 210)]
    with pytest.raises(HarnessError, match=r"big\.png cannot be read"):  # also when they are decoded already
        load(damaged)


def test_many_are_announced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.folder.REPORTED_COUNT", 20)
    said: list[str] = []
    load(folder, said)
    assert said[0].startswith(f"decoding 20 images in {folder} (once; they are stored in ")
    assert said[1:] == [f"decoding: {tenth * 10} %" for tenth in range(1, 11)]


def test_a_folder_that_is_named_as_a_data_set_is_not_taken_for_it(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "mnist")
    assert load(tmp_path / "mnist").train.name == "folder-mnist/train"


def test_what_is_no_folder_of_images_is_refused(folder: Path, tmp_path: Path) -> None:
    def refused(path: Path, said: str) -> None:
        with pytest.raises(HarnessError, match=said) as caught:
            Folder(str(path))
        assert "\n" not in str(caught.value)

    refused(tmp_path / "absent", r"data\.path: .*absent is not there; expected a folder of images \(\.bmp")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", r"data\.path: .*file is not a folder")
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    refused(tmp_path / "empty", "empty holds no images")
    picture(tmp_path / "single" / "a.png")
    refused(tmp_path / "single", "single holds one image; at least two are needed")
    picture(tmp_path / "half" / "train" / "a.png")
    refused(tmp_path / "half", r"has a folder train, and none called test: .* or set data\.path to .*half/train")
    picture(tmp_path / "half" / "test" / "dogs" / "a.png")
    refused(tmp_path / "half", r"half/test has a class dogs, which .*half/train does not have")
    picture(folder / "loose.png")
    refused(folder, r"holds images \(loose\.png, \.\.\.\) beside subfolders of images \(bright, \.\.\.\)")


def test_options_of_another_data_set_are_refused() -> None:
    with pytest.raises(HarnessError, match=r"data\.path is set, but data\.name is mnist: it belongs to folder"):
        data.load("mnist", path="somewhere")
    with pytest.raises(HarnessError, match=r"data\.name is folder, but data\.path is not set"):
        data.load("folder")
    assert len(data.load("mnist", path=None, size=None).test) == 10_000


def test_a_damaged_array_is_named_with_the_cure(folder: Path, cache: Path) -> None:
    load(folder)
    (kept,) = (cache / "folders").glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:50])
    with pytest.raises(HarnessError, match=r"cannot read .*\.npy .*delete it; the images are then decoded again"):
        load(folder)
