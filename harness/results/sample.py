"""Write images of a run to files: samples, walks through latent space, and the history of its sample grids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness import formatting
from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.files import safe_file_name
from harness.gan import generate, latent_walk, sample_inputs
from harness.gan.randomness import sample_noise
from harness.gan.step_noise import concat_onehot
from harness.media import animations, pictures
from harness.results import load
from harness.results.summary import Grid, load_grids, resolve_run
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run

SHEET_GRIDS, SHEET_COLUMNS = 24, 6  # maximum number of grids in the sheet of a history, and in one of its rows


def sample_images(
    store: Store,
    run: Run,
    *,
    count: int,
    seed: int,
    digits: str | None = None,
    weights: str = "best",
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> Tensor:
    """Generate images with a run's generator.

    Args:
        store: The store.
        run: The run.
        count: Number of images.
        seed: Seed of the noise.
        digits: The classes to draw in turn. None: all classes.
        weights: See `load.generator`.
        raw: See `load.generator`.
        message: See `load.generator`.

    Returns:
        uint8 [count, C, H, W].

    Raises:
        HarnessError: The generator has no such class, or is not conditional.
    """
    experiment, generator, _, shape = load.generator(store, run, weights, raw=raw, message=message)
    if digits is None:
        inputs = sample_inputs(experiment, shape, count, seed=seed)
    else:
        inputs = _digit_inputs(digits, experiment, shape, count, seed, run)
    return generate(generator, inputs)


def write_samples(
    out: Path,
    store: Store,
    run: Run,
    *,
    count: int,
    seed: int,
    digits: str | None = None,
    weights: str = "best",
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> None:
    """Write images of a run's generator to a file.

    Args:
        out: A PNG file with a grid, or an NPZ file with `images`, uint8 [N, H, W] (grey) or [N, C, H, W].
        store: The store.
        run: The run.
        count: Number of images.
        seed: Seed of the noise.
        digits: The classes to draw in turn. None: all classes.
        weights: See `load.generator`.
        raw: See `load.generator`.
        message: See `load.generator`.

    Raises:
        HarnessError: As `sample_images`, or the file cannot be written.
    """
    images = sample_images(store, run, count=count, seed=seed, digits=digits, weights=weights, raw=raw, message=message)
    with pictures.report_write_errors(out, "--out"):
        if out.suffix == ".png":
            pictures.save_png(out, pictures.grid(images))
        else:
            pictures.save_npz(out, images.squeeze(1) if images.shape[1] == 1 else images)


def _digit_inputs(digits: str, experiment: Experiment, images: Images, count: int, seed: int, run: Run) -> Tensor:
    """Return inputs [count, latent + classes] of a generator, for these digits in turn."""
    if not experiment.conditional or not images.classes:
        raise HarnessError(
            f"--digits {digits}: the generator of run {run.info.run_name} is unconditional; leave --digits out"
        )
    allowed = "".join(str(number) for number in range(min(images.classes, 10)))
    if not digits or not set(digits) <= set(allowed):
        raise HarnessError(f"--digits {digits!r}: expected some of {allowed}")
    cycle = torch.tensor([int(digit) for digit in digits])
    latent = experiment.generator.latent
    return concat_onehot(
        sample_noise(seed, count, latent), cycle[torch.arange(count) % len(cycle)], images.classes, latent
    )


def write_walks(
    out: Path,
    store: Store,
    run: Run,
    *,
    count: int,
    frames: int,
    seed: int,
    weights: str = "best",
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> None:
    """Write closed walks through latent space. They start at the images of `write_samples` of the same count and seed.

    Args:
        out: A PNG file with a row for each walk and a column for each frame; a GIF or WebP with all walks side by side,
            at 20 frames per second; or an NPZ file with `images`, uint8 [count, frames, H, W] (grey) or
            [count, frames, C, H, W].
        store: The store.
        run: The run.
        count: Number of walks.
        frames: Number of images per walk.
        seed: Seed of the noise.
        weights: See `load.generator`.
        raw: See `load.generator`.
        message: See `load.generator`.

    Raises:
        HarnessError: As `load.generator`, or the file cannot be written.
    """
    experiment, generator, _, shape = load.generator(store, run, weights, raw=raw, message=message)
    steps = latent_walk(generator, experiment, shape, count, frames, seed=seed)
    with pictures.report_write_errors(out, "--out"):
        if out.suffix in animations.SUFFIXES:
            moving = animations.magnify(pictures.grid(step) for step in steps)
            animations.save_animation(out, moving, 1000 // animations.MAX_FPS)
            return
        images = torch.stack(list(steps), dim=1)
        if out.suffix == ".png":
            pictures.save_png(out, pictures.grid(images.flatten(0, 1), columns=frames))
        else:
            pictures.save_npz(out, images.squeeze(2) if images.shape[2] == 1 else images)


def write_history(
    out: Path | None, store: Store, run: Run, *, fps: float | None = None, message: Callable[[str], None]
) -> tuple[Path, list[Grid]]:
    """Write the sample grids of a run, each with its epoch and score.

    Args:
        out: A GIF or WebP with all grids, or a PNG file, a sheet of at most 24. None: NAME-history.webp in the working
            directory.
        store: The store.
        run: The run.
        fps: See `animations.frame_durations`.
        message: Receives one line if the run is RUNNING.

    Returns:
        The path of the file, and the grids in it.

    Raises:
        HarnessError: The run has too few grids, or the file cannot be written.
    """
    run = resolve_run(store, run)
    name = run.info.run_name
    out = out or Path(f"{safe_file_name(name, unique=False)}-history.webp")
    history = load_grids(store, run)
    if out.suffix == ".png":
        history = [history[index] for index in animations.evenly_spaced(len(history), SHEET_GRIDS)]
    elif len(history) < 2:
        longer = formatting.harness_command("run", resume=run.info.run_id[:8], epochs="N", store=store.uri)
        raise HarnessError(
            f"run {name} has one sample grid only, of epoch {history[0].epoch}; an animation needs two: use --out "
            f"FILE.png, or train more epochs with `{longer}`"
        )
    if run.info.status == "RUNNING":
        message(f"run {name} is RUNNING: the file shows its history up to epoch {history[-1].epoch}")
    with pictures.report_write_errors(out, "--out"):
        if out.suffix == ".png":
            columns = -(-len(history) // -(-len(history) // SHEET_COLUMNS))  # rows of about the same length
            sheet = pictures.contact_sheet([(grid.picture, grid.caption) for grid in history], columns)
            pictures.save_png(out, sheet)
        else:
            frames = (pictures.add_caption(grid.picture, grid.caption) for grid in history)
            animations.save_animation(out, frames, animations.frame_durations(len(history), fps))
    return out, history
