"""Animations: opened again they have every frame, its pixels and its time, and loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.media import animations
from harness.media.pictures import Picture

from ..commands import frames_of


def noise(count: int, *shape: int) -> list[Picture]:
    return list(np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8))


@pytest.mark.parametrize("suffix", animations.SUFFIXES)
def test_grey_frames_come_back_to_the_bit(tmp_path: Path, suffix: str) -> None:
    frames = noise(7, 40, 60)
    frames[3] = frames[2].copy()
    frames[3][5:9, 5:9] = 0  # little changes: encoders then store a part of the frame
    path = tmp_path / "new" / f"a{suffix}"
    animations.save_animation(path, frames, [50, 100, 150, 200, 250, 300, 2000])
    read, milliseconds, loop = frames_of(path)
    assert loop == 0
    assert milliseconds == [50, 100, 150, 200, 250, 300, 2000]
    for frame, back in zip(frames, read, strict=True):
        assert np.array_equal(back, np.repeat(frame[:, :, None], 3, axis=2))
    assert list(path.parent.iterdir()) == [path]


def test_colour_frames_come_back_exactly_as_webp_and_nearly_as_gif(tmp_path: Path) -> None:
    steps = np.linspace(0, 255, 40).astype(np.uint8)
    base = np.stack([*np.meshgrid(steps, steps), np.full((40, 40), 90, np.uint8)], axis=2)
    frames = [np.roll(base, shift, axis=1) for shift in range(4)]
    for suffix, furthest in ((".webp", 0), (".gif", 40)):
        animations.save_animation(tmp_path / f"a{suffix}", frames, 100)
        read, milliseconds, loop = frames_of(tmp_path / f"a{suffix}")
        assert (milliseconds, loop) == ([100] * 4, 0)
        for frame, back in zip(frames, read, strict=True):
            assert abs(back.astype(int) - frame).max() <= furthest


@pytest.mark.parametrize("suffix", animations.SUFFIXES)
def test_a_gif_of_few_colours_keeps_them(tmp_path: Path, suffix: str) -> None:
    palette = noise(1, 200, 3)[0]
    frames = [palette[picture % 200] for picture in noise(3, 30, 30)]
    animations.save_animation(tmp_path / f"a{suffix}", frames, 100)
    for frame, back in zip(frames, frames_of(tmp_path / f"a{suffix}")[0], strict=True):
        assert np.array_equal(frame, back)


@pytest.mark.parametrize(("suffix", "rows"), [(".gif", 65_536), (".webp", 16_384)])
def test_frames_too_large_for_the_format_are_refused_before_the_second(tmp_path: Path, suffix: str, rows: int) -> None:
    def frames() -> Iterator[Picture]:
        yield np.zeros((rows, 2), np.uint8)
        raise AssertionError("a second frame was asked for")

    with pytest.raises(HarnessError, match=f"a frame is 2 x {rows:,} pixels, and {suffix} takes at most {rows - 1:,}"):
        animations.save_animation(tmp_path / f"a{suffix}", frames(), 50)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", animations.SUFFIXES)
def test_an_animation_that_fails_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    def frames() -> Iterator[Picture]:
        yield from noise(2, 8, 8)
        raise RuntimeError("no more")

    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no more"):
        animations.save_animation(path, frames(), 50)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_small_pictures_are_magnified_by_whole_factors() -> None:
    (small,) = noise(1, 32, 302)
    (large,) = animations.magnify([small])
    assert large.shape == (64, 604)
    assert all(np.array_equal(large[row::2, column::2], small) for row in (0, 1) for column in (0, 1))
    (same,) = animations.magnify(noise(1, 700, 20, 3))
    assert same.shape == (700, 20, 3)


@pytest.mark.parametrize("count", [2, 3, 5, 12, 13, 20, 50, 51, 100, 200])
def test_a_history_takes_five_to_twelve_seconds_and_holds_its_last_frame(count: int) -> None:
    milliseconds = animations.frame_durations(count)
    assert len(milliseconds) == count
    assert 4_900 <= sum(milliseconds) <= 12_500
    assert milliseconds[-1] - milliseconds[0] == 2_000
    assert len(set(milliseconds[:-1])) == 1
    assert milliseconds[0] >= 50
    assert all(value % 10 == 0 for value in milliseconds)


def test_a_history_is_never_faster_than_twenty_frames_a_second() -> None:
    assert animations.frame_durations(1000)[0] == 50
    assert animations.frame_durations(4, fps=20) == [50, 50, 50, 2050]
    assert animations.frame_durations(3, fps=2) == [500, 500, 2500]


@pytest.mark.parametrize(("count", "most"), [(1, 24), (24, 24), (25, 24), (48, 24), (500, 24), (3, 2)])
def test_the_first_and_the_last_are_among_those_chosen_evenly(count: int, most: int) -> None:
    chosen = animations.evenly_spaced(count, most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    steps = np.diff(chosen)
    assert not len(steps) or steps.max() - steps.min() <= 1


@pytest.mark.parametrize("suffix", animations.SUFFIXES)
def test_frames_that_do_not_differ_lose_no_time(tmp_path: Path, suffix: str) -> None:
    first, second = noise(2, 8, 8)
    animations.save_animation(tmp_path / f"a{suffix}", [first, first, second, second], [100, 200, 300, 2000])
    read, milliseconds, _ = frames_of(tmp_path / f"a{suffix}")
    assert sum(milliseconds) == 2600
    assert np.array_equal(read[0][:, :, 0], first)
    assert np.array_equal(read[-1][:, :, 0], second)
