"""Losses put together: what D gets to see, packs, pairs and augmentation, and several updates of D for one of G."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness import data
from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import Training, from_uint8
from harness.gan.augment import augment
from harness.gan.logits import evaluate_logits
from harness.gan.step import LossConfig, discriminator_logits, discriminator_loss, generator_loss
from harness.gan.step_noise import StepNoise

from .common import CONV, RECIPES


@pytest.fixture
def images() -> Images:
    return data.load("mnist", subset=60).train


class Watching:
    """A discriminator that remembers what it is shown, and says the mean of each image."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, object, Tensor | None]] = []

    def __call__(self, images: Tensor, masks: object, labels: Tensor | None) -> Tensor:
        self.seen.append((images, masks, labels))
        return images.mean((1, 2, 3))


def step_of(training: Training) -> tuple[Tensor, Tensor | None, StepNoise]:
    training.randomness.begin(1)
    draws = training.randomness.step()
    labels = None if training.labels is None else training.labels[draws.indices]
    return from_uint8(training.images.pixels[draws.indices], training.dtype), labels, draws


def test_packs_are_made_of_images_that_stand_side_by_side(tiny: Experiment) -> None:
    losses, watching = LossConfig(tiny.with_values({"discriminator.pack": 2}), torch.float64), Watching()
    images = torch.arange(6, dtype=torch.float64).view(6, 1, 1, 1).expand(6, 3, 4, 4)
    logits = discriminator_logits(losses, watching, images)
    ((seen, _, _),) = watching.seen
    assert seen.shape == (3, 6, 4, 4)
    assert seen[:, :, 0, 0].tolist() == [[0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3], [4, 4, 4, 5, 5, 5]]
    assert logits.tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_pack_of_real_images_is_never_mixed_with_generated_ones(tiny: Experiment, images: Images, kind: str) -> None:
    values = {"discriminator.pack": 5, **(CONV if kind == "conv" else {})}
    training, watching = Training(tiny.with_values(values), images), Watching()
    real, labels, draws = step_of(training)
    assert [len(mask) for mask in (*draws.discriminator_masks, *draws.generator_masks)] == [8, 8, 4, 4]
    discriminator_loss(training.losses, training.generator, watching, real, labels, draws, training.penalty_weights)
    generator_loss(training.losses, training.generator, watching, real, labels, draws)
    (of_discriminator, masks, _), (of_generator, _, _) = watching.seen
    assert of_discriminator.shape == (8, 5, 28, 28)
    assert of_generator.shape == (4, 5, 28, 28)
    assert torch.equal(of_discriminator[:4], real.view(4, 5, 28, 28))
    assert masks is draws.discriminator_masks
    report = training.train_epoch()
    assert report.diverged is None
    assert all(part.isfinite().all() for part in training.discriminator.parameters())


def test_a_relativistic_pair_shares_its_class_and_every_other_draws_its_own(tiny: Experiment, images: Images) -> None:
    told: dict[str, object] = {"conditional": True, "discriminator.dropout": 0}
    pairs: list[dict[str, object]] = [
        {"objective.kind": "relativistic"},
        {"objective.kind": "wasserstein", "objective.gradient_penalty": 10},
    ]
    for values in pairs:
        training = Training(tiny.with_values({**told, **values}), images)
        _, labels, draws = step_of(training)
        assert labels is not None
        for asked, noise in (
            (draws.discriminator_labels, draws.discriminator_noise),
            (draws.generator_labels, draws.generator_noise),
        ):
            assert asked is not None
            assert torch.equal(asked, labels)
            assert torch.equal(noise[:, 8:].argmax(1), labels)
    _, labels, draws = step_of(Training(tiny.with_values(told), images))
    assert draws.discriminator_labels is not None
    assert labels is not None
    assert not torch.equal(draws.discriminator_labels, labels)


