"""Commands that make pictures: `sample`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import store_at, tracking_uri_option
from harness.errors import HarnessError


@click.command(short_help="Draw images with a run's generator.")
@click.argument("run")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="How many images.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.png (a grid) or FILE.npz.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the noise.")
@click.option("--weights", type=click.Choice(["best", "last"]), default="best", show_default=True)
@click.option("--raw", is_flag=True, help="The trained weights also where the experiment keeps their average.")
@tracking_uri_option
def sample(run: str, count: int, out: Path, seed: int, weights: str, raw: bool, tracking_uri: str | None) -> None:
    """Draw images with the generator of RUN: a PNG grid, or an NPZ with `images` uint8 (N, 28, 28).

    A conditional generator draws the classes in turn: in a grid, one a column.
    """
    if out.suffix not in {".png", ".npz"}:
        raise HarnessError(f"--out {out}: the name must end in .png (a grid) or .npz (an array)")
    store = store_at(tracking_uri)
    from harness import recall

    recall.sample_to(out, store, store.find(run), count=count, seed=seed, weights=weights, raw=raw)
    click.echo(f"{count:,} images in {out}")
