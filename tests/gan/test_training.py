"""The training core: reports, explicit state, repetition bit for bit, divergence."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch.utils import _pytree as pytree

from harness import data
from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import Training, from_uint8, sample_inputs, to_uint8
from harness.gan.logits import evaluate_logits
from harness.gan.step import discriminator_logits
from harness.gan.step_noise import StepNoise

from .common import EVERYTHING, step_on, weights

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


def draws_of(training: Training, epoch: int) -> Iterator[StepNoise]:
    training.randomness.begin(epoch)
    for _ in range(training.steps_per_epoch):
        yield training.randomness.step()


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


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"train.discriminator_steps": 2}], ids=["mlp", "everything", "2 D"])
def test_a_training_that_is_resumed_in_the_middle_of_an_epoch_ends_with_the_same_bits(
    tiny: Experiment, images: Images, values: dict[str, object]
) -> None:
    experiment = tiny.with_values(values | {"train.batch_size": 5})
    whole = Training(experiment, images)
    expected = [next(whole).metrics for _ in range(2)]

    first = Training(experiment, images)
    next(first)
    assert first.train_steps(2) is None
    assert first.steps_in_epoch == 2
    state = copy.deepcopy(first.state_dict())
    assert first.train_steps(10**6) is not None, "what is saved is not what goes on"
    second = Training(experiment, images)
    second.load_state_dict(state)
    assert second.train_steps(1) is None
    report = second.train_epoch()
    assert without_speed(report.metrics) == without_speed(expected[1])
    assert all(torch.equal(a, b) for a, b in zip(second.tensors(), whole.tensors(), strict=True))


def without_speed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("speed/")}


def test_between_epochs_a_state_has_no_steps(tiny: Experiment, images: Images) -> None:
    training = Training(tiny, images)
    next(training)
    assert not {"steps", "totals"} & training.state_dict().keys()
    assert training.steps_in_epoch == 0


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["mlp", "everything"])
def test_a_resumed_training_ends_with_the_same_bits(
    tiny: Experiment, images: Images, values: dict[str, object], after: int
) -> None:
    tiny = tiny.with_values(values)
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


def test_the_average_follows_the_generator_with_its_half_life(tiny: Experiment, images: Images) -> None:
    """Against the formula, written out: weights move by 1 - 2^(-batch / half-life), the half-life ramping up."""
    training = Training(tiny.with_values({"train.ema_half_life": 30.0, "train.epochs": 20}), images)
    assert training.average is not None
    weight, average = (network.get_parameter("layers.0.weight") for network in (training.generator, training.average))
    expected = weight.detach().clone()
    for epoch in range(1, 13):
        for draws in draws_of(training, epoch):
            step_on(training, draws)
            training.steps += 1
            half_life = min(30.0, 0.05 * 20 * training.steps)
            keep = 0.5 ** (20 / half_life)
            expected = keep * expected + (1 - keep) * weight.detach()
    assert half_life == 30.0
    assert torch.allclose(average, expected, atol=1e-6)
    assert training.generator_ema is training.average
    assert not torch.equal(average, weight)


def test_a_linear_schedule_falls_to_zero_over_the_whole_run(tiny: Experiment, images: Images) -> None:
    plan = tiny.with_values({"optimizer.schedule": "linear", "optimizer.discriminator_lr": 4e-3})
    training = Training(plan, images)
    rates = []
    while training.epoch < 3:
        for draws in draws_of(training, training.epoch + 1):
            step_on(training, draws)
            rates.append(
                (
                    training.generator_optimizer.param_groups[0]["lr"],
                    training.discriminator_optimizer.param_groups[0]["lr"],
                )
            )
            training.steps += 1
        training.epoch += 1
    assert [rate for rate, _ in rates] == pytest.approx([1e-3 * (1 - step / 9) for step in range(9)])
    assert [rate for _, rate in rates] == pytest.approx([4e-3 * (1 - step / 9) for step in range(9)])


def test_conditional_samples_show_a_class_a_column(tiny: Experiment, images: Images) -> None:
    plan = tiny.with_values({"conditional": True})
    inputs = sample_inputs(plan, images, 25)
    assert inputs.shape == (25, 8 + 10)
    assert inputs[:, 8:].argmax(1).tolist() == [*range(10), *range(10), *range(5)]
    scored = sample_inputs(plan, images, 2000, columns=False)[:, 8:].sum(0)
    assert scored.sum() == 2000
    assert 150 < scored.min() < scored.max() < 250, "as often as among the images, which are balanced"


def test_conditional_draws_ask_for_the_classes_that_there_are(tiny: Experiment, images: Images) -> None:
    plan = tiny.with_values({"conditional": True})
    assert images.labels is not None
    only_threes = images.index_select((images.labels == 3).nonzero().squeeze(1).repeat(10))
    steps = list(draws_of(Training(plan, only_threes), 1))
    assert len(steps) == len(only_threes) // 20 > 0
    for draws in steps:
        for labels, noise in (
            (draws.discriminator_labels, draws.discriminator_noise),
            (draws.generator_labels, draws.generator_noise),
        ):
            assert labels is not None
            assert labels.tolist() == [3] * 20
            assert noise[:, 8:].tolist() == [[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]] * 20, "the one-hot label, after the noise"
    untold = next(draws_of(Training(tiny, images), 1))
    assert untold.discriminator_labels is untold.generator_labels is None
    assert untold.generator_noise.shape == (20, 8)


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


@pytest.mark.parametrize("changes", [{}, {"conditional": True}, {"discriminator.pack": 2}])
def test_held_out_images_are_looked_at_and_change_nothing(
    tiny: Experiment, images: Images, changes: dict[str, object]
) -> None:
    plan = tiny.with_values(changes)
    splits = data.load("mnist", subset=60, validation=101)
    assert splits.validation is not None
    with_them, without = Training(plan, splits.train, splits.validation), Training(plan, splits.train)
    reports = list(with_them)
    assert set(reports[-1].metrics) == METRICS | {"logit/held_out", "accuracy/held_out"}
    assert all(set(report.metrics) == METRICS for report in without)
    assert all(torch.equal(a, b) for a, b in zip(weights(with_them), weights(without), strict=True))
    count = 100 if "discriminator.pack" in changes else 101
    labels = splits.validation.labels[:count] if plan.conditional and splits.validation.labels is not None else None
    with torch.no_grad():
        pixels = from_uint8(splits.validation.pixels[:count])
        logits = discriminator_logits(with_them.losses, with_them.discriminator, pixels, labels=labels)
    assert reports[-1].metrics["logit/held_out"] == pytest.approx(float(logits.mean()), rel=1e-5)
    assert reports[-1].metrics["accuracy/held_out"] == pytest.approx(float((logits > 0).float().mean()))


def test_looking_at_logits_changes_no_running_mean(tiny: Experiment, images: Images) -> None:
    training = Training(tiny.with_values(EVERYTHING), images)
    training.train_epoch()
    before = [buffer.clone() for buffer in training.generator.buffers()]
    assert before
    evaluate_logits(training)
    assert all(torch.equal(a, b) for a, b in zip(before, training.generator.buffers(), strict=True))


def test_one_held_out_image_is_no_pack(tiny: Experiment) -> None:
    splits = data.load("mnist", subset=60, validation=1)
    report = Training(tiny.with_values({"discriminator.pack": 2}), splits.train, splits.validation).train_epoch()
    assert set(report.metrics) == METRICS
    assert report.diverged is None


def test_a_run_without_any_gradient_left_says_so(tiny: Experiment, images: Images) -> None:
    """Its totals are those of docs/gan.md, section 5, B: losses of G in the millions, of D 0, and gradients of 0."""
    training = Training(tiny, images)
    assert training.end_epoch([0.0, 5e6, 0.0, 0.0, 0.0], 1.0).diverged == (
        "every gradient of both networks is exactly 0, so training has stopped"
    )
    assert training.end_epoch([0.0, 5e6, 0.0, 1e-9, 0.0], 1.0).diverged is None, "G still learns"
    assert training.end_epoch([0.7, 0.7, 1e-9, 0.0, 0.0], 1.0).diverged is None, "D still learns"


def test_fewer_images_than_a_batch_are_refused(tiny: Experiment, images: Images) -> None:
    with pytest.raises(HarnessError, match="less than one batch"):
        Training(tiny, images.index_select(torch.arange(19)))


def test_bytes_survive_the_way_into_the_networks_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(every)), every)
    assert from_uint8(every).min() == -1
    assert from_uint8(every).max() == 1


def test_impossible_images_become_bytes() -> None:
    assert to_uint8(torch.tensor([math.nan, math.inf, -math.inf, 3.0])).tolist() == [128, 255, 0, 255]


def moved_to(device: str, draws: StepNoise) -> StepNoise:
    return StepNoise(*pytree.tree_map_only(torch.Tensor, lambda value: value.to(device), tuple(draws)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_cuda_follows_the_cpu(tiny: Experiment, images: Images) -> None:
    """Draws differ between devices, so the same draws are handed to both."""
    here = Training(tiny, images)
    there = Training(tiny.with_values({"train.device": "cuda"}), images)
    there.load_state_dict(here.state_dict())
    for draws in draws_of(here, 1):
        moved = moved_to("cuda", draws)
        ours = step_on(here, draws)
        theirs = step_on(there, moved)
        assert torch.allclose(torch.stack(ours), torch.stack(theirs).cpu(), rtol=1e-4)
