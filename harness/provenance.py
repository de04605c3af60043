"""What it takes to repeat a run, kept with it: the experiment, the environment, the images, the uncommitted source."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
from functools import cache

import torch

from harness import changes
from harness._version import __version__
from harness.experiment import Experiment
from harness.gan import Training
from harness.scoring import Scoring
from harness.tracking import RunLog
from harness.tracking.git import source_diff


def describe(log: RunLog, training: Training) -> None:
    """Log it all as artifacts, and the training images as the run's dataset."""
    log.text(training.experiment.to_yaml(), "experiment.yaml")
    log.text(environment(), "environment.txt")
    if difference := source_diff():
        log.text(difference, "source.diff")
    keep_sources(log, training.experiment)
    log_images(log, training)


def keep_sources(log: RunLog, experiment: Experiment) -> None:
    """Log the files that classes of the user's own stand in: git may not know them."""
    for place, text in set(changes.sources(experiment).values()):
        log.text(text, f"networks/{place}")


def log_images(log: RunLog, training: Training) -> None:
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
        "harness.experiment": experiment.name,
        "harness.device": torch.cuda.get_device_name() if device == "cuda" else device,
        "harness.threads": str(torch.get_num_threads()),
        **identity(training, scoring),
        **changes.of_code(experiment),
    }


def identity(training: Training, scoring: Scoring | None) -> dict[str, str]:
    """The tags of its images and of its judge."""
    judged = {**changes.of_images(scoring.splits), changes.JUDGE: scoring.identity} if scoring else {}
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
