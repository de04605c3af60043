"""Text in generated handwriting: its digits from the class-conditional generator of a run, set into lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import generate
from harness.gan.randomness import concat_onehot, sample_noise
from harness.media import animations, pictures
from harness.media.typesetting import DIGITS, typeset
from harness.results import load
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run

Style = Literal["one", "each"]

OF_DIGITS = {"mnist", "qmnist", "emnist-mnist", "emnist-digits"}  # the data sets whose classes are the digits 0 to 9
GLYPH_FRAMES = 6  # frames of an animation per sign: 0.3 s


def digits(
    generator: nn.Module, experiment: Experiment, lines: Sequence[Sequence[int]], *, style: Style = "one", seed: int = 0
) -> list[Tensor]:
    """Generate the digits of each line with a class-conditional generator.

    Args:
        generator: The network.
        experiment: Its experiment.
        lines: The digits.
        style: `one`: all digits of a line from one noise vector, which makes them of one hand. `each`: from a noise
            vector of its own.
        seed: Of the noise.

    Returns:
        A tensor for each line, uint8 [n, 28, 28].
    """
    lengths = [len(line) for line in lines]
    latent = experiment.generator.latent
    if style == "one":
        noise = sample_noise(seed, len(lines), latent).repeat_interleave(torch.tensor(lengths), dim=0)
    else:
        noise = sample_noise(seed, sum(lengths), latent)
    labels = torch.tensor([digit for line in lines for digit in line], dtype=torch.int64)
    if not len(labels):
        return [torch.zeros(0, 28, 28, dtype=torch.uint8) for _ in lines]
    images = generate(generator, concat_onehot(noise, labels, len(DIGITS), latent))
    return list(torch.split(images.squeeze(1), lengths))


def writer(
    store: Store,
    run: Run,
    weights: str = "best",
    *,
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> tuple[Experiment, nn.Module]:
    """Load a run's experiment and generator. Raises HarnessError for one that cannot be asked for a digit."""
    experiment, generator, *_ = load.generator(store, run, weights, raw=raw, message=message)
    name = f"run {run.info.run_name} ({run.info.run_id[:8]})"
    if experiment.data.name not in OF_DIGITS:
        raise HarnessError(f"{name} generates {experiment.data.name}, not the digits 0 to 9: write with a run on mnist")
    if not experiment.conditional:
        raise HarnessError(
            f"{name} is unconditional, so it cannot be asked for a digit: train one with conditional: true, "
            "as `harness run` does"
        )
    return experiment, generator


def write_to(
    out: Path,
    store: Store,
    run: Run,
    lines: Sequence[str],
    *,
    seed: int = 0,
    style: Style = "one",
    paper: bool = False,
    scale: int = 4,
    weights: str = "best",
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> None:
    """Write lines of digits and signs, one below the other.

    Args:
        out: A PNG file, or a GIF or WebP in which they appear one by one: 0.3 s a sign, ten seconds at the most, and
            then the whole for two.
        store: The store.
        run: The run whose generator makes the digits.
        lines: The text.
        seed: Of the noise; see also `harness.media.typesetting`.
        style: See `digits`.
        paper: See `harness.media.typesetting`.
        scale: See `harness.media.typesetting`.
        weights: See `load.generator`.
        raw: See `load.generator`.
        message: See `load.generator`.

    Raises:
        HarnessError: The run cannot be asked for a digit, or the file cannot be written.
    """
    experiment, generator = writer(store, run, weights, raw=raw, message=message)
    numbers = [[int(sign) for sign in line if sign in DIGITS] for line in lines]
    lines_of_images = digits(generator, experiment, numbers, style=style, seed=seed)
    drawn = (image for images in lines_of_images for image in images.numpy())
    written = typeset([[next(drawn) if sign in DIGITS else sign for sign in line] for line in lines], scale, seed)
    with pictures.report_write_errors(out, "--out"):
        if out.suffix == ".png":
            pictures.save_png(out, written.picture(paper=paper))
            return
        longest = round((animations.MAX_SECONDS - animations.LAST_FRAME_SECONDS) * animations.MAX_FPS)
        count = min(max(2, GLYPH_FRAMES * len(written.boxes)), longest)
        times = animations.frame_durations(count, animations.MAX_FPS)
        animations.save_animation(out, written.frames(count, paper=paper), times)
