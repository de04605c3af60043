"""`sample --interpolate` and `history` as people type them, on real runs; every file is opened again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.media import pictures
from harness.media.pictures import Picture

from ..commands import Harness, Server, client, frames_of, only_run, size_of

PLAIN = ["run", "tiny.yaml", "--no-system-metrics"]
TOLD = ["--set", "generator.kind=conv", "--set", "discriminator.kind=conv", "--set", "conditional=true"]
SCORED = ["--set", "data.validation=100", "--set", "track.score_every=1"]


def read(path: str | Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image)


def cells(picture: Picture, rows: int, columns: int) -> np.ndarray:
    """The digits of a grid: [rows, columns, 28, 28]."""
    assert picture.shape == (rows * 30 + 2, columns * 30 + 2)
    return picture[2:, 2:].reshape(rows, 30, columns, 30).transpose(0, 2, 1, 3)[:, :, :28, :28]


def logged(run_id: str, folder: Path) -> list[Picture]:
    """The sample grids of a run in order of epoch, read back through MLflow."""
    samples = Path(client().download_artifacts(run_id, "samples", str(folder)))
    return [read(path) for path in sorted(samples.iterdir())]


def files() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"mlruns", "tiny.yaml"}


# Samples ---------------------------------------------------------------------------------------------------------


def test_samples_have_a_name_by_default_and_the_digits_that_are_asked_for(harness: Harness) -> None:
    assert harness(*PLAIN, "--epochs", "1", "--set", "conditional=true", "--name", "told").code == 0
    said = harness("sample", "told", "--digits", "70", "--count", "6", "--seed", "5")
    assert (said.code, said.out) == (0, "6 images in told-samples.png\n"), said.err
    picture = cells(read("told-samples.png"), 1, 6)[0]
    run_id = only_run().info.run_id
    import mlflow
    import pandas as pd

    mlflow.set_tracking_uri(f"sqlite:///{Path('mlruns/mlflow.db').absolute()}")
    served = mlflow.pyfunc.load_model(f"runs:/{run_id}/sampler")
    expected = served.predict(pd.DataFrame({"count": [6], "seed": [5], "digits": ["70"]}))
    assert np.array_equal(picture, expected)
    assert harness("sample", "told", "--interpolate", "--count", "1", "--frames", "2").out.endswith("told-walk.webp\n")
    for digits in ("7x", "", "-1", "\u0663"):
        answer = harness("sample", "told", f"--digits={digits}")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "expected some of 0123456789" in answer.err


def test_digits_are_refused_where_the_generator_is_not_told_the_class(harness: Harness) -> None:
    assert harness(*PLAIN, "--epochs", "1", "--name", "plain").code == 0
    answer = harness("sample", "plain", "--digits", "7")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--digits 7: the generator of run plain is unconditional; leave --digits out" in answer.err
    assert files() == set()


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
        (["--out", "a.gif"], ".png (a grid) or .npz (an array); only walks are animated: add --interpolate"),
        (["--out", "a.webp"], "add --interpolate"),
        (["--out", "a.jpg"], "the name must end in .png (a grid) or .npz (an array)"),
        (
            ["--out", "a.mp4", "--interpolate"],
            "must end in .png (a grid), .npz (an array), .gif or .webp (an animation)",
        ),
        (["--digits", "7", "--interpolate"], "--digits 7: --interpolate draws all classes; leave one of the two out"),
        (["--out", "a.png", "--frames", "8"], "--frames 8: use it with --interpolate"),
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
    assert "a frame is 302 x 18,002 pixels, and .webp takes at most 16,383 each way: use fewer images" in answer.err
    Path("file").touch()
    for name in ("file/a.webp", "file/a.png", "/proc/a.gif"):
        answer = harness("sample", "latest", "--interpolate", "--frames", "2", "--out", name)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert f"cannot write {name}" in answer.err
    assert files() == {"file"}


# Histories -------------------------------------------------------------------------------------------------------


def test_a_history_has_every_logged_grid_to_the_pixel(harness: Harness, tmp_path: Path) -> None:
    said = harness(*PLAIN, "--name", "a/b c", "--set", "data.validation=100", "--set", "track.score_every=2")
    assert said.code == 0, said.err
    run = only_run()
    grids = logged(run.info.run_id, tmp_path)
    kid = {point.step: point.value for point in client().get_metric_history(run.info.run_id, "quality/kid")}
    assert sorted(kid) == [2, 3]
    captions = ["epoch 1", f"epoch 2 · validation KID {kid[2]:.4f}", f"epoch 3 · validation KID {kid[3]:.4f}"]
    expected = [pictures.add_caption(grid, [caption]) for grid, caption in zip(grids, captions, strict=True)]

    said = harness("history", "a/b c")
    assert said.code == 0, said.err
    assert (said.out, said.err) == ("3 grids, of epochs 1 to 3, in a_b_c-history.webp\n", "")
    assert harness("history", "latest", "--out", "h.gif", "--fps", "10").code == 0
    for name, times in (("a_b_c-history.webp", [1000, 1000, 3000]), ("h.gif", [100, 100, 2100])):
        frames, milliseconds, loop = frames_of(Path(name))
        assert (milliseconds, loop) == (times, 0)
        for frame, whole, grid in zip(frames, expected, grids, strict=True):
            assert all(np.array_equal(frame[:302, :302, channel], grid) for channel in range(3))
            assert np.array_equal(frame[:, :, 0], whole)

    assert harness("history", "latest", "--out", "h.png").code == 0
    sheet = read("h.png")
    assert sheet.shape == (len(expected[0]) + 40, 3 * 322 + 20)
    for index, whole in enumerate(expected):
        assert np.array_equal(sheet[20:-20, 20 + 322 * index :][:, :302], whole)
    assert files() == {"a_b_c-history.webp", "h.gif", "h.png"}


def test_a_long_history_is_a_sheet_of_24_with_the_first_and_the_last(harness: Harness, tmp_path: Path) -> None:
    assert harness(*PLAIN, "--epochs", "25").code == 0
    grids = logged(only_run().info.run_id, tmp_path)
    said = harness("history", "latest", "--out", "h.png")
    assert said.out == "24 grids, of epochs 1 to 25, in h.png\n"
    sheet = read("h.png")
    height = (len(sheet) - 20) // 4
    assert sheet.shape == (4 * height + 20, 6 * 322 + 20)
    assert np.array_equal(sheet[20:322, 20:322], grids[0])
    assert np.array_equal(sheet[20 + 3 * height :, 20 + 5 * 322 :][:302, :302], grids[-1])
    assert harness("history", "latest").code == 0
    frames, milliseconds, _ = frames_of(next(Path().glob("*-history.webp")))
    assert len(frames) == 25
    assert sum(milliseconds) == 7000


def test_a_history_in_colour_is_exact_as_webp(harness: Harness, tmp_path: Path) -> None:
    assert harness(*PLAIN).code == 0
    run_id = only_run().info.run_id
    colours = np.random.default_rng(0).integers(0, 256, (3, 302, 302, 3), np.uint8)
    for epoch, picture in enumerate(colours, start=1):
        pictures.save_png(tmp_path / f"epoch-{epoch:04d}.png", picture)
        client().log_artifact(run_id, str(tmp_path / f"epoch-{epoch:04d}.png"), "samples")
    for name in ("h.webp", "h.gif", "h.png"):
        assert harness("history", "latest", "--out", name).code == 0
    frames, _, _ = frames_of(Path("h.webp"))
    assert all(np.array_equal(frame[:302], colour) for frame, colour in zip(frames, colours, strict=True))
    assert len(frames_of(Path("h.gif"))[0]) == 3
    assert np.array_equal(read("h.png")[20:322, 20:322], colours[0])


def test_a_run_that_goes_on_shows_what_it_has(harness: Harness) -> None:
    assert harness(*PLAIN, "--name", "going").code == 0
    client().update_run(only_run().info.run_id, status="RUNNING")
    said = harness("history", "going", "--out", "h.gif")
    assert said.code == 0
    assert said.err == "run going is RUNNING: the file shows its history up to epoch 3\n"


def test_replicates_show_their_best_run(harness: Harness, tmp_path: Path) -> None:
    said = harness(*PLAIN, "--name", "several", "--seeds", "2", "--epochs", "2", *SCORED)
    assert said.code == 0, said.err
    assert harness("history", "several", "--out", "h.webp").code == 0
    children = client().search_runs(["1"], "tags.`mlflow.parentRunId` != ''")
    best = min(children, key=lambda run: float(run.data.tags.get("harness.best_kid", "inf")))
    frames, _, _ = frames_of(Path("h.webp"))
    for frame, grid in zip(frames, logged(best.info.run_id, tmp_path), strict=True):
        assert np.array_equal(frame[:302, :, 0], grid)


def test_a_history_is_read_from_a_server(harness: Harness, server: Server) -> None:
    assert harness(*PLAIN, "--epochs", "2", "--name", "far", "--tracking-uri", server.uri).code == 0
    said = harness("history", "far", "--tracking-uri", server.uri)
    assert said.code == 0, said.err
    assert len(frames_of(Path("far-history.webp"))[0]) == 2
    quiet = ["--epochs", "1", "--name", "blind", "--set", "track.samples_every=9"]
    assert harness(*PLAIN, *quiet, "--tracking-uri", server.uri).code == 0
    said = harness("history", "blind", "--tracking-uri", server.uri)
    assert (said.code, said.err.count("\n")) == (2, 1)


def test_runs_without_a_history_are_one_line(harness: Harness) -> None:
    assert harness(*PLAIN, "--epochs", "1", "--name", "short").code == 0
    run_id = only_run().info.run_id
    answer = harness("history", "short")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "run short has one sample grid only, of epoch 1; an animation needs two" in answer.err
    assert files() == set()
    assert harness("history", "short", "--out", "one.png").out == "1 grid, of epoch 1, in one.png\n"

    bare = client().create_run("1", tags={"harness.id": "bare"}, run_name="bare").info.run_id
    answer = harness("history", "bare")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "run bare" in answer.err
    assert "has no sample grids yet" in answer.err
    client().set_terminated(bare)
    assert "has no sample grids;" in harness("history", "bare").err

    (samples,) = Path("mlruns/artifacts").rglob("samples/epoch-0001.png")
    samples.write_bytes(samples.read_bytes()[:300])
    answer = harness("history", "short", "--out", "two.png")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "run short: epoch-0001.png is not a readable image" in answer.err

    client().delete_run(run_id)
    answer = harness("history", run_id)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "is deleted; `MLFLOW_TRACKING_URI=" in answer.err
    assert "mlflow runs restore --run-id" in answer.err
    assert files() == {"one.png"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "h.mp4"], "the name must end in .webp or .gif (an animation) or .png (a sheet)"),
        (["--out", "h.png", "--fps", "5"], "--fps 5: a sheet does not move"),
        ([], "there is no run"),
    ],
)
def test_bad_requests_for_histories_are_one_line(harness: Harness, arguments: list[str], said: str) -> None:
    answer = harness("history", "latest", *arguments)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert said in answer.err
    assert files() == set()
