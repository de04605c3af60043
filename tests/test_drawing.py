"""`sample --interpolate` as people type them, on real runs; every file is opened again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.pictures import Picture

from .commands import Harness, frames_of, size_of

PLAIN = ["run", "tiny.yaml", "--no-system-metrics"]
TOLD = ["--set", "generator.kind=conv", "--set", "discriminator.kind=conv", "--set", "conditional=true"]


def read(path: str | Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image)


def cells(picture: Picture, rows: int, columns: int) -> np.ndarray:
    """The digits of a grid: [rows, columns, 28, 28]."""
    assert picture.shape == (rows * 30 + 2, columns * 30 + 2)
    return picture[2:, 2:].reshape(rows, 30, columns, 30).transpose(0, 2, 1, 3)[:, :, :28, :28]


def files() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"mlruns", "tiny.yaml"}


# Walks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [[], TOLD])
def test_walks_are_a_strip_an_animation_or_an_array_and_begin_at_the_samples(
    harness: Harness, extra: Sequence[str]
) -> None:
    said = harness(*PLAIN, "--epochs", "1", *extra)
    assert said.code == 0, said.err
    assert harness("sample", "latest", "--count", "10", "--seed", "5", "--out", "samples.png").code == 0
    samples = cells(read("samples.png"), 1, 10)[0]

    said = harness("sample", "latest", "--interpolate", "--seed", "5", "--out", "walk.png")
    assert said.code == 0, said.err
    assert said.out == "10 walks of 16 images each in walk.png\n"
    strip = cells(read("walk.png"), 10, 16)
    assert np.array_equal(strip[:, 0], samples)
    assert len({column.tobytes() for column in strip.transpose(1, 0, 2, 3)}) == 16

    arguments = ["--interpolate", "--seed", "5", "--frames", "16"]
    assert harness("sample", "latest", *arguments, "--out", "walk.npz").code == 0
    with np.load("walk.npz") as arrays:
        assert arrays["images"].dtype == np.uint8
        assert np.array_equal(arrays["images"], strip)

    for name in ("walk.gif", "walk.webp"):
        assert harness("sample", "latest", *arguments, "--out", name).code == 0
        frames, milliseconds, loop = frames_of(Path(name))
        assert (len(frames), sum(milliseconds), loop) == (16, 16 * 50, 0)
        for index, frame in enumerate(frames):
            assert frame.shape == (64, 604, 3)
            assert np.array_equal(cells(frame[::2, ::2, 1], 1, 10)[0], strip[:, index])
    assert files() == {"samples.png", "walk.png", "walk.npz", "walk.gif", "walk.webp"}


def test_a_walk_closes_without_a_jump(harness: Harness) -> None:
    assert harness(*PLAIN, "--epochs", "1").code == 0
    assert harness("sample", "latest", "--interpolate", "--count", "20", "--out", "walk.npz").code == 0
    with np.load("walk.npz") as arrays:
        images = arrays["images"].astype(float)
    assert images.shape == (20, 64, 28, 28)
    steps = abs(np.diff(images, axis=1, append=images[:, :1])).mean(axis=(0, 2, 3))
    assert steps[-1] < 1.5 * steps[:-1].mean()
    assert steps[:-1].min() > 0


def test_walks_take_count_frames_seed_and_weights(harness: Harness) -> None:
    assert harness(*PLAIN, "--set", "train.ema_half_life=100").code == 0

    def walk(name: str, *options: str) -> bytes:
        said = harness("sample", "latest", "--interpolate", "--out", name, *options)
        assert said.code == 0, said.err
        return Path(name).read_bytes()

    small = ["--count", "3", "--frames", "5"]
    plain = walk("a.png", *small)
    assert size_of(Path("a.png")) == (152, 92)
    assert plain == walk("b.png", *small)
    assert plain != walk("c.png", *small, "--seed", "1")
    assert plain != walk("d.png", *small, "--raw")
    assert plain == walk("e.png", *small, "--weights", "last")
    walk("two.gif", "--count", "1", "--frames", "2")
    assert len(frames_of(Path("two.gif"))[0]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "a.gif"], "only walks move; add --interpolate, or give a name that ends in .png or .npz"),
        (["--out", "a.webp"], "add --interpolate"),
        (["--out", "a.jpg"], "the name must end in .png (a grid) or .npz (an array)"),
        (["--out", "a.mp4", "--interpolate"], "must end in .png (a grid) or .npz (an array), .gif or .webp"),
        (["--out", "a.png", "--frames", "8"], "--frames 8 are those of a walk: add --interpolate"),
        (
            ["--out", "a.png", "--interpolate", "--count", "1000", "--frames", "1001"],
            "--count 1,000 walks of --frames 1,001 are 1,001,000 images; expected at most 1,000,000",
        ),
    ],
)
def test_bad_requests_for_samples_are_one_line(harness: Harness, arguments: list[str], said: str) -> None:
    answer = harness("sample", "latest", *arguments)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert said in answer.err
    assert files() == set()


def test_one_frame_is_no_walk(harness: Harness) -> None:
    answer = harness("sample", "latest", "--out", "a.png", "--interpolate", "--frames", "1")
    assert answer.code == 2
    assert "1 is not in the range x>=2" in answer.err
    assert files() == set()


def test_walks_that_fit_no_file_are_one_line_and_leave_none(harness: Harness) -> None:
    assert harness(*PLAIN, "--epochs", "1").code == 0
    answer = harness("sample", "latest", "--interpolate", "--count", "6000", "--frames", "100", "--out", "a.webp")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "a frame is 302 x 18,002 pixels, and .webp holds 16,383 each way: draw fewer" in answer.err
    Path("file").touch()
    for name in ("file/a.webp", "file/a.png", "/proc/a.gif"):
        answer = harness("sample", "latest", "--interpolate", "--frames", "2", "--out", name)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert f"cannot write {name}" in answer.err
    assert files() == {"file"}
