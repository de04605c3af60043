"""What it takes to repeat a run, kept with it: the experiment, the environment, the images, the uncommitted source."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
from collections.abc import Mapping
from functools import cache

import torch

from harness._version import __version__
from harness.experiment import Experiment
from harness.experiment.tags import Tag
from harness.gan import Training
from harness.quality.scoring import Scoring
from harness.results import changes
from harness.tracking import RunLog, run_description
from harness.tracking.git import source_diff


def describe(log: RunLog, training: Training) -> None:
    """Log it all as artifacts, and the training images as the run's dataset."""
    log.describe(training.experiment.description)
    log.text(training.experiment.to_yaml(), "experiment.yaml")
    log.text(environment(), "environment.txt")
    if difference := source_diff():
        log.text(difference, "source.diff")
    keep_sources(log, training.experiment)
    log_images(log, training)


def description(experiment: Experiment, *said: str | None, picture: str | None = None) -> str:
    """What a run's description says: how it ended, what the experiment is, and a picture. All is Markdown.

    said: sentences, those that are missing left out. picture: as `run_description.picture` makes it.
    """
    first = "; ".join(text for text in said if text)
    text = " ".join(
        part for part in (f"**{first[0].upper()}{first[1:]}.**" if first else "", experiment.description) if part
    )
    return "\n\n".join(part for part in (text, picture) if part)


def described(experiment: Experiment, scores: Mapping[str, float]) -> str | None:
    """`test KID 0.0163 ± 0.0023  Frechet 0.53`, of the scores of a run's end; None where it has none."""
    primary = experiment.primary
    split = next(iter(scores), "").partition("/")[0]
    if f"{split}/{primary.key}" not in scores:
        return None
    return f"{split} {primary.format(scores, split)}"


def newest_picture(log: RunLog, *epochs: int) -> str | None:
    """The sample grid of the first of these epochs that the run has one of, as Markdown; None where it has none."""
    for epoch in epochs:
        if log.has_file(path := f"samples/epoch-{epoch:04d}.png"):
            return run_description.picture(log.run_id, path, f"samples of epoch {epoch}")
    return None


def keep_sources(log: RunLog, experiment: Experiment) -> None:
    """Log the files that classes of the user's own stand in: git may not know them."""
    for place, text in set(changes.sources(experiment).values()):
        log.text(text, f"networks/{place}")


def log_images(log: RunLog, training: Training) -> None:
    """Log the training images as the MLflow dataset of the run."""
    images = training.images
    log.dataset(
        name=images.name,
        fingerprint=images.fingerprint,
        context="training",
        size=len(images),
        shape=tuple(images.pixels.shape),
    )


def tags(training: Training, scoring: Scoring | None) -> dict[str, str]:
    """On what, with what, and judged by whom."""
    experiment = training.experiment
    device = experiment.train.device
    return {
        Tag.EXPERIMENT: experiment.name,
        Tag.DEVICE: torch.cuda.get_device_name() if device == "cuda" else device,
        Tag.THREADS: str(torch.get_num_threads()),
        **identity(training, scoring),
        **changes.of_code(experiment),
    }


def identity(training: Training, scoring: Scoring | None) -> dict[str, str]:
    """The tags of its images and of its judge."""
    judged = {**changes.of_images(scoring.splits), Tag.JUDGE: scoring.identity} if scoring else {}
    return {**changes.of_training_images(training.images), **judged}


@cache  # half a second to find out, and the same for every run of a process
def environment() -> str:
    """Versions, one a line, in the form of a requirements file."""
    found = [(dist.metadata["Name"], dist.version) for dist in importlib.metadata.distributions() if dist.metadata]
    packages = sorted({f"{name.lower()}=={version}" for name, version in found if name})
    header = [
        f"# harness {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"# host {socket.gethostname()}, torch built for CUDA {torch.version.cuda or 'no'}",
    ]
    return "\n".join(header + packages) + "\n"
