"""Runs read back: their experiment, their checkpoints, their generator, their numbers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from harness import data, formatting
from harness import experiment as experiments
from harness.data import Images
from harness.errors import HarnessError, UnreachableError
from harness.experiment import Experiment, trust
from harness.experiment.custom import SourceCode, use_source_code
from harness.experiment.tags import Tag
from harness.files import safe_file_name
from harness.gan import checkpoints, generate, latent_walk, sample_inputs
from harness.gan.checkpoints import Checkpoint
from harness.gan.networks import build_generator, readable_load_errors
from harness.gan.randomness import concat_onehot, sample_noise
from harness.media import animations, pictures
from harness.results import changes
from harness.results.changes import Recorded
from harness.results.summary import Grid, grids, scratch, single
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run

SHEET, SHEET_COLUMNS = 24, 6  # the most pictures in the sheet of a history, and in one of its rows


def checkpoint(store: Store, run: Run, which: str = "last") -> Checkpoint:
    """A run's checkpoint, `last` or `best`: the local one where the run was made on this host, else the artifact.

    Raises HarnessError where there is none, or where it is damaged, and UnreachableError where that cannot be told.
    """
    tags = run.data.tags
    origin = f"the experiment of run {run.info.run_name} ({run.info.run_id[:8]})"
    local = store.spool / tags.get(Tag.ID, "-") / "checkpoints" / f"{which}.pt"
    if tags.get(Tag.HOST) == socket.gethostname() and local.is_file():
        return checkpoints.load(local, origin)
    with scratch() as folder:
        try:
            path = store.download(run.info.run_id, f"checkpoints/{which}.pt", folder)
        except UnreachableError:
            raise
        except HarnessError as error:
            raise HarnessError(f"run {run.info.run_name} ({run.info.run_id[:8]}) has no {which} checkpoint") from error
        return checkpoints.load(path, origin)


def experiment(store: Store, run: Run) -> Experiment:
    """The resolved experiment that was stored with a run."""
    with scratch() as folder:
        path = store.download(run.info.run_id, "experiment.yaml", folder)
        return experiments.from_store(
            path.read_text(encoding="utf-8"), f"the experiment of run {run.info.run_name} ({run.info.run_id[:8]})"
        )


def recorded(store: Store, run: Run, experiment: Experiment, *, allowed: bool = False) -> Recorded:
    """What the run says that it was trained on and with. allowed: see `Recorded`."""
    what = f"run {run.info.run_name} ({run.info.run_id[:8]})"
    return Recorded(what, dict(run.data.tags), cache(lambda: kept_sources(store, run, experiment)), allowed)


def kept_sources(store: Store, run: Run, experiment: Experiment) -> dict[str, SourceCode]:
    """The sources that the run has kept of the classes that its experiment names, by the leaf that names each."""
    found: dict[str, SourceCode] = {}
    if not experiment.custom_classes:
        return found
    with scratch() as folder:
        try:
            kept = store.download(run.info.run_id, "networks", folder)
        except UnreachableError:
            raise
        except HarnessError:
            return found
        for leaf, name in experiment.custom_classes.items():
            tag = run.data.tags.get(changes.key(leaf), "").rpartition(" ")[0]
            module = name.partition(":")[0].replace(".", "/")
            # Older versions kept each file by its name alone.
            for place in (tag, f"{module}.py", f"{module}/__init__.py", f"{Path(module).name}.py"):
                if place and ".." not in Path(place).parts and (kept / place).is_file():
                    found[leaf] = SourceCode(place, (kept / place).read_text(encoding="utf-8", errors="replace"))
                    break
    return found


@contextmanager
def code_of(store: Store, run: Run, experiment: Experiment) -> Iterator[None]:
    """With `--stored-code`: meanwhile, the classes that the experiment names are made of the sources that the run kept.

    Raises HarnessError where it kept none. Nothing is run here; `trust.check` is asked before any of it is.
    """
    if not trust.get_policy().stored_code or not experiment.custom_classes:
        yield
        return
    kept = kept_sources(store, run, experiment)
    for leaf, name in experiment.custom_classes.items():
        if leaf not in kept:
            raise HarnessError(
                f"run {run.info.run_name} ({run.info.run_id[:8]}) has kept no source of {leaf} {name}: "
                "leave --stored-code out, and the module found here is used"
            )
    with use_source_code({experiment.custom_classes[leaf]: source for leaf, source in kept.items()}):
        yield


class Recalled(NamedTuple):
    """A generator on the CPU, ready to draw; epoch: of its weights; like: see `Checkpoint.empty_images`."""

    experiment: Experiment
    generator: nn.Module
    epoch: int
    like: Images


def generator(
    store: Store,
    run: Run,
    weights: str = "best",
    *,
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> Recalled:
    """A run's generator. The data set need not be here, unless the checkpoint is of a version that did not keep `like`.

    weights: `best` are those of the best scored epoch, or the last where nothing was scored; `last` the last; `end`
    is `best`, but what a run that diverged became: what it was scored as.
    raw: the trained weights also where the experiment keeps their average. notice: told when the source of a generator
    of the user's own is not the one that was trained.
    """
    run = single(store, run)
    if weights == "end" and Tag.DIVERGED in run.data.tags:
        found = checkpoint(store, run, "diverged")
    else:
        found = checkpoint(store, run, "last")
        if weights != "last" and found.score is not None:
            found = checkpoint(store, run, "best")
    described = found.experiment
    like = found.empty_images
    if like is None:
        like = data.load_split(split="test", **described.data.source_options()).empty_like()
    averaged = None if raw else found.training["average"]
    with code_of(store, run, described):
        line = recorded(store, run, described).code_line(described, ("generator.kind",))
        try:
            drawer = network(described, like, averaged or found.training["generator"])
        except HarnessError as error:
            raise HarnessError(f"{line}: {error}" if line else str(error)) from error
    if line:
        message(f"{line}; drawn with the source found here")
    return Recalled(described, drawer, found.epoch, like)


def network(described: Experiment, images: Images, weights: Mapping[str, Tensor]) -> nn.Module:
    """A generator of the experiment for images like these, with these weights, on the CPU, ready to draw.

    Raises HarnessError where they do not fit.
    """
    built = build_generator(described, images)
    with readable_load_errors("the weights of the generator"):
        built.load_state_dict(weights)
    return built.eval()


def draw(
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
    """Draw images uint8 [count, C, H, W] with a run's generator. weights, raw, notice: see `generator`.

    digits: the classes to draw in turn; None for all of them. Raises HarnessError where the generator has no such
    class, or is not conditional.
    """
    described, drawer, _, like = generator(store, run, weights, raw=raw, message=message)
    if digits is None:
        inputs = sample_inputs(described, like, count, seed=seed)
    else:
        inputs = _inputs_of(digits, described, like, count, seed, run)
    return generate(drawer, inputs)


def sample_to(
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
    """Write what `draw` draws to a PNG grid, or as `images` uint8 [N, H, W] (grey) or [N, C, H, W] to an NPZ file."""
    images = draw(store, run, count=count, seed=seed, digits=digits, weights=weights, raw=raw, message=message)
    with pictures.report_write_errors(out, "--out"):
        if out.suffix == ".png":
            pictures.save_png(out, pictures.grid(images))
        else:
            pictures.save_npz(out, images.squeeze(1) if images.shape[1] == 1 else images)


def _inputs_of(digits: str, described: Experiment, like: Images, count: int, seed: int, run: Run) -> Tensor:
    """Inputs [count, latent + classes] of a generator, for these digits in turn."""
    if not described.conditional or not like.classes:
        raise HarnessError(
            f"--digits {digits}: the generator of run {run.info.run_name} is not told the class; leave --digits out"
        )
    known = "".join(str(number) for number in range(min(like.classes, 10)))
    if not digits or not set(digits) <= set(known):
        raise HarnessError(f"--digits {digits!r}: expected some of {known}")
    turn = torch.tensor([int(digit) for digit in digits])
    latent = described.generator.latent
    return concat_onehot(sample_noise(seed, count, latent), turn[torch.arange(count) % len(turn)], like.classes, latent)


def walk_to(
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
    """Write `count` closed walks through latent space, begun where `sample_to` would draw with the same count and seed.

    A PNG has a row a walk and a column a frame, a GIF or WebP all walks moving at once, 20 frames a second. An NPZ file
    has `images` uint8 [count, frames, H, W] (grey) or [count, frames, C, H, W].
    """
    described, drawer, _, like = generator(store, run, weights, raw=raw, message=message)
    steps = latent_walk(drawer, described, like, count, frames, seed=seed)
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


def history_to(
    out: Path | None, store: Store, run: Run, *, fps: float | None = None, message: Callable[[str], None]
) -> tuple[Path, list[Grid]]:
    """Write a run's sample grids, captioned with epoch and score: a GIF or WebP of all, or a PNG sheet of at most 24.

    out: else NAME-history.webp in the working directory. fps: see `animations.frame_durations`. `message` is given one
    line when the run is still going. Returns the file and what is in it. Raises HarnessError where there is nothing to
    move.
    """
    run = single(store, run)
    name = run.info.run_name
    out = out or Path(f"{safe_file_name(name, unique=False)}-history.webp")
    history = grids(store, run)
    if out.suffix == ".png":
        history = [history[index] for index in animations.evenly_spaced(len(history), SHEET)]
    elif len(history) < 2:
        longer = formatting.harness_command("run", resume=run.info.run_id[:8], epochs="N", store=store.uri)
        raise HarnessError(
            f"run {name} has one sample grid only, of epoch {history[0].epoch}, and an animation needs two: draw it "
            f"with --out FILE.png, or train on with `{longer}`"
        )
    if run.info.status == "RUNNING":
        message(f"run {name} is RUNNING: this is its history up to epoch {history[-1].epoch}")
    with pictures.report_write_errors(out, "--out"):
        if out.suffix == ".png":
            columns = -(-len(history) // -(-len(history) // SHEET_COLUMNS))  # rows of about the same length
            sheet = pictures.contact_sheet([(grid.picture, grid.caption) for grid in history], columns)
            pictures.save_png(out, sheet)
        else:
            frames = (pictures.add_caption(grid.picture, grid.caption) for grid in history)
            animations.save_animation(out, frames, animations.frame_durations(len(history), fps))
    return out, history
