"""Recording a step: warming up leaves no trace, and a replay is the step. On a CPU the recording is the function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from harness import data
from harness.data import Images
from harness.experiment import Experiment
from harness.gan import BatchedTraining, Training
from harness.gan.cuda_graph import WARM_UP, CudaGraphStep, Step

from .common import EVERYTHING, RECIPES, weights

KINDS: dict[str, dict[str, object]] = {"mlp": {}, "everything": EVERYTHING, **RECIPES}


@pytest.fixture
def images() -> Images:
    return data.load("mnist", subset=120).train


def by_replaying(function: Step, generators: Sequence[torch.Generator]) -> Step:
    """The stand-in for a CUDA graph."""
    assert generators
    return function


def recorded(owner: Training | BatchedTraining) -> Callable[[], None]:
    return CudaGraphStep(owner._add_step, owner, by_replaying)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_training_ends_with_the_same_bits(tiny: Experiment, images: Images, kind: str, steps: int) -> None:
    """Also where an epoch has fewer steps than the warm-up."""
    plan = tiny.with_values(KINDS[kind])
    images = images.index_select(torch.arange(20 * steps * plan.train.discriminator_steps))
    plain, captured = Training(plan, images), Training(plan, images)
    captured._step = recorded(captured)
    reports = [(ours.metrics, theirs.metrics) for ours, theirs in zip(captured, plain, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(weights(captured), weights(plain), strict=True))
    for ours, theirs in reports:
        assert {**ours, "speed/images_per_second": 0} == {**theirs, "speed/images_per_second": 0}


def test_a_training_recorded_after_it_was_resumed_keeps_its_moments(tiny: Experiment, images: Images) -> None:
    plain, first, second = (Training(tiny, images) for _ in range(3))
    list(plain)
    first.train_epoch()
    second.load_state_dict(first.state_dict())
    second._step = recorded(second)
    list(second)
    assert all(torch.equal(a, b) for a, b in zip(weights(second), weights(plain), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_population_ends_with_the_same_bits(tiny: Experiment, images: Images, kind: str) -> None:
    base, images = tiny.with_values(KINDS[kind]), images.index_select(torch.arange(60))
    plans = [
        base.with_values(
            {
                "train.seed": seed,
                "generator.latent": 8 if ":" in base.generator.kind else 8 - seed,
                "optimizer.lr": 1e-4 * seed,
                **{f"objective.{name}": 1.0 * seed for name in base.objective.penalties},
            }
        )
        for seed in (1, 2, 3)
    ]
    plain, captured = ([Training(plan, images) for plan in plans] for _ in range(2))
    for _ in BatchedTraining(plain):
        pass
    population = BatchedTraining(captured)
    population._step = recorded(population)
    for _ in population:
        pass
    for ours, theirs in zip(captured, plain, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(weights(ours), weights(theirs), strict=True))


def test_the_function_is_warmed_up_once_and_recorded_once(tiny: Experiment, images: Images) -> None:
    training = Training(tiny, images)
    calls: list[int] = []
    recordings: list[int] = []

    def record(function: Step, generators: Sequence[torch.Generator]) -> Step:
        recordings.append(len(calls))
        assert len(generators) == 2
        return lambda: None

    step = CudaGraphStep(lambda: calls.append(1), training, record)
    for _ in range(4):
        step()
    assert len(calls) == WARM_UP
    assert recordings == [WARM_UP]
