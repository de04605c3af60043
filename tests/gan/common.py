"""What several tests of the core use. Without conftest.py, so that the GPU's tests can have it too."""

from __future__ import annotations

import torch

from harness.gan import Training
from harness.gan.step import StepStats, training_step
from harness.gan.step_noise import StepNoise

CONV = {
    "generator.kind": "conv",
    "discriminator.kind": "conv",
    "generator.width": 4,
    "discriminator.width": 4,
}
# What an experiment may be made of, each part in one of them at least; penalties go without dropout.
RECIPES: dict[str, dict[str, object]] = {
    "smoothed lsgan": {"objective.kind": "lsgan", "objective.label_smoothing": 0.1, "optimizer.schedule": "cosine"},
    "hinge, spectral norm": {**CONV, "objective.kind": "hinge", "discriminator.spectral_norm": True},
    "wgan-gp": {
        "objective.kind": "wasserstein",
        "objective.gradient_penalty": 10.0,
        "train.discriminator_steps": 2,
        "train.ema_half_life": 50.0,
        "discriminator.dropout": 0.0,
    },
    "conditional dragan": {**CONV, "conditional": True, "objective.dragan": 10.0, "discriminator.dropout": 0.0},
    "minimax, r1, spectral norm": {
        "objective.kind": "minimax",
        "objective.r1": 1.0,
        "discriminator.spectral_norm": True,
        "discriminator.dropout": 0.0,
    },
    "r3gan": {
        **CONV,
        "generator.kind": "residual",
        "discriminator.kind": "residual",
        "objective.kind": "relativistic",
        "objective.r1": 0.5,
        "objective.r2": 0.5,
        "conditional": True,
        "train.ema_half_life": 50.0,
        "discriminator.dropout": 0.0,
    },
    "relativistic, dropout": {"objective.kind": "relativistic"},
    "packs": {**CONV, "discriminator.pack": 5},
    "packs, r2": {"discriminator.pack": 2, "objective.r2": 1.0, "discriminator.dropout": 0.0},
    "augmented": {
        **CONV,
        "augment.translation": 0.125,
        "augment.cutout": 0.5,
        "augment.brightness": 0.5,
        "augment.contrast": 0.5,
    },
    "augmented wgan-gp": {
        "objective.kind": "wasserstein",
        "objective.gradient_penalty": 10.0,
        "augment.translation": 0.125,
        "discriminator.dropout": 0.0,
    },
    "own": {
        "generator.kind": "tests.gan.custom_networks:Generator",
        "discriminator.kind": "tests.gan.custom_networks:Discriminator",
    },
    "conditional own, r1": {
        "generator.kind": "tests.gan.custom_networks:Generator",
        "generator.width": 4,
        "discriminator.kind": "tests.gan.custom_networks:Discriminator",
        "discriminator.spectral_norm": True,
        "discriminator.dropout": 0.0,
        "objective.r1": 1.0,
        "conditional": True,
    },
}
EVERYTHING = {
    **CONV,
    "generator.batch_norm": True,
    "conditional": True,
    "optimizer.schedule": "linear",
    "train.ema_half_life": 50.0,
}


def weights(training: Training) -> list[torch.Tensor]:
    """Of both networks, and of the generator that draws."""
    networks = (training.generator, training.discriminator, training.generator_ema)
    return [value for network in networks for value in network.state_dict().values()]


def step_on(training: Training, noise: StepNoise) -> StepStats[torch.Tensor]:
    """The next step of a training, on this noise."""
    training.set_schedule()
    return training_step(training, lambda: noise)