def test_a_relativistic_generator_is_judged_beside_the_real_images(tiny: Experiment, images: Images) -> None:
    values = {"objective.kind": "relativistic", "conditional": True, "discriminator.dropout": 0.3}
    training, watching = Training(tiny.with_values(values), images), Watching()
    real, labels, draws = step_of(training)
    loss = generator_loss(training.losses, training.generator, watching, real, labels, draws)
    ((seen, masks, told),) = watching.seen
    fake = training.generator(draws.generator_noise)
    assert torch.equal(seen, torch.cat([real, fake]))
    assert told is not None
    assert labels is not None
    assert torch.equal(told, torch.cat([labels, labels]))
    assert [len(mask) for mask in masks] == [40, 40]  # type: ignore[attr-defined]
    expected = torch.nn.functional.softplus(real.mean((1, 2, 3)) - fake.mean((1, 2, 3))).mean()
    assert torch.allclose(loss, expected)


@pytest.mark.parametrize("kind", ["non-saturating", "relativistic"])
def test_real_and_generated_images_are_distorted_in_both_updates(tiny: Experiment, images: Images, kind: str) -> None:
    plan = tiny.with_values({"augment.translation": 0.2, "augment.brightness": 0.5, "objective.kind": kind})
    training, watching = Training(plan, images), Watching()
    real, labels, draws = step_of(training)
    assert draws.discriminator_augment is not None
    assert draws.generator_augment is not None
    discriminator_loss(training.losses, training.generator, watching, real, labels, draws, training.penalty_weights)
    generator_loss(training.losses, training.generator, watching, real, labels, draws)
    fakes = [training.generator(noise) for noise in (draws.discriminator_noise, draws.generator_noise)]
    of_generator = fakes[1] if kind == "non-saturating" else torch.cat([real, fakes[1]])
    expected = [
        augment(torch.cat([real, fakes[0]]), draws.discriminator_augment, plan.augment),
        augment(of_generator, draws.generator_augment, plan.augment),
    ]
    for (seen, _, _), other in zip(watching.seen, expected, strict=True):
        assert torch.equal(seen, other)
    assert not torch.equal(draws.discriminator_augment[:20], draws.discriminator_augment[20:]), "each by its own draws"
    assert not torch.equal(watching.seen[0][0][:20], real)


def test_wgan_gp_looks_through_the_augmentation_of_the_real_images(tiny: Experiment, images: Images) -> None:
    plan = tiny.with_values({"augment.translation": 0.2, "objective.gradient_penalty": 10, "discriminator.dropout": 0})
    training, watching = Training(plan, images), Watching()
    real, labels, draws = step_of(training)
    assert draws.blend is not None
    assert draws.discriminator_augment is not None
    discriminator_loss(training.losses, training.generator, watching, real, labels, draws, training.penalty_weights)
    fake = training.generator(draws.discriminator_noise)
    points = fake + draws.blend.view(-1, 1, 1, 1) * (real - fake)
    _, (seen, masks, _) = watching.seen
    assert masks == ()
    inside = torch._C._functorch.get_unwrapped(seen) if torch._C._functorch.is_gradtrackingtensor(seen) else seen
    assert torch.allclose(inside, augment(points, draws.discriminator_augment[:20], plan.augment), atol=1e-6)


# Several updates of D --------------------------------------------------------------------------------------------


