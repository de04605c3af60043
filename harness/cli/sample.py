"""Commands that generate images: `sample`, `write` and `history`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.api.images import FPS, MAX_IMAGES, MAX_SCALE
from harness.cli.options import code_options, tracking_uri_option, weights_options
from harness.errors import HarnessError
from harness.formatting import format_count


@click.command(short_help="Draw images with a run's generator.")
@click.argument("run")
@click.option(
    "--count",
    type=click.IntRange(1, MAX_IMAGES),
    metavar="N",
    help="Number of images or walks.  [default: 100 images or 10 walks]",
)
@click.option("--digits", metavar="DIGITS", help="Draw these digits in turn: 7, or 2026.  [default: all in turn]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="FILE.png or FILE.npz; walks also FILE.gif or FILE.webp.  [default: NAME-samples.png, of walks "
    "NAME-walk.webp]",
)
@click.option("--interpolate", is_flag=True, help="Draw walks through latent space that end where they start.")
@click.option(
    "--frames",
    type=click.IntRange(2),
    metavar="N",
    help="Used with --interpolate: number of images per walk.  [default: 16 in a PNG, else 64]",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Seed of the noise.")
@weights_options
@tracking_uri_option
@code_options
def sample(
    run: str,
    count: int | None,
    digits: str | None,
    out: Path | None,
    interpolate: bool,
    frames: int | None,
    **options: Any,
) -> None:
    """Draw images with the generator of RUN, as a PNG grid or as a NumPy archive.

    An NPZ file holds `images`, uint8: (N, 28, 28), or (N, 3, 28, 28) in colour. A conditional generator draws the
    classes in turn; a grid has one column per class. --digits chooses among the classes.

    With --interpolate, each walk starts at one of these images, returns to it and keeps its class. A PNG has one row
    per walk, a GIF or WebP moves all walks at once, an NPZ holds `images`, uint8 (walks, frames, 28, 28).
    """
    from harness import api

    if interpolate:
        if digits is not None:
            raise HarnessError(f"--digits {digits}: --interpolate draws all classes; leave one of the two out")
        path, frames = api.save_walks(run, out, count=count or 10, frames=frames, **options)
        click.echo(f"{format_count(count or 10, 'walk')} of {frames:,} images each in {path}")
        return
    if frames is not None:
        raise HarnessError(f"--frames {frames}: use it with --interpolate; --count is the number of images")
    path = api.save_samples(run, out, count=count or 100, digits=digits, **options)
    click.echo(f"{format_count(count or 100, 'image')} in {path}")


@click.command(short_help="Write numbers in generated handwriting.")
@click.argument("run")
@click.argument("text")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default=Path("written.png"),
    show_default=True,
    help="FILE.png (a picture), FILE.webp or FILE.gif (an animation).",
)
@click.option(
    "--rows",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Number of copies, each with new noise.",
)
@click.option(
    "--style",
    type=click.Choice(["one", "each"]),
    default="one",
    show_default=True,
    help="One noise vector for all digits of a row (one handwriting), or one for each digit.",
)
@click.option("--paper", is_flag=True, help="Dark on white instead of white on black.")
@click.option(
    "--scale", type=click.IntRange(1, MAX_SCALE), metavar="N", default=4, show_default=True, help="Scale factor."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of the noise and of the pen.",
)
@weights_options
@tracking_uri_option
@code_options
def write(run: str, text: str, out: Path, rows: int, **options: Any) -> None:
    """Write TEXT with digits that the generator of RUN draws, as a picture or as an animation of a pen.

    TEXT may have digits, spaces, - / . : and line breaks. The generator of RUN must be conditional, as that of the
    default experiment is. Put -- before a TEXT that begins with a hyphen: harness write RUN -- "-5".
    """
    from harness import api

    path, lines = api.save_handwriting(run, text, out, rows=rows, **options)
    click.echo(f"{' / '.join(lines)}{f', {rows} times,' if rows > 1 else ''} in {path}")


@click.command(short_help="Animate a run's sample grids, epoch by epoch.")
@click.argument("run")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="FILE.webp or FILE.gif (an animation), or FILE.png (a sheet).  [default: NAME-history.webp]",
)
@click.option(
    "--fps",
    type=click.FloatRange(*FPS),
    metavar="N",
    help="Epochs per second.  [default: the animation takes 5 to 12 s]",
)
@tracking_uri_option
def history(run: str, **options: Any) -> None:
    """Write the sample grids of RUN, epoch by epoch, with epoch and score (KID) below them.

    All grids are drawn from the same noise. An animation has all grids that were logged and shows the last one for
    two seconds; a sheet has at most 24.
    """
    from harness import api

    path, grids = api.save_history(run, **options)
    epochs = f"epochs {grids[0].epoch} to {grids[-1].epoch}" if len(grids) > 1 else f"epoch {grids[0].epoch}"
    click.echo(f"{format_count(len(grids), 'grid')}, of {epochs}, in {path}")
