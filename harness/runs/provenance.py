"""Log what is needed to repeat a run: experiment, environment, images, custom code, uncommitted changes."""

from __future__ import annotations

import importlib.metadata
import platform
import secrets
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
from harness.runs.options import RunOptions
from harness.tracking import RunLog, Store, run_description
from harness.tracking.git import source_diff


def start_run(training: Training, scoring: Scoring | None, store: Store, options: RunOptions) -> RunLog:
    """Create the MLflow run of a training, with its params and tags."""
    experiment = training.experiment
    return store.start_run(
        project=experiment.project,
        name=options.name or f"{experiment.name}-{secrets.token_hex(2)}",
        kind=options.kind,
        params=experiment.flatten(),
        tags={**run_tags(training, scoring), **options.tags},
        parent=options.parent,
        note=options.note,
    )


def log_provenance(log: RunLog, training: Training) -> None:
    """Log all of it as artifacts, and the training images as the dataset of the run."""
    log.describe(training.experiment.description)
    log.text(training.experiment.to_yaml(), "experiment.yaml")
    log.text(environment(), "environment.txt")
    if difference := source_diff():
        log.text(difference, "source.diff")
    log_sources(log, training.experiment)
    log_images(log, training)


def format_description(experiment: Experiment, *sentences: str | None, picture: str | None = None) -> str:
    """Return the description of a run in Markdown: how it ended, the description of the experiment, and a picture.

    Args:
        experiment: The experiment.
        sentences: How the run ended. None is left out.
        picture: A picture from `run_description.picture`.
    """
    first = "; ".join(text for text in sentences if text)
    text = " ".join(
        part for part in (f"**{first[0].upper()}{first[1:]}.**" if first else "", experiment.description) if part
    )
    return "\n\n".join(part for part in (text, picture) if part)


def format_scores(experiment: Experiment, scores: Mapping[str, float]) -> str | None:
    """Return final scores as `test KID 0.0163 ± 0.0023  Frechet 0.53`; None if there are none."""
    primary = experiment.primary
    split = next(iter(scores), "").partition("/")[0]
    if f"{split}/{primary.key}" not in scores:
        return None
    return f"{split} {primary.format(scores, split)}"


def grid_markdown(log: RunLog, *epochs: int) -> str | None:
    """Return a sample grid as Markdown: that of the first of these epochs that has one. None: none of them has one."""
    for epoch in epochs:
        if log.has_file(path := f"samples/epoch-{epoch:04d}.png"):
            return run_description.picture(log.run_id, path, f"samples of epoch {epoch}")
    return None


def log_sources(log: RunLog, experiment: Experiment) -> None:
    """Log the source files of custom classes, which may not be in git."""
    for place, text in set(changes.custom_sources(experiment).values()):
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


def run_tags(training: Training, scoring: Scoring | None) -> dict[str, str]:
    """Return the tags of a new run: experiment, device, threads, images, judge, custom code."""
    experiment = training.experiment
    device = experiment.train.device
    return {
        Tag.EXPERIMENT: experiment.name,
        Tag.DEVICE: torch.cuda.get_device_name() if device == "cuda" else device,
        Tag.THREADS: str(torch.get_num_threads()),
        **identity_tags(training, scoring),
        **changes.code_tags(experiment),
    }


def identity_tags(training: Training, scoring: Scoring | None) -> dict[str, str]:
    """Return the tags of the images and of the judge."""
    judged = {**changes.image_tags(scoring.splits), Tag.JUDGE: scoring.identity} if scoring else {}
    return {**changes.training_image_tags(training.images), **judged}


@cache  # takes half a second, and is the same for all runs of a process
def environment() -> str:
    """Return the versions of all packages, in the format of a requirements file."""
    found = [(dist.metadata["Name"], dist.version) for dist in importlib.metadata.distributions() if dist.metadata]
    packages = sorted({f"{name.lower()}=={version}" for name, version in found if name})
    header = [
        f"# harness {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"# host {socket.gethostname()}, torch built for CUDA {torch.version.cuda or 'no'}",
    ]
    return "\n".join(header + packages) + "\n"
