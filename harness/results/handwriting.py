"""Text in generated handwriting: digits from the class-conditional generator of a run, typeset in lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import generate
from harness.gan.randomness import sample_noise
from harness.gan.step_noise import concat_onehot
from harness.media import animations, pictures
from harness.media.typesetting import DIGITS, typeset
from harness.results import load
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run

Style = Literal["one", "each"]

DIGIT_DATASETS = {"mnist", "qmnist", "emnist-mnist", "emnist-digits"}  # their classes are the digits 0 to 9
GLYPH_FRAMES = 6  # frames of an animation per character: 0.3 s


def generate_digits(
    generator: nn.Module, experiment: Experiment, lines: Sequence[Sequence[int]], *, style: Style = "one", seed: int = 0
) -> list[Tensor]:
    """Generate the digits of each line with a class-conditional generator.

    Args:
        generator: The network.
        experiment: Its experiment.
        lines: The digits.
        style: `one`: one noise vector for all digits of a line, which gives them one handwriting. `each`: one noise
            vector for each digit.
        seed: Seed of the noise.

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


def load_digit_generator(
    store: Store,
    run: Run,
    weights: str = "best",
    *,
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> tuple[Experiment, nn.Module]:
    """Load the experiment and the generator of a run. Raises HarnessError if it does not generate digits by class."""
    experiment, generator, *_ = load.generator(store, run, weights, raw=raw, message=message)
    name = f"run {run.info.run_name} ({run.info.run_id[:8]})"
    if experiment.data.name not in DIGIT_DATASETS:
        raise HarnessError(f"{name} generates {experiment.data.name}, not the digits 0 to 9: use a run on mnist")
    if not experiment.conditional:
        raise HarnessError(
            f"{name} is unconditional, so the class of its digits cannot be chosen: train one with conditional: true, "
            "as `harness run` does"
        )
    return experiment, generator


def write_handwriting(
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
    """Write lines of digits and punctuation marks to a file.

    Args:
        out: A PNG file, or a GIF or WebP in which the text is written at 0.3 s per character, in ten seconds or less.
            The complete text is then shown for two seconds.
        store: The store.
        run: The run whose generator is used.
        lines: The text.
        seed: Seed of the noise and of the typesetting.
        style: See `generate_digits`.
        paper: See `harness.media.typesetting`.
        scale: See `harness.media.typesetting`.
        weights: See `load.generator`.
        raw: See `load.generator`.
        message: See `load.generator`.

    Raises:
        HarnessError: The run does not generate digits by class, or the file cannot be written.
    """
    experiment, generator = load_digit_generator(store, run, weights, raw=raw, message=message)
    numbers = [[int(character) for character in line if character in DIGITS] for line in lines]
    lines_of_images = generate_digits(generator, experiment, numbers, style=style, seed=seed)
    images = (image for line in lines_of_images for image in line.numpy())
    glyphs = [[next(images) if character in DIGITS else character for character in line] for line in lines]
    page = typeset(glyphs, scale, seed)
    with pictures.report_write_errors(out, "--out"):
        if out.suffix == ".png":
            pictures.save_png(out, page.picture(paper=paper))
            return
        longest = round((animations.MAX_SECONDS - animations.LAST_FRAME_SECONDS) * animations.MAX_FPS)
        count = min(max(2, GLYPH_FRAMES * len(page.boxes)), longest)
        times = animations.frame_durations(count, animations.MAX_FPS)
        animations.save_animation(out, page.frames(count, paper=paper), times)
