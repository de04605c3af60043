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
    """torch.export cannot export this custom generator as a model that loads without its source code."""


def save_models(experiment: Experiment, images: data.Images, generator: torch.nn.Module, folder: Path) -> None:
    """Save a generator as the models `generator` and `sampler`.

    Args:
        experiment: The experiment of the generator.
        images: Images with the shape and classes of the training images.
        generator: The network.
        folder: Each model is saved to a subfolder.

    Raises:
        NoModelError: torch.export cannot export the custom generator.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # torch.export prints the programs that it cannot export
            save_generator(generator, sample_inputs(experiment, images, 2).numpy(), folder / "generator")
    except (HarnessError, OSError):
        raise
    except Exception as error:  # torch.export may raise anything
        if ":" not in experiment.generator.kind:
            raise
        raise NoModelError(
            f"torch.export cannot export generator.kind {experiment.generator.kind}: {brief(error)}"
        ) from error
    classes = images.classes if experiment.conditional else 0
    save_sampler(folder / "sampler", folder / "generator", experiment.generator.latent, classes)
