"""Penalties on the slope of D: hand-worked values, the points they look at, and their gradients in D's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import HarnessError
from harness.experiment import PENALTIES, Experiment
from harness.gan.penalties import (
    interpolate,
    logits_and_input_gradients,
    one_centered_penalty,
    perturb,
    zero_centered_penalty,
)
from harness.gan.step import LossConfig, discriminator_loss, gradient_penalties
from harness.gan.step_noise import StepNoise

SIDE, BATCH = 4, 3
LAMBDA = 2.5


def some(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn() -> StepNoise:
    """Only what penalties look at."""
    random = torch.Generator().manual_seed(9)
    nothing = torch.empty(0)
    return StepNoise(
        nothing.long(),
        nothing,
        nothing,
        blend=torch.rand(BATCH, generator=random),
        jitter=torch.rand(BATCH, 1, SIDE, SIDE, generator=random),
    )


REAL, FAKE = some(BATCH, 1, SIDE, SIDE, seed=1), some(BATCH, 1, SIDE, SIDE, seed=2)


def penalised(on: Sequence[str], judge: Callable[[Tensor], Tensor], weight: float = LAMBDA) -> Tensor:
    """As the step has it: R1 and R2 of the pass that judges all images, the others of a pass of their own."""
    _, input_gradients = logits_and_input_gradients(judge, torch.cat([REAL, FAKE]))
    weights = torch.full((len(PENALTIES),), weight, dtype=torch.float64)
    return gradient_penalties(on, weights, REAL, FAKE, drawn(), input_gradients, judge)


def linear(images: Tensor) -> Tensor:
    """Slope (3, 4, 0, ...) everywhere: its norm is 5."""
    return 3 * images[:, 0, 0, 0] + 4 * images[:, 0, 0, 1] + 7


def quadratic(images: Tensor) -> Tensor:
    """|x|^2 / 2, whose slope at x is x."""
    return images.square().sum((1, 2, 3)) / 2


@pytest.mark.parametrize(("name", "expected"), [("gradient_penalty", 16), ("dragan", 16), ("r1", 12.5), ("r2", 12.5)])
def test_a_linear_discriminator_has_one_slope(name: str, expected: float) -> None:
    """lambda (5 - 1)^2 of those that want slope 1, gamma / 2 5^2 of those that want none."""
    assert penalised([name], linear).item() == pytest.approx(LAMBDA * expected, rel=1e-9)


def expected_points() -> dict[str, Tensor]:
    """Where each penalty looks, written out image by image."""
    draws = drawn()
    assert draws.blend is not None
    assert draws.jitter is not None
    spread = (REAL - REAL.mean()).square().mean().sqrt()  # of all pixels of the batch
    share = draws.blend.double()
    brighter = [REAL[i] + 0.5 * spread * draws.jitter[i].double() for i in range(BATCH)]
    return {
        "gradient_penalty": torch.stack([share[i] * REAL[i] + (1 - share[i]) * FAKE[i] for i in range(BATCH)]),
        "dragan": torch.stack([share[i] * REAL[i] + (1 - share[i]) * brighter[i] for i in range(BATCH)]),
        "r1": REAL,
        "r2": FAKE,
    }


@pytest.mark.parametrize("name", PENALTIES)
def test_a_quadratic_discriminator_shows_where_each_looks(name: str) -> None:
    norms = [point.norm().item() for point in expected_points()[name]]
    wanted = 0.0 if name in ("r1", "r2") else 1.0
    expected = sum((norm - wanted) ** 2 for norm in norms) / BATCH / (2 if name in ("r1", "r2") else 1)
    assert penalised([name], quadratic).item() == pytest.approx(LAMBDA * expected, rel=1e-9)


def test_penalties_are_summed_each_with_its_weight() -> None:
    weights = torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64)
    _, input_gradients = logits_and_input_gradients(quadratic, torch.cat([REAL, FAKE]))
    together = gradient_penalties(PENALTIES, weights, REAL, FAKE, drawn(), input_gradients, quadratic)
    each = [penalised([name], quadratic, weight) for name, weight in zip(PENALTIES, weights.tolist(), strict=True)]
    assert together.item() == pytest.approx(sum(term.item() for term in each), rel=1e-12)
    assert gradient_penalties([], weights, REAL, FAKE, drawn(), input_gradients, quadratic).item() == 0


def test_blended_points_lie_on_the_line_and_jittered_ones_above_the_real_ones() -> None:
    share = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    points = interpolate(REAL, FAKE, share)
    assert torch.equal(points[0], FAKE[0])
    assert torch.allclose(points[1], 0.25 * REAL[1] + 0.75 * FAKE[1])
    assert torch.allclose(points[2], REAL[2])
    jitter = torch.zeros_like(REAL)
    assert torch.equal(perturb(REAL, jitter), REAL)
    jitter[1, 0, 2, 3] = 1
    moved = perturb(REAL, jitter) - REAL
    assert moved[1, 0, 2, 3].item() == pytest.approx(0.5 * REAL.std(correction=0).item())
    assert moved.count_nonzero() == 1


def test_a_flat_discriminator_has_a_finite_gradient() -> None:
    """The norm of a zero slope has no derivative; the penalty must still have one."""
    weight = torch.zeros(SIDE * SIDE, dtype=torch.float64, requires_grad=True)
    value = penalised(["gradient_penalty"], lambda images: images.flatten(1) @ weight)
    (gradient,) = torch.autograd.grad(value, weight)
    assert value.item() == pytest.approx(LAMBDA, rel=1e-5)
    assert gradient.isfinite().all()


# Against finite differences, and against torch.autograd ------------------------------------------------------------

CONV = (some(2, 1, 3, 3, seed=3), some(2, seed=4), some(2 * SIDE * SIDE, seed=5) / 4)


def convolutional(kernel: Tensor, bias: Tensor, last: Tensor) -> Callable[[Tensor], Tensor]:
    """A small D that is smooth, so that finite differences may be taken anywhere."""
    return lambda images: F.softplus(F.conv2d(images, kernel, bias, padding=1)).flatten(1) @ last


def packing(pack: int, judge: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: judge(images.reshape(-1, pack, *images.shape[2:]))


@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_in_the_weights_match_finite_differences(name: str) -> None:
    weights = [weight.clone().requires_grad_() for weight in CONV]
    assert torch.autograd.gradcheck(lambda *parts: penalised([name], convolutional(*parts)), weights)
    one = some(SIDE * SIDE, seed=6).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda weight: penalised([name], lambda images: (images.flatten(1) @ weight).square()), [one]
    )


def test_slopes_in_the_joint_pass_equal_separate_passes_of_autograd() -> None:
    weights = [weight.clone().requires_grad_() for weight in CONV]
    judge = convolutional(*weights)
    logits, input_gradients = logits_and_input_gradients(judge, torch.cat([REAL, FAKE]))
    ours = [zero_centered_penalty(half) for half in input_gradients.chunk(2)]
    theirs = []
    for images in (REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()):
        (slope,) = torch.autograd.grad(judge(images).sum(), images, create_graph=True)
        theirs.append(slope.flatten(1).norm(dim=1).square().mean() / 2)
    assert torch.allclose(logits, torch.cat([judge(REAL), judge(FAKE)]), rtol=0, atol=1e-12)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.item() == pytest.approx(other.item(), rel=1e-12)
        found = [torch.autograd.grad(value, weights, retain_graph=True) for value in (mine, other)]
        assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(*found, strict=True))


def test_a_pack_has_one_slope_over_all_of_its_images() -> None:
    """|x|^2 / 2 of two images at once: the norm over both; and two packs, not four images, are averaged."""
    images = some(4, 1, SIDE, SIDE, seed=7)
    logits, input_gradients = logits_and_input_gradients(packing(2, quadratic), images)
    assert logits.shape == (2,)
    assert input_gradients.shape == (2, 2 * SIDE * SIDE)
    norms = [images[:2].norm().item(), images[2:].norm().item()]
    assert input_gradients.norm(dim=1).tolist() == pytest.approx(norms)
    assert one_centered_penalty(input_gradients).item() == pytest.approx(sum((norm - 1) ** 2 for norm in norms) / 2)
    assert zero_centered_penalty(input_gradients).item() == pytest.approx(sum(norm**2 for norm in norms) / 2 / 2)


# As an experiment has them ---------------------------------------------------------------------------------------


def test_d_s_loss_and_penalty_come_apart_and_nothing_flows_into_g(tiny: Experiment) -> None:
    plan = tiny.with_values({"discriminator.dropout": 0, "objective.r1": 3.0, "objective.gradient_penalty": 10.0})
    losses = LossConfig(plan, torch.float64)
    assert losses.penalty_weights(plan).tolist() == [10, 0, 3, 0]
    weight = some(SIDE * SIDE, seed=8).requires_grad_()
    made = FAKE.clone().requires_grad_()
    loss, extra = discriminator_loss(
        losses,
        lambda noise: made * 1,
        lambda images, masks, labels: quadratic(images) * weight.sum(),
        REAL,
        None,
        drawn(),
        losses.penalty_weights(plan),
    )
    logits = (quadratic(REAL) * weight.sum(), quadratic(FAKE) * weight.sum())
    assert torch.allclose(loss, losses.objective.discriminator(*logits))
    points, total = expected_points(), weight.sum().abs().item()
    r1 = (total * REAL.flatten(1).norm(dim=1)).square().mean() / 2
    gp = (total * points["gradient_penalty"].flatten(1).norm(dim=1) - 1).square().mean()
    assert extra.item() == pytest.approx((10 * gp + 3 * r1).item(), rel=1e-9)
    (into_g,) = torch.autograd.grad(loss + extra, made, allow_unused=True)
    assert into_g is None


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_with_dropout_are_refused(tiny: Experiment, name: str) -> None:
    with pytest.raises(
        HarnessError, match=rf"objective\.{name} is 1\.0 and discriminator\.dropout 0\.3: a gradient penalty needs"
    ):
        tiny.with_values({f"objective.{name}": 1.0})
