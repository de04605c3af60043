"""Spectral normalisation: against the singular values, its gradient, its vectors when resumed and in populations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness import data
from harness.data import Images
from harness.experiment import Experiment
from harness.gan import BatchedTraining, Training
from harness.gan.networks import build
from harness.gan.networks.spectral import SpectralNorm, SpectralNorms, apply_spectral_norm

from ..common import weights

NORMED = {"discriminator.spectral_norm": True, "objective.kind": "hinge"}


@pytest.fixture
def images() -> Images:
    return data.load("mnist", subset=60).train


def largest(weight: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(weight.flatten(1))
    return values[0]


def normed(seed: int = 0) -> nn.Sequential:
    """A network with a weight of two dimensions, one of four, and vectors, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5)).double()
        apply_spectral_norm(network)
    return network


def weight_of(layer: nn.Module) -> Tensor:
    """The weight as the layer uses it: normalised."""
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def test_every_matrix_at_any_depth_comes_out_with_the_largest_singular_value_one() -> None:
    inner = normed()
    network = nn.Sequential(inner)
    iterations = SpectralNorms(network)
    for _ in range(1000):
        iterations.power_iteration()
    conv, norm, _, linear = inner
    for layer in (conv, linear):
        weight, original = weight_of(layer), layer.get_parameter("parametrizations.weight.original")
        assert largest(weight).item() == pytest.approx(1, abs=1e-9)
        assert torch.allclose(weight, original / largest(original), rtol=1e-9)
    assert not hasattr(norm, "parametrizations")
    assert [name for name, _ in network.named_buffers() if name.endswith("u")] == [
        "0.0.parametrizations.weight.0.u",
        "0.3.parametrizations.weight.0.u",
    ]


def test_fifteen_iterations_at_first_are_near() -> None:
    assert 1 <= largest(weight_of(normed()[3])).item() < 1.1, "the estimate never exceeds the largest singular value"


def test_a_forward_pass_changes_nothing() -> None:
    network = normed()
    pixels = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = network(pixels), network(pixels)
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    SpectralNorms(network).power_iteration()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"{index}.parametrizations.weight.0.u" for index in (0, 3)}


def test_an_iteration_is_that_of_the_power_method() -> None:
    weight = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectral = SpectralNorm(weight).double()
    left = spectral.u.clone()
    expected = weight @ (weight.T @ left)
    spectral.power_iteration(weight)
    assert torch.allclose(spectral.u, expected / expected.norm())


@pytest.mark.parametrize("shape", [(4, 6), (3, 2, 3, 3)])
def test_the_gradient_matches_finite_differences_wherever_the_vectors_are(shape: tuple[int, ...]) -> None:
    """Also before they have settled: sigma = |W' left| for the left that is kept."""
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64, generator=random, requires_grad=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spectral = SpectralNorm(weight.detach()).double()
    spectral.u.copy_(nn.functional.normalize(torch.randn(shape[0], dtype=torch.float64, generator=random), dim=0))
    assert torch.autograd.gradcheck(spectral, weight)


def test_the_discriminator_alone_is_normalised_and_iterates_after_its_update(tiny: Experiment, images: Images) -> None:
    training = Training(tiny.with_values(NORMED), images)
    assert not any(name.endswith(".u") for name in training.generator.state_dict())
    lefts = [value for name, value in training.discriminator.named_buffers() if name.endswith("u")]
    assert len(lefts) == 3
    before = [left.clone() for left in lefts]
    calls = []
    power_iteration = training.spectral_norms.power_iteration
    training.spectral_norms.power_iteration = lambda: (calls.append(1), power_iteration())  # type: ignore[method-assign,func-returns-value,assignment]
    training.train_epoch()
    assert len(calls) == training.steps_per_epoch
    moved = [not torch.equal(left, old) for left, old in zip(lefts, before, strict=True)]
    assert moved == [True, True, False], "the last weight has one row, and so one left vector"
    for _, weight in training.discriminator.named_parameters():
        assert weight.grad is not None


def test_the_norm_is_settled_from_the_seed_and_bounds_the_slope(tiny: Experiment, images: Images) -> None:
    """LeakyReLUs between matrices of norm 1: D's slope is at most the product, a little more while they settle."""
    plan = tiny.with_values({**NORMED, "discriminator.dropout": 0})
    (_, first), (_, second) = build(plan, images), build(plan, images)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    pixels = torch.randn(20, 1, 28, 28, requires_grad=True)
    (input_gradients,) = torch.autograd.grad(first(pixels).sum(), pixels)
    assert input_gradients.flatten(1).norm(dim=1).max() < 1.2


@pytest.mark.parametrize("penalties", [{}, {"discriminator.dropout": 0, "objective.r1": 0.5}], ids=["plain", "r1"])
def test_a_resumed_training_ends_with_the_same_bits(
    tiny: Experiment, images: Images, penalties: dict[str, object]
) -> None:
    """The vectors are in the state; the seed alone would not give them back."""
    plan = tiny.with_values({**NORMED, **penalties})
    alone, first, second = (Training(plan, images) for _ in range(3))
    list(alone)
    first.train_epoch()
    state = first.state_dict()
    assert any(name.endswith(".u") for name in state["discriminator"])
    second.load_state_dict(state)
    list(second)
    assert all(torch.equal(a, b) for a, b in zip(weights(second), weights(alone), strict=True))


def test_each_member_of_a_population_iterates_on_its_own_weights(tiny: Experiment, images: Images) -> None:
    plans = [tiny.with_values({**NORMED, "train.seed": seed, "train.epochs": 3 + seed}) for seed in range(2)]
    members = [Training(plan, images, dtype=torch.float64) for plan in plans]
    alone = [Training(plan, images, dtype=torch.float64) for plan in plans]
    for _ in BatchedTraining(members):
        pass
    for member, lone in zip(members, alone, strict=True):
        list(lone)
        assert member.steps == lone.steps
        for (name, ours), theirs in zip(
            member.discriminator.named_buffers(), lone.discriminator.buffers(), strict=True
        ):
            assert name.endswith("u")
            assert torch.allclose(ours, theirs, rtol=0, atol=1e-9)
            assert ours.norm().item() == pytest.approx(1)
