"""Walks: closed, as normal as the noise they are made of, begun where samples are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness import data
from harness import experiment as experiments
from harness.data import Images
from harness.experiment import Experiment
from harness.gan import generate, latent_walk, sample_inputs
from harness.gan.latent_interpolation import great_circle
from harness.gan.networks import build


def test_a_walk_is_closed_and_passes_its_ends_to_the_bit() -> None:
    start, side = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(great_circle(start, side, 0), start)
    assert torch.equal(great_circle(start, side, 1), start)
    for turn, point in ((0.25, side), (0.5, -start), (0.75, -side)):
        assert torch.allclose(great_circle(start, side, turn), point, atol=1e-6)
    assert torch.allclose(great_circle(start, side, 0.999), start, atol=0.05)


@pytest.mark.parametrize("turn", [0.0, 0.1, 1 / 8, 0.25, 0.4, 0.77])
def test_every_point_of_a_walk_is_standard_normal(turn: float) -> None:
    start, side = torch.randn(2, 20_000, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    point = great_circle(start, side, turn)
    norms = point.square().sum(dim=1)  # chi squared: mean 16, variance 32
    assert norms.mean() == pytest.approx(16, abs=5 * math.sqrt(32 / 20_000))
    assert norms.var() == pytest.approx(32, rel=0.06)
    assert torch.cov(point.T).sub(torch.eye(16)).abs().max() < 0.05
    straight = (1 - turn) * start + turn * side
    if turn in {0.25, 0.4}:
        assert straight.square().sum(dim=1).mean() < 11, "the straight line dips"


def described(tiny: Experiment, conditional: bool) -> Experiment:
    if not conditional:
        return tiny
    kinds = {"generator.kind": "conv", "discriminator.kind": "conv", "conditional": True}
    return experiments.from_yaml("name: told").with_values(kinds)


@pytest.fixture(scope="module")
def digits() -> Images:
    return data.load_split("mnist", "test")


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("count", [1, 3, 10, 11])
def test_walks_begin_at_the_samples_and_keep_their_class(
    tiny: Experiment, digits: Images, conditional: bool, count: int
) -> None:
    experiment = described(tiny, conditional)
    generator = build(experiment, digits)[0]
    seen: list[torch.Tensor] = []

    class Recorded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = generator

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(inputs)
            return self.inner(inputs)  # type: ignore[no-any-return]

    frames = list(latent_walk(Recorded(), experiment, digits, count, 5, seed=3))
    inputs = sample_inputs(experiment, digits, count, seed=3)
    assert len(frames) == len(seen) == 5
    assert torch.equal(seen[0], inputs)
    assert torch.equal(frames[0], generate(generator, inputs))
    latent = experiment.generator.latent
    assert all(torch.equal(step[:, latent:], inputs[:, latent:]) for step in seen)
    assert all(frame.shape == (count, 1, 28, 28) and frame.dtype == torch.uint8 for frame in frames)
    assert len({tuple(step[0].tolist()) for step in seen}) == 5
