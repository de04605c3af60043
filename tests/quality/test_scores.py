"""Each score against a closed form, the obvious way to compute it, and torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from harness.quality import scores


def gaussian(count: int, seed: int, features: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, features, generator=generator, dtype=torch.float64)


def exact_gaussian(count: int, mean: Tensor, root: Tensor, seed: int = 0) -> Tensor:
    """A sample whose own mean and covariance are exactly `mean` and root @ root.T."""
    raw = gaussian(count, seed, len(mean))
    raw = raw - raw.mean(0)
    white: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(raw.T.cov()), raw.T, upper=False).T
    return white @ root.T + mean


class Given(nn.Module):
    """A feature extractor for torchmetrics: the images are the features."""

    num_features = 8

    def forward(self, images: Tensor) -> Tensor:
        return images


def kid(generated: Tensor, real: Tensor) -> tuple[float, float]:
    return scores.kid(generated, real, scores.kernel_sums(real))


def test_frechet_of_two_gaussians_is_the_closed_form() -> None:
    zero, eye = torch.zeros(8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
    shift = torch.arange(8, dtype=torch.float64) / 10
    found = scores.frechet(exact_gaussian(100, shift, 3 * eye), exact_gaussian(90, zero, eye, seed=1))
    assert found == pytest.approx(shift.square().sum().item() + 8 * (3 - 1) ** 2, rel=1e-9)


def test_frechet_of_covariances_that_do_not_commute_agrees_with_torchmetrics() -> None:
    first, second = gaussian(300, 0) @ gaussian(8, 5) + 1, gaussian(400, 1) @ gaussian(8, 6)
    oracle = FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    oracle.update(second, real=True)
    oracle.update(first, real=False)
    assert scores.frechet(first, second) == pytest.approx(oracle.compute().item(), rel=1e-6)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_frechet_of_a_collapsed_set_is_its_true_distance(rank: int) -> None:
    # C1 is diagonal with `rank` ones and C2 is the identity: tr sqrt(C1 C2) = rank.
    root = torch.diag((torch.arange(8) < rank).double())
    mean = torch.full((8,), 2.0, dtype=torch.float64)
    collapsed = exact_gaussian(50, mean, root)
    real = exact_gaussian(60, torch.zeros(8, dtype=torch.float64), torch.eye(8, dtype=torch.float64), seed=1)
    assert scores.frechet(collapsed, real) == pytest.approx(4 * 8 + rank + 8 - 2 * rank, rel=1e-6)


def test_frechet_of_a_set_against_itself_is_zero() -> None:
    assert scores.frechet(gaussian(100, 0), gaussian(100, 0)) == pytest.approx(0, abs=1e-9)


def test_kid_is_the_unbiased_mmd_over_all_pairs() -> None:
    x, y = gaussian(7, 0), gaussian(9, 1) + 1

    def kernel(a: Tensor, b: Tensor) -> float:
        return float(a @ b / len(a) + 1) ** 3

    within_x = sum(kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
    within_y = sum(kernel(y[i], y[j]) for i in range(9) for j in range(9) if i != j) / 72
    across = sum(kernel(a, b) for a in x for b in y) / 63
    assert kid(x, y)[0] == pytest.approx(within_x + within_y - 2 * across, rel=1e-10)


def test_kid_agrees_with_torchmetrics() -> None:
    x, y = gaussian(500, 0) * 1.1 + 0.1, gaussian(500, 1)
    oracle = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=500).set_dtype(torch.float64)
    oracle.update(y, real=True)
    oracle.update(x, real=False)
    assert kid(x, y)[0] == pytest.approx(oracle.compute()[0].item(), rel=1e-4)


def all_but_one(count: int) -> list[Tensor]:
    """Masks that each leave out one of `count` rows."""
    return [torch.arange(count) != left_out for left_out in range(count)]


def test_kid_error_is_the_jackknife_of_either_set() -> None:
    x, y = gaussian(12, 0), gaussian(10, 1) + 0.5
    by_x = torch.tensor([kid(x[kept], y)[0] for kept in all_but_one(12)], dtype=torch.float64)
    by_y = torch.tensor([kid(x, y[kept])[0] for kept in all_but_one(10)], dtype=torch.float64)
    variance = 11 * by_x.var(correction=0) + 9 * by_y.var(correction=0)
    assert kid(x, y)[1] == pytest.approx(variance.sqrt().item(), rel=1e-8)


def test_kid_error_is_the_spread_over_fresh_draws() -> None:
    draws = [kid(gaussian(200, seed) + 0.3, gaussian(200, 1_000 + seed)) for seed in range(60)]
    spread = torch.tensor([estimate for estimate, _ in draws]).std().item()
    claimed = sum(error for _, error in draws) / len(draws)
    assert 0.7 < claimed / spread < 1.4


def test_kid_of_disjoint_halves_is_within_three_errors_of_zero() -> None:
    for seed in range(10):
        estimate, error = kid(*gaussian(1_000, seed).chunk(2))
        assert abs(estimate) < 3 * error


def test_a_set_covers_itself() -> None:
    real = gaussian(300, 0)
    density, coverage = scores.density_coverage(real, real, scores.radii(real))
    assert density == pytest.approx(6 / 5)
    assert coverage == 1


def test_density_and_coverage_are_what_their_definition_counts() -> None:
    generated, real = gaussian(80, 0) * 0.8, gaussian(100, 1)
    own = torch.cdist(real, real).fill_diagonal_(math.inf)
    radius = own.sort(dim=1).values[:, 4]  # to the fifth other image
    inside = torch.cdist(generated, real) <= radius
    found = scores.density_coverage(generated, real, scores.radii(real))
    assert found == pytest.approx((inside.sum().item() / (5 * 80), inside.any(0).double().mean().item()))


def test_a_far_away_set_has_neither_density_nor_coverage() -> None:
    real = gaussian(50, 0)
    assert scores.density_coverage(real + 100, real, scores.radii(real)) == (0, 0)


def test_memorisation_tells_copies_from_fresh_ones() -> None:
    training, held_out, fresh = gaussian(500, 0), gaussian(500, 1), gaussian(500, 2)
    assert scores.memorisation(training, training, held_out) < 1e-5
    assert scores.memorisation(fresh, training, held_out) == pytest.approx(1, abs=0.05)
    assert scores.memorisation(held_out[:1], held_out, held_out) == 1


def test_memorisation_compares_with_sets_of_equal_size() -> None:
    training, held_out, fresh = gaussian(500, 0), gaussian(100, 1), gaussian(500, 2)
    whole = scores.memorisation(fresh, training, held_out)
    assert whole == scores.memorisation(fresh, training[:100], held_out)


def test_class_kl_of_known_histograms() -> None:
    even, one = torch.arange(10).repeat(10), torch.full((30,), 3)
    assert scores.class_kl(even, even) == 0
    assert scores.class_kl(one, even) == pytest.approx(math.log(10))
    assert scores.class_kl(even[even < 8], even) == pytest.approx(math.log(10 / 8))
    assert scores.class_kl(even, even[even < 9]) == pytest.approx(9 * 0.1 * math.log(0.9) + 0.1 * math.log(0.1 * 90))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # No copies among them: at a distance of 0 the square root makes 1e-8 of a rounding of 1e-16.
    x, y, training = gaussian(53, 0), gaussian(47, 1), gaussian(20, 2)
    whole = [*kid(x, y), *scores.density_coverage(x, y, scores.radii(y)), scores.memorisation(x, training, y)]
    monkeypatch.setattr(scores, "CHUNK_VALUES", 100)
    chunked = [*kid(x, y), *scores.density_coverage(x, y, scores.radii(y)), scores.memorisation(x, training, y)]
    assert chunked == pytest.approx(whole, rel=1e-10)
