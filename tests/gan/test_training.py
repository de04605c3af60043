"""The training core: reports, explicit state, repetition bit for bit, divergence."""

from __future__ import annotations

import math

import pytest
import torch

from harness import data
from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import Training, from_uint8, resolve, to_uint8

METRICS = {
    "loss/discriminator",
    "loss/generator",
    "logit/real",
    "logit/fake",
    "accuracy/real",
    "accuracy/fake",
    "gradient/discriminator",
    "gradient/generator",
    "speed/images_per_second",
}


@pytest.fixture
def images() -> Images:
    return data.load("mnist", subset=60).train


def weights(training: Training) -> list[torch.Tensor]:
    return [*training.generator.state_dict().values(), *training.discriminator.state_dict().values()]


def test_iterating_yields_one_report_an_epoch(tiny: Experiment, images: Images) -> None:
    training = Training(tiny, images)
    reports = list(training)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert all(set(report.metrics) == METRICS for report in reports)
    assert all(math.isfinite(value) for report in reports for value in report.metrics.values())
    assert training.steps == 3 * training.steps_per_epoch == 9


def test_the_same_experiment_repeats_bit_for_bit(tiny: Experiment, images: Images) -> None:
    first, second = Training(tiny, images), Training(tiny, images)
    torch.manual_seed(1)  # the process's own random state must not matter
    list(first)
    torch.rand(10)
    list(second)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_another_seed_is_another_run(tiny: Experiment, images: Images) -> None:
    first, second = Training(tiny, images), Training(tiny.with_values({"train.seed": 1}), images)
    assert not torch.equal(weights(first)[0], weights(second)[0])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_resumed_training_ends_with_the_same_bits(tiny: Experiment, images: Images, after: int) -> None:
    alone = Training(tiny, images)
    list(alone)
    first = Training(tiny, images)
    for _ in range(after):
        first.train_epoch()
    second = Training(tiny, images)
    second.load_state_dict(first.state_dict())
    assert [report.epoch for report in second] == list(range(after + 1, 4))
    assert all(torch.equal(a, b) for a, b in zip(weights(alone), weights(second), strict=True))
    assert second.steps == alone.steps


def test_the_generators_step_leaves_the_discriminator_alone(tiny: Experiment, images: Images) -> None:
    still = tiny.with_values({"optimizer.discriminator_lr": 1e-30})
    training = Training(still, images)
    before = [weight.clone() for weight in training.discriminator.parameters()]
    training.train_epoch()
    assert all(torch.equal(a, b) for a, b in zip(before, training.discriminator.parameters(), strict=True))


def test_bf16_trains_on_fp32_weights(tiny: Experiment, images: Images) -> None:
    training = Training(tiny.with_values({"train.precision": "bf16"}), images)
    plain = Training(tiny, images)
    report, exact = training.train_epoch(), plain.train_epoch()
    assert {weight.dtype for weight in training.generator.parameters()} == {torch.float32}
    assert report.metrics["loss/discriminator"] == pytest.approx(exact.metrics["loss/discriminator"], rel=0.02)
    assert report.metrics["loss/discriminator"] != exact.metrics["loss/discriminator"]


def test_an_exploding_run_says_so(tiny: Experiment, images: Images) -> None:
    training = Training(tiny, images)
    with torch.no_grad():
        next(training.generator.parameters()).fill_(float("nan"))
    report = training.train_epoch()
    assert report.diverged
    assert "nan" in report.diverged


def test_fewer_images_than_a_batch_are_refused(tiny: Experiment, images: Images) -> None:
    with pytest.raises(HarnessError, match="less than one batch"):
        Training(tiny, images.take(torch.arange(19)))


def test_bytes_survive_the_way_into_the_networks_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(every)), every)
    assert from_uint8(every).min() == -1
    assert from_uint8(every).max() == 1


def test_impossible_images_become_bytes() -> None:
    assert to_uint8(torch.tensor([math.nan, math.inf, -math.inf, 3.0])).tolist() == [128, 255, 0, 255]


def test_resolving_settles_what_auto_stands_for(tiny: Experiment) -> None:
    resolved = resolve(tiny.with_values({"train.device": "auto", "train.precision": "auto"}), (1, 28, 28))
    assert resolved.train.device in {"cpu", "cuda", "mps"}
    assert resolved.train.precision in {"fp32", "bf16"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused(tiny: Experiment) -> None:
    with pytest.raises(HarnessError, match="device cuda was asked for, but torch finds none here; usable: cpu"):
        resolve(tiny.with_values({"train.device": "cuda"}), (1, 28, 28))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_cuda_follows_the_cpu(tiny: Experiment, images: Images) -> None:
    """Draws differ between devices, so the same draws are handed to both."""
    here = Training(tiny, images)
    there = Training(tiny.with_values({"train.device": "cuda"}), images)
    there.load_state_dict(here.state_dict())
    for draws in here.draws(1):
        moved = type(draws)(
            *(
                value.to("cuda") if isinstance(value, torch.Tensor) else [mask.to("cuda") for mask in value]
                for value in vars(draws).values()
            )
        )
        ours = here.step(images.pixels[draws.indices], draws)
        theirs = there.step(there.images.pixels[moved.indices], moved)
        assert torch.allclose(ours, theirs.cpu(), rtol=1e-4)
