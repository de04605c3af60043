"""The objectives: hand-worked values, equilibria, gradients, and where D's verdict turns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.gan.objectives import (
    OBJECTIVES,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Objective,
    Relativistic,
    Wasserstein,
)

SMOOTHED = ("non-saturating", "minimax", "lsgan")


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def values(objective: Objective, real: list[float], fake: list[float]) -> tuple[float, float]:
    """Losses of D and of G."""
    logits = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    return objective.discriminator(*logits).item(), objective.generator(logits[1], logits[0]).item()


def test_cross_entropies_are_those_of_the_probabilities() -> None:
    """D's loss -log p(real) - log(1 - p(fake)), G's -log p(fake): by the sigmoid, which the code avoids."""
    real, fake = [1.5, -0.5], [0.25, -2.0]
    of_real = -sum(math.log(sigmoid(logit)) for logit in real) / 2
    of_fake = -sum(math.log(1 - sigmoid(logit)) for logit in fake) / 2
    of_generator = -sum(math.log(sigmoid(logit)) for logit in fake) / 2
    assert values(NonSaturating(), real, fake) == pytest.approx((of_real + of_fake, of_generator), rel=1e-12)
    assert values(Minimax(), real, fake) == pytest.approx((of_real + of_fake, -of_fake), rel=1e-12)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        # Real logits 2 and 0, generated ones -1 and 3.
        (LeastSquares(), (((1 + 1) / 2 + (1 + 9) / 2) / 2, (4 + 4) / 2 / 2)),
        (Hinge(), ((0 + 1) / 2 + (0 + 4) / 2, -1)),
        (Wasserstein(), (1 - 1, -1)),
        (Relativistic(), ((math.log1p(math.exp(-3)) + math.log1p(math.exp(3))) / 2,) * 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_hand_worked_values(objective: Objective, expected: tuple[float, float]) -> None:
    assert values(objective, [2, 0], [-1, 3]) == pytest.approx(expected, rel=1e-12)


def test_relativistic_losses_compare_each_pair_and_not_the_means() -> None:
    """The order matters: pair by pair, differences 1 and -3 of D; mean against mean would give ln(1 + e)."""
    in_pairs = values(Relativistic(), [1, 0], [0, 3])
    assert in_pairs[0] == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2, rel=1e-12)
    assert in_pairs[1] == pytest.approx((math.log1p(math.exp(1)) + math.log1p(math.exp(-3))) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "level", "expected"),
    [
        ("non-saturating", 0.0, (2 * math.log(2), math.log(2))),
        ("minimax", 0.0, (2 * math.log(2), -math.log(2))),
        ("lsgan", 0.5, (0.25, 0.125)),
        ("hinge", 0.0, (2.0, 0.0)),
        ("wasserstein", 7.0, (0.0, -7.0)),
        ("relativistic", 7.0, (math.log(2), math.log(2))),
    ],
)
def test_equilibrium_of_an_undecided_discriminator(kind: str, level: float, expected: tuple[float, float]) -> None:
    """Every logit the same, where D's loss is then lowest."""
    objective = OBJECTIVES[kind]()
    assert values(objective, [level] * 5, [level] * 5) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    undecided = torch.full((5,), level, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(objective.discriminator(undecided, undecided), undecided)
    assert slope.abs().max() < 1e-12, "no other level common to all is better for D"


@pytest.mark.parametrize(
    ("kind", "smoothing"), [*((kind, 0.0) for kind in OBJECTIVES), *((kind, 0.2) for kind in SMOOTHED)]
)
def test_gradients_match_finite_differences(kind: str, smoothing: float) -> None:
    """Away from the hinge's corners."""
    objective = OBJECTIVES[kind](smoothing)
    real = torch.tensor([0.3, -1.2, 4.0], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([-0.7, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(objective.discriminator, (real, fake))
    assert torch.autograd.gradcheck(objective.generator, (fake, real))


def test_smoothing_moves_the_target_of_real_images_alone() -> None:
    p = sigmoid(2)
    smoothed = -0.9 * math.log(p) - 0.1 * math.log(1 - p)
    of_fake, of_generator = -math.log(1 - sigmoid(-1)), -math.log(sigmoid(-1))
    assert values(NonSaturating(0.1), [2], [-1]) == pytest.approx((smoothed + of_fake, of_generator), rel=1e-12)
    assert values(Minimax(0.1), [2], [-1]) == pytest.approx((smoothed + of_fake, -of_fake), rel=1e-12)
    assert values(LeastSquares(0.1), [2], [-1]) == pytest.approx(((1.1**2 + 1) / 2, 2), rel=1e-12)


def test_a_smoothed_discriminator_is_best_when_as_sure_as_its_target() -> None:
    sure = torch.tensor([math.log(0.8 / 0.2)], dtype=torch.float64, requires_grad=True)
    far = torch.tensor([-100.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad(NonSaturating(0.2).discriminator(sure, far), sure)
    assert abs(slope.item()) < 1e-12


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_losses_are_never_swapped(kind: str) -> None:
    """Where D is right, a better D has the smaller loss, and a better G makes its own smaller and D's larger."""
    objective = OBJECTIVES[kind]()
    right, wrong = ([0.9, 0.8], [-0.9, 0.1]), ([0.1, -0.9], [0.8, 0.9])
    (d_right, g_right), (d_wrong, g_wrong) = values(objective, *right), values(objective, *wrong)
    assert d_right < d_wrong
    assert g_right > g_wrong


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_loss_is_a_mean_over_the_batch(kind: str) -> None:
    objective = OBJECTIVES[kind]()
    assert values(objective, [0.5, -2] * 4, [1, 0.2] * 4) == pytest.approx(values(objective, [0.5, -2], [1, 0.2]))


def test_extreme_logits_keep_their_losses() -> None:
    """sigmoid + BCELoss would clamp here (at 100) and lose the gradient."""
    fake = torch.tensor([-500.0], requires_grad=True)
    for loss in (NonSaturating().generator(fake), Relativistic().generator(fake, torch.zeros(1))):
        assert loss.item() == pytest.approx(500)
        (gradient,) = torch.autograd.grad(loss, fake)
        assert gradient.item() == pytest.approx(-1)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [(NonSaturating(), 0), (Hinge(), 0), (LeastSquares(), 0.5), (LeastSquares(0.2), 0.4), (Wasserstein(), 25)],
)
def test_the_boundary_lies_between_what_real_and_generated_images_should_get(
    objective: Objective, expected: float
) -> None:
    """Where the level of a logit means nothing, it is halfway between the means."""
    real, fake = torch.tensor([20.0, 60.0]), torch.tensor([0.0, 20.0])
    decision_threshold: Tensor = objective.decision_threshold(real, fake)
    assert decision_threshold.item() == pytest.approx(expected)
    assert decision_threshold.shape == ()


def test_a_relativistic_generator_needs_the_real_logits() -> None:
    assert Relativistic.paired
    with pytest.raises(ValueError, match="needs the logits of real images too"):
        Relativistic().generator(torch.zeros(2))
