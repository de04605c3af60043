"""What it takes to repeat a run, kept with it: the experiment, the environment, the images, the uncommitted source."""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import platform
import socket
from functools import cache
from pathlib import Path

import torch

import harness
from harness.experiment import Experiment
from harness.gan import Training
from harness.own import find_module
from harness.scoring import Scoring
from harness.tracking import RunLog
from harness.tracking.git import source_diff


def describe(log: RunLog, training: Training) -> None:
    """Log it all as artifacts, and the training images as the run's dataset."""
    log.text(training.experiment.to_yaml(), "experiment.yaml")
    log.text(environment(), "environment.txt")
    if difference := source_diff():
        log.text(difference, "source.diff")
    for name, source in _own_networks(training.experiment).items():
        log.text(source, f"networks/{name}")
    images = training.images
    log.dataset(
        name=images.name,
        fingerprint=images.fingerprint,
        context="training",
        size=len(images),
        shape=tuple(images.pixels.shape),
    )


def _own_networks(experiment: Experiment) -> dict[str, str]:
    """The modules of networks of the user's own, by file name: git may not know them."""
    found = {}
    for leaf, kind in (
        ("generator.kind", experiment.generator.kind),
        ("discriminator.kind", experiment.discriminator.kind),
    ):
        if ":" in kind:
            with contextlib.suppress(OSError, TypeError, UnicodeDecodeError):  # typed into a notebook, it has no file
                file = Path(inspect.getfile(find_module(kind, leaf)))
                found[file.name] = file.read_text(encoding="utf-8")
    return found


def tags(training: Training, scoring: Scoring | None) -> dict[str, str]:
    """On what, with what, and judged by whom."""
    experiment, images = training.experiment, training.images
    device = experiment.train.device
    return {
        **({"harness.judge": scoring.identity} if scoring else {}),
        "harness.experiment": experiment.name,
        "harness.device": torch.cuda.get_device_name() if device == "cuda" else device,
        "harness.threads": str(torch.get_num_threads()),
        "harness.dataset": f"{images.name} {images.fingerprint}",
    }


@cache  # half a second to find out, and the same for every run of a process
def environment() -> str:
    """Versions, one a line, in the form of a requirements file."""
    found = [(dist.metadata["Name"], dist.version) for dist in importlib.metadata.distributions() if dist.metadata]
    packages = sorted({f"{name.lower()}=={version}" for name, version in found if name})
    header = [
        f"# harness {harness.__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"# host {socket.gethostname()}, torch built for CUDA {torch.version.cuda or 'no'}",
    ]
    return "\n".join(header + packages) + "\n"
