"""Pictures and animations of what a generator draws: the commands `sample`, `write` and `history`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.api.context import api_context
from harness.api.options import check_range
from harness.api.runs import Run, load_run
from harness.console import to_stderr
from harness.errors import HarnessError
from harness.files import safe_file_name

if TYPE_CHECKING:
    from harness.results.handwriting import Style
    from harness.results.summary import Grid

MAX_IMAGES = 1_000_000
MAX_SCALE = 16
FPS = (0.1, 20)  # epochs per second, at least and at most
# What a file becomes, by the suffix of its name.
SAMPLE_FILES = {".png": "a grid", ".npz": "an array"}
WALK_FILES = SAMPLE_FILES | {".gif": "an animation", ".webp": "an animation"}
HISTORY_FILES = {".webp": "an animation", ".gif": "an animation", ".png": "a sheet"}
HANDWRITING_FILES = {".png": "a picture", ".webp": "an animation", ".gif": "an animation"}

Message = Callable[[str], None]
Weights = Literal["best", "last"]


def save_samples(
    run: Run | str,
    out: str | Path | None = None,
    *,
    count: int = 100,
    digits: str | None = None,
    seed: int = 0,
    weights: Weights = "best",
    raw: bool = False,
    tracking_uri: str | None = None,
    message: Message = to_stderr,
) -> Path:
    """Draw images with the generator of a run, and write them to a file.

    Args:
        run: A `Run`, or what `harness.load_run` takes.
        out: FILE.png, a grid with 10 columns; or FILE.npz with `images`, uint8 [N, H, W], in colour [N, C, H, W].
            None: NAME-samples.png.
        count: Number of images.
        digits: The classes to draw in turn, "7" or "2026". None: all classes in turn.
        seed: Seed of the noise.
        weights: Weights of the best scored epoch or of the last one.
        raw: Use the trained weights instead of their moving average.
        tracking_uri: See `harness.run`.
        message: Receives what the user should know, one line a call.

    Returns:
        The path of the file.

    Raises:
        HarnessError: The file name has another suffix, the run has no checkpoint, or its generator has no such class.
    """
    check_range("count", count, 1, MAX_IMAGES)
    check_range("seed", seed, 0)
    if out is not None:
        _check_suffix(out, SAMPLE_FILES)
    with api_context():
        run = _load(run, tracking_uri)
        from harness.results import sample

        path = _path(out, run, "samples.png")
        sample.write_samples(
            path,
            run.store,
            run.mlflow_run,
            count=count,
            seed=seed,
            digits=digits,
            weights=weights,
            raw=raw,
            message=message,
        )
        return path


def save_walks(
    run: Run | str,
    out: str | Path | None = None,
    *,
    count: int = 10,
    frames: int | None = None,
    seed: int = 0,
    weights: Weights = "best",
    raw: bool = False,
    tracking_uri: str | None = None,
    message: Message = to_stderr,
) -> tuple[Path, int]:
    """Draw walks through latent space that end where they start, and write them to a file.

    Walk i starts at image i of `save_samples` with the same count and seed, and keeps its class.

    Args:
        run: A `Run`, or what `harness.load_run` takes.
        out: FILE.png, one row per walk; FILE.gif or FILE.webp, all walks moving at once; or FILE.npz with `images`,
            uint8 [walks, frames, H, W], in colour [walks, frames, C, H, W]. None: NAME-walk.webp.
        count: Number of walks.
        frames: Number of images per walk. None: 16 in a PNG, else 64.
        seed: Seed of the noise.
        weights: See `save_samples`.
        raw: See `save_samples`.
        tracking_uri: See `harness.run`.
        message: See `save_samples`.

    Returns:
        The path of the file, and the number of images per walk.

    Raises:
        HarnessError: The file name has another suffix, there are too many images, or the run has no checkpoint.
    """
    check_range("count", count, 1, MAX_IMAGES)
    check_range("frames", frames, 2)
    check_range("seed", seed, 0)
    suffix = ".webp" if out is None else _check_suffix(out, WALK_FILES)
    frames = frames or (16 if suffix == ".png" else 64)
    if count * frames > MAX_IMAGES:
        raise HarnessError(
            f"--count {count:,} walks of --frames {frames:,} are {count * frames:,} images; "
            f"expected at most {MAX_IMAGES:,}"
        )
    with api_context():
        run = _load(run, tracking_uri)
        from harness.results import sample

        path = _path(out, run, "walk.webp")
        sample.write_walks(
            path,
            run.store,
            run.mlflow_run,
            count=count,
            frames=frames,
            seed=seed,
            weights=weights,
            raw=raw,
            message=message,
        )
        return path, frames


def save_history(
    run: Run | str,
    out: str | Path | None = None,
    *,
    fps: float | None = None,
    tracking_uri: str | None = None,
    message: Message = to_stderr,
) -> tuple[Path, list[Grid]]:
    """Write the sample grids of a run, epoch by epoch, with epoch and score below them.

    Args:
        run: A `Run`, or what `harness.load_run` takes.
        out: FILE.webp or FILE.gif, an animation of all grids; or FILE.png, a sheet of at most 24. None:
            NAME-history.webp.
        fps: Epochs per second. None: the animation takes 5 to 12 seconds.
        tracking_uri: See `harness.run`.
        message: See `save_samples`.

    Returns:
        The path of the file, and the grids in it.

    Raises:
        HarnessError: The file name has another suffix, or the run has too few grids for an animation.
    """
    check_range("fps", fps, *FPS)
    if out is not None and _check_suffix(out, HISTORY_FILES) == ".png" and fps is not None:
        raise HarnessError(f"--fps {fps:g}: a sheet does not move; leave it out, or give --out FILE.webp or FILE.gif")
    with api_context():
        run = _load(run, tracking_uri)
        from harness.results import sample

        return sample.write_history(
            None if out is None else Path(out), run.store, run.mlflow_run, fps=fps, message=message
        )


def save_handwriting(
    run: Run | str,
    text: str,
    out: str | Path = "written.png",
    *,
    rows: int = 1,
    style: Style = "one",
    paper: bool = False,
    scale: int = 4,
    seed: int = 0,
    weights: Weights = "best",
    raw: bool = False,
    tracking_uri: str | None = None,
    message: Message = to_stderr,
) -> tuple[Path, list[str]]:
    """Write a text with digits that the generator of a run draws.

    Args:
        run: A `Run`, or what `harness.load_run` takes. Its generator must be conditional.
        text: Digits, spaces, `- / . :` and line breaks.
        out: FILE.png, a picture; or FILE.webp or FILE.gif, an animation of a pen.
        rows: Number of copies, each with new noise.
        style: `one` noise vector for all digits of a row, which makes one handwriting; or one for `each` digit.
        paper: Dark on white instead of white on black.
        scale: Scale factor.
        seed: Seed of the noise and of the pen.
        weights: See `save_samples`.
        raw: See `save_samples`.
        tracking_uri: See `harness.run`.
        message: See `save_samples`.

    Returns:
        The path of the file, and the lines of the text.

    Raises:
        HarnessError: The file name has another suffix, the text cannot be written, or the generator is not conditional.
    """
    check_range("rows", rows, 1)
    check_range("scale", scale, 1, MAX_SCALE)
    check_range("seed", seed, 0)
    path = Path(out)
    _check_suffix(path, HANDWRITING_FILES)
    from harness.media.typesetting import check_text

    lines = check_text(path, text, rows, scale)
    with api_context():
        run = _load(run, tracking_uri)
        from harness.results import handwriting

        handwriting.write_handwriting(
            path,
            run.store,
            run.mlflow_run,
            lines,
            seed=seed,
            style=style,
            paper=paper,
            scale=scale,
            weights=weights,
            raw=raw,
            message=message,
        )
        return path, lines[: len(lines) // rows]


def _load(run: Run | str, tracking_uri: str | None) -> Run:
    return load_run(run, tracking_uri=tracking_uri) if isinstance(run, str) else run


def _path(out: str | Path | None, run: Run, default: str) -> Path:
    return Path(f"{safe_file_name(run.name, unique=False)}-{default}") if out is None else Path(out)


def _check_suffix(out: str | Path, kinds: Mapping[str, str]) -> str:
    """Return the suffix of a file name; raise HarnessError if it is none of `kinds`, which say what a file becomes."""
    suffix = Path(out).suffix
    if suffix not in kinds:
        names = {kind: " or ".join(s for s in kinds if kinds[s] == kind) for kind in kinds.values()}
        texts = [f"{suffixes} ({kind})" for kind, suffixes in names.items()]
        expected = (" or " if len(texts) == 2 else ", ").join(texts)
        hint = "; only walks are animated: add --interpolate" if kinds == SAMPLE_FILES and suffix in WALK_FILES else ""
        raise HarnessError(f"--out {out}: the name must end in {expected}{hint}")
    return suffix
