"""Two judges of other shapes and seeds put generators of different quality, close ones too, in the same order."""

from __future__ import annotations

import pytest
import torch

from benchmarks.agreement import agreement
from harness import data
from harness import experiment as experiments
from harness.gan import Training, generate, sample_inputs
from harness.quality import Scorer, load_judge

SAMPLES = 2_000
SHARED = [
    *("conditional=true", "train.batch_size=50", "train.precision=fp32", "train.device=cpu"),
    *("discriminator.dropout=0", "optimizer.betas=[0.5,0.99]"),
]
CONV = [
    *("generator.kind=conv", "discriminator.kind=conv", "generator.width=8", "discriminator.width=8"),
    *("optimizer.lr=2e-3", "train.ema_half_life=5000"),
]
STOPPED = {"conv": (CONV, (1, 2, 3, 4, 5, 7, 9)), "mlp": ([], (2, 4, 6, 8))}  # after which epochs


@pytest.mark.slow
def test_two_judges_order_eleven_generators_alike() -> None:
    splits = data.load("mnist", validation=10_000, subset=5_000)
    drawn: list[torch.Tensor] = []
    for overrides, epochs in STOPPED.values():
        # The notebook's networks, or the convolutional pair, on few images: many qualities in little time.
        plan = experiments.load("notebook", [*SHARED, *overrides, f"train.epochs={epochs[-1]}"])
        training = Training(plan, splits.train)
        for report in training:
            if report.epoch in epochs:
                inputs = sample_inputs(plan, splits.train, SAMPLES, part=2, columns=False)
                drawn.append(generate(training.generator_ema, inputs))
    assert len(drawn) == 11
    scores = {}
    for which in ("first", "second"):
        scorer = Scorer(load_judge(which, splits.train), splits.test, None, samples=SAMPLES)
        scores[which] = [scorer.score(pixels, full=False) for pixels in drawn]
    first, second = scores.values()
    found = agreement(
        [score["kid"] for score in first],
        [score["kid"] for score in second],
        [score["kid_se"] for score in first],
        [score["kid_se"] for score in second],
    )
    assert found.tau >= 0.9, (found, first, second)
    assert found.same >= 40, "most of the 55 pairs must be told apart, or agreeing means little"
