"""Commands that make pictures: `sample`, `write` and `history`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from harness.cli.common import code_options, store_at, tracking_uri_option
from harness.errors import HarnessError
from harness.files import safe_file_name

MOST = 1_000_000  # images


@click.command(short_help="Draw images with a run's generator.")
@click.argument("run")
@click.option(
    "--count", type=click.IntRange(1, MOST), help="Number of images or walks.  [default: 100 images or 10 walks]"
)
@click.option("--digits", metavar="DIGITS", help="Draw these digits in turn: 7, or 2026.  [default: all in turn]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="FILE.png or FILE.npz; walks also FILE.gif or FILE.webp.  [default: NAME-samples.png, of walks "
    "NAME-walk.webp]",
)
@click.option("--interpolate", is_flag=True, help="Draw walks through latent space that end where they start.")
@click.option("--frames", type=click.IntRange(2), help="Images per walk.  [default: 16 in a PNG, else 64]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the noise.")
@click.option(
    "--weights", type=click.Choice(["best", "last"]), default="best", show_default=True, help="Epoch of the weights."
)
@click.option("--raw", is_flag=True, help="Use the trained weights instead of their moving average.")
@tracking_uri_option
@code_options
def sample(
    run: str,
    count: int | None,
    digits: str | None,
    out: Path | None,
    interpolate: bool,
    frames: int | None,
    seed: int,
    weights: str,
    raw: bool,
    tracking_uri: str | None,
) -> None:
    """Draw images with the generator of RUN, as a PNG grid or as a NumPy archive.

    An NPZ file holds `images`, uint8: (N, 28, 28), or (N, 3, 28, 28) in colour. A conditional generator draws the
    classes in turn; a grid has one column per class. --digits chooses among the classes.

    With --interpolate, each walk starts at one of these images, returns to it and keeps its class. A PNG has one row
    per walk, a GIF or WebP moves all walks at once, an NPZ holds `images`, uint8 (walks, frames, 28, 28).
    """
    suffixes = {".png", ".npz", ".gif", ".webp"} if interpolate else {".png", ".npz"}
    suffix = (".webp" if interpolate else ".png") if out is None else out.suffix
    if suffix in {".gif", ".webp"} - suffixes:
        raise HarnessError(f"--out {out}: only walks move; add --interpolate, or give a name that ends in .png or .npz")
    if suffix not in suffixes:
        moving = ", .gif or .webp (an animation)" if interpolate else ""
        raise HarnessError(f"--out {out}: the name must end in .png (a grid) or .npz (an array){moving}")
    if frames is not None and not interpolate:
        raise HarnessError(f"--frames {frames} are those of a walk: add --interpolate, or ask for images with --count")
    if digits is not None and interpolate:
        raise HarnessError(f"--digits {digits} are those of images; leave --interpolate out, or --digits")
    count = count or (10 if interpolate else 100)
    frames = frames or (16 if suffix == ".png" else 64)
    if interpolate and count * frames > MOST:
        raise HarnessError(
            f"--count {count:,} walks of --frames {frames:,} are {count * frames:,} images; expected at most {MOST:,}: "
            "ask for fewer"
        )
    store = store_at(tracking_uri)
    from harness.results.sample import sample_to, walk_to

    found = store.find(run)
    if out is None:
        name = safe_file_name(str(found.info.run_name), unique=False)
        out = Path(f"{name}-{'walk.webp' if interpolate else 'samples.png'}")

    def message(text: str) -> None:
        click.echo(text, err=True)

    if interpolate:
        walk_to(out, store, found, count=count, frames=frames, seed=seed, weights=weights, raw=raw, message=message)
        click.echo(f"{count:,} walks of {frames:,} images each in {out}")
    else:
        sample_to(out, store, found, count=count, seed=seed, digits=digits, weights=weights, raw=raw, message=message)
        click.echo(f"{count:,} images in {out}")


@click.command(short_help="Write numbers in generated handwriting.")
@click.argument("run")
@click.argument("text")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("written.png"),
    show_default=True,
    help="FILE.png (a picture), FILE.webp or FILE.gif (an animation).",
)
@click.option(
    "--rows", type=click.IntRange(1), default=1, show_default=True, help="Number of copies, each with new noise."
)
@click.option(
    "--style",
    type=click.Choice(["one", "each"]),
    default="one",
    show_default=True,
    help="One noise vector for all digits of a row (one handwriting), or one for each digit.",
)
@click.option("--paper", is_flag=True, help="Dark on white instead of white on black.")
@click.option("--scale", type=click.IntRange(1, 16), default=4, show_default=True, help="Scale factor.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the noise and of the pen.")
@click.option(
    "--weights", type=click.Choice(["best", "last"]), default="best", show_default=True, help="Epoch of the weights."
)
@click.option("--raw", is_flag=True, help="Use the trained weights instead of their moving average.")
@tracking_uri_option
@code_options
def write(
    run: str,
    text: str,
    out: Path,
    rows: int,
    style: Literal["one", "each"],
    paper: bool,
    scale: int,
    seed: int,
    weights: str,
    raw: bool,
    tracking_uri: str | None,
) -> None:
    """Write TEXT with digits that the generator of RUN draws, as a picture or as an animation of a pen.

    TEXT may have digits, spaces, - / . : and line breaks. The generator of RUN must be conditional, as that of the
    default experiment is. Put -- before a TEXT that begins with a hyphen: harness write RUN -- "-5".
    """
    if out.suffix not in {".png", ".gif", ".webp"}:
        raise HarnessError(f"--out {out}: the name must end in .png, or in .webp or .gif (an animation)")
    from harness.media.typesetting import lines_for

    lines = lines_for(out, text, rows, scale)
    store = store_at(tracking_uri)
    from harness.results import handwriting

    handwriting.write_to(
        out,
        store,
        store.find(run),
        lines,
        seed=seed,
        style=style,
        paper=paper,
        scale=scale,
        weights=weights,
        raw=raw,
        message=lambda text: click.echo(text, err=True),
    )
    once = " / ".join(lines[: len(lines) // rows])
    click.echo(f"{once}{f', {rows} times,' if rows > 1 else ''} in {out}")


@click.command(short_help="Animate a run's sample grids, epoch by epoch.")
@click.argument("run")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="FILE.webp or FILE.gif (an animation), or FILE.png (a sheet).  [default: NAME-history.webp]",
)
@click.option(
    "--fps", type=click.FloatRange(0.1, 20), help="Epochs per second.  [default: the animation takes 5 to 12 s]"
)
@tracking_uri_option
def history(run: str, out: Path | None, fps: float | None, tracking_uri: str | None) -> None:
    """Show the sample grids of RUN, epoch by epoch, with epoch and score (KID) below them.

    All grids are drawn from the same noise. An animation has all grids that were logged and holds the last one for
    two seconds; a sheet has at most 24.
    """
    if out is not None and out.suffix not in {".gif", ".png", ".webp"}:
        raise HarnessError(f"--out {out}: the name must end in .webp or .gif (an animation) or .png (a sheet)")
    if fps is not None and out is not None and out.suffix == ".png":
        raise HarnessError(f"--fps {fps:g}: a sheet does not move; leave it out, or give --out FILE.webp or FILE.gif")
    store = store_at(tracking_uri)
    from harness.results.sample import history_to

    written, grids = history_to(out, store, store.find(run), fps=fps, message=lambda text: click.echo(text, err=True))
    click.echo(f"{len(grids)} grids, of epochs {grids[0].epoch} to {grids[-1].epoch}, in {written}")
