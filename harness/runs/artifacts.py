"""The files of a run: checkpoints, sample grids, models."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.files import atomic_write
from harness.gan import Training, checkpoints
from harness.gan.checkpoints import Checkpoint
from harness.media import pictures
from harness.quality.scoring import Scoring
from harness.results.export import NoModelError, save_models
from harness.runs.display import Display
from harness.tracking import RunLog

GRID = 100  # images in a sample grid
MODELS = ("generator", "sampler")


@dataclass
class BestEpoch:
    """The best scored epoch so far, its primary score (lower is better) and the weights of its generator.

    `score` and `weights` are None if nothing was scored.
    """

    score: float | None = None
    epoch: int = 0
    weights: Mapping[str, torch.Tensor] | None = None

    @classmethod
    def of(cls, checkpoint: Checkpoint | None) -> BestEpoch:
        """Return the best epoch that a checkpoint holds; without one, nothing was scored."""
        if checkpoint is None:
            return cls()
        state = checkpoint.training
        return cls(checkpoint.score, checkpoint.epoch, state["average"] or state["generator"])

    def update(self, score: float, epoch: int, generator: torch.nn.Module) -> bool:
        """Replace the best epoch if this score is better. NaN is never better. Returns whether it was replaced."""
        if math.isnan(score) or (self.score is not None and score >= self.score):
            return False
        weights = {name: value.detach().cpu().clone() for name, value in generator.state_dict().items()}
        self.score, self.epoch, self.weights = score, epoch, weights
        return True

    def copy_from(self, other: BestEpoch) -> None:
        """Take over the best epoch of another run, whose weights were copied."""
        self.score, self.epoch, self.weights = other.score, other.epoch, other.weights


def save_checkpoint(log: RunLog, training: Training, best: BestEpoch, *, name: str = "last", ship: bool = True) -> None:
    """Save the state of a training as a checkpoint of its run, and log it."""
    threads, empty = torch.get_num_threads(), training.images.empty_like()
    checkpoint = Checkpoint(training.experiment, training.state_dict(), threads, best.score, empty)
    write_checkpoint(log, name, checkpoint, ship=ship)


def write_checkpoint(log: RunLog, name: str, checkpoint: Checkpoint, *, ship: bool = True) -> None:
    """Write a checkpoint of the run, and log it unless `ship` is False.

    A resumed run starts from it and does not log earlier epochs again, so those are written to the disk first.
    """
    path = log.folder / "checkpoints" / f"{name}.pt"
    log.sync_to_disk()
    checkpoints.save(path, checkpoint)
    if ship:
        log.artifact(path, "checkpoints")


def copy_checkpoint(source: RunLog, target: RunLog, name: str) -> None:
    """Copy a checkpoint of one run to another run, if there is one."""
    file = Path("checkpoints") / f"{name}.pt"
    if (source.folder / file).exists():
        with atomic_write(target.folder / file, parents=True, durable=True) as fresh:
            shutil.copyfile(source.folder / file, fresh)
        target.artifact(target.folder / file, "checkpoints")


def log_grids(log: RunLog, training: Training, scoring: Scoring | None, epoch: int) -> pictures.Picture:
    """Log a sample grid, always from the same noise, and a grid of samples with their nearest training images.

    The second grid is left out without `scoring`, or if it does not compare images. Returns the sample grid.
    """
    samples = training.sample(GRID)
    grid = pictures.grid(samples)
    _log_picture(log, "samples", epoch, grid)
    if scoring and not (log.has_image("neighbours", epoch) and log.has_file(_picture_path("neighbours", epoch))):
        nearest = scoring.neighbours(samples)
        if nearest is not None:
            _log_picture(log, "neighbours", epoch, pictures.neighbour_grid(samples, nearest))
    return grid


def _log_picture(log: RunLog, key: str, epoch: int, picture: pictures.Picture) -> None:
    """Log a picture once: as an image with a step, for MLflow's charts, and as a file with a readable name."""
    log.image(key, epoch, picture)
    name = _picture_path(key, epoch)
    if not log.has_file(name):
        pictures.save_png(log.folder / name, picture)
        log.artifact(log.folder / name, key)


def _picture_path(key: str, epoch: int) -> str:
    return f"{key}/epoch-{epoch:04d}.png"


def log_models(log: RunLog, training: Training, generator: torch.nn.Module, epoch: int, display: Display) -> None:
    """Log the generator as the MLflow models `generator` and `sampler`.

    They are logged once for each number of epochs: again when an extended run ends, but not twice after a kill.
    """
    keys = {name: f"{log.harness_id}/{name}/{training.experiment.train.epochs}" for name in MODELS}
    if all(map(log.has_model, keys.values())):
        return
    folder = log.folder / "models"
    try:
        save_models(training.experiment, training.images, generator, folder)
    except NoModelError as error:
        display.message(f"no models are logged, only checkpoints: {error}")
        return
    for name, key in keys.items():
        log.model(name, folder / name, epoch, key)
