"""The two kinds of networks that the benchmarks train: the notebook's, and the convolutional pair without labels."""

from __future__ import annotations

import torch

from harness import data
from harness import experiment as experiments
from harness.data import Images
from harness.experiment import Experiment

KINDS = {"mlp": "the notebook's networks", "conv": "convolutional pair, width 16, without labels"}
BATCH = {"mlp": 100, "conv": 64}

# What the notebook's way does not do is left out on all sides.
_PLAIN = ("conditional=false", "train.ema_half_life=null", "optimizer.schedule=constant")


def plan(kind: str, device: str, *overrides: str) -> Experiment:
    """In fp32 unless told otherwise, without scores, and longer than any benchmark."""
    fixed = [f"train.device={device}", "train.precision=fp32", "train.epochs=100000"]
    fixed += ["data.validation=0", "track.score_every=null", *_PLAIN]
    return experiments.load({"mlp": "notebook", "conv": "conditional"}[kind], [*fixed, *overrides])


def some_images(count: int) -> Images:
    """The first training images of MNIST; from the start again where more are asked for."""
    images = data.load("mnist").train
    return images.index_select(torch.arange(count) % len(images))