def test_d_moves_n_times_a_step_on_batches_of_its_own_and_g_once(tiny: Experiment, images: Images) -> None:
    training = Training(tiny.with_values({"train.discriminator_steps": 3, "train.batch_size": 10}), images)
    assert (training.steps_per_epoch, training.images_per_step) == (2, 30)
    moved: list[str] = []
    seen: list[Tensor] = []
    update_discriminator, update_generator, sample = (
        training.update_discriminator,
        training.update_generator,
        training.randomness.step,
    )

    def watch_discriminator(loss: Tensor) -> Tensor:
        moved.append("D")
        return update_discriminator(loss)

    def watch_generator(loss: Tensor) -> Tensor:
        moved.append("G")
        return update_generator(loss)

    def watch_noise() -> StepNoise:
        noise = sample()
        seen.append(noise.indices.clone())
        return noise

    training.update_discriminator = watch_discriminator  # type: ignore[method-assign]
    training.update_generator = watch_generator  # type: ignore[method-assign]
    training.randomness.step = watch_noise  # type: ignore[method-assign]
    report = training.train_epoch()
    assert moved == ["D", "D", "D", "G"] * 2
    assert sorted(torch.cat(seen).tolist()) == list(range(60)), "an epoch is one pass of D over the images"
    assert training.steps == 2
    assert report.metrics["speed/images_per_second"] == pytest.approx(60 / report.seconds)
    steps = [
        optimizer.state[next(iter(optimizer.state))]["step"].item()
        for optimizer in (training.discriminator_optimizer, training.generator_optimizer)
    ]
    assert steps == [6, 2]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_in_bf16(tiny: Experiment, images: Images, name: str) -> None:
    """Its first steps are those of fp32, as far as eight bits go; weights and slopes stay fp32."""
    plan = tiny.with_values({**RECIPES[name], "train.epochs": 1})
    exact, coarse = (
        Training(plan.with_values({"train.precision": precision}), images).train_epoch()
        for precision in ("fp32", "bf16")
    )
    assert coarse.diverged is None
    for loss in ("loss/discriminator", "loss/generator", "loss/penalty"):
        if loss in exact.metrics:
            assert coarse.metrics[loss] == pytest.approx(exact.metrics[loss], rel=0.05, abs=0.05)


def test_too_few_images_for_the_updates_of_one_step_are_refused(tiny: Experiment, images: Images) -> None:
    plan = tiny.with_values({"train.discriminator_steps": 4})
    with pytest.raises(HarnessError, match=r"has 60 images .* \(train.batch_size 20\) for each of .*_steps 4"):
        Training(plan, images)


def test_several_updates_are_resumed_to_the_same_bits(tiny: Experiment, images: Images) -> None:
    plan = tiny.with_values({"train.discriminator_steps": 2, "train.batch_size": 10, "augment.cutout": 0.5})
    alone, first, second = (Training(plan, images) for _ in range(3))
    list(alone)
    first.train_epoch()
    second.load_state_dict(first.state_dict())
    list(second)
    assert second.steps == alone.steps == 9
    for ours, theirs in zip(second.generator.parameters(), alone.generator.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# What is reported ------------------------------------------------------------------------------------------------


def test_a_penalty_is_reported_apart_from_the_loss_and_only_where_there_is_one(
    tiny: Experiment, images: Images
) -> None:
    plain = tiny.with_values({"discriminator.dropout": 0})
    without = Training(plain, images).train_epoch().metrics
    assert "loss/penalty" not in without
    metrics = Training(plain.with_values({"objective.r1": 1e-6}), images).train_epoch().metrics
    assert 0 < metrics["loss/penalty"] < 1e-3
    assert metrics["loss/discriminator"] == pytest.approx(without["loss/discriminator"], rel=1e-3)


@pytest.mark.parametrize(("kind", "level"), [("lsgan", 0.5), ("wasserstein", 100.0), ("relativistic", 100.0)])
def test_accuracies_go_by_the_boundary_of_the_objective(
    tiny: Experiment, images: Images, kind: str, level: float
) -> None:
    """A discriminator that tells all images apart, around a level that is not 0."""
    training = Training(tiny.with_values({"objective.kind": kind}), images)

    def judge(pixels: Tensor, masks: object, labels: object) -> Tensor:
        real = (pixels.flatten(1).min(1).values == -1).to(pixels.dtype)  # no generated pixel is quite black
        return level + 0.2 * (2 * real - 1)

    training.discriminator.forward = judge
    found = evaluate_logits(training)
    assert found["accuracy/real"] == found["accuracy/fake"] == 1
    assert found["logit/real"] == pytest.approx(level + 0.2)
