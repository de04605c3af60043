"""Export a trained generator as MLflow models: `generator`, the network, and `sampler`, from counts and seeds."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch

from harness import data
from harness.errors import HarnessError, brief
from harness.experiment import Experiment
from harness.gan import sample_inputs
from harness.tracking import save_generator, save_sampler


class NoModelError(HarnessError):
    """A generator that trains and generates, but cannot be exported as a model that loads without its code."""


def save_models(experiment: Experiment, images: data.Images, generator: torch.nn.Module, folder: Path) -> None:
    """Save a generator as the models `generator` and `sampler`.

    Args:
        experiment: The generator's experiment.
        images: Images like those that it was trained on; for their shape and classes.
        generator: The network.
        folder: Where the models go, each in a folder of its own.

    Raises:
        NoModelError: It is a custom generator that torch.export cannot take.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where torch.export tells programs that it cannot take
            save_generator(generator, sample_inputs(experiment, images, 2).numpy(), folder / "generator")
    except (HarnessError, OSError):
        raise
    except Exception as error:  # torch.export may raise anything
        if ":" not in experiment.generator.kind:
            raise
        raise NoModelError(
            f"torch.export cannot take generator.kind {experiment.generator.kind}: {brief(error)}"
        ) from error
    classes = images.classes if experiment.conditional else 0
    save_sampler(folder / "sampler", folder / "generator", experiment.generator.latent, classes)
