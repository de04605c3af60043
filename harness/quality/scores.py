"""The scores: how far a set of generated images is from a set of real ones, in a judge's features.

Plain functions over float64 tensors: `generated` [N, d] and `real` [M, d] are features on one device. All N x M
matrices are walked in strips of rows, so that 10,000 against 10,000 takes well under 1 GB. `FUNCTIONS` says how each
score of the table (`harness/experiment/scores.py`) is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.quality.score_set import Value

NEIGHBOURS = 5  # k of density and coverage, as their authors recommend
CHUNK_VALUES = 5_000_000  # 40 MB of float64 at a time

Pairwise = Callable[[Tensor, Tensor, Tensor], Tensor]  # [n, d], [M, d], and the [n, M] to write into


def strips(pairwise: Pairwise, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """The matrix pairwise(x, y) [N, M], a few rows at a time, all in the same memory: a strip lasts until the next."""
    rows = max(1, CHUNK_VALUES // len(y))
    space = x.new_empty(min(rows, len(x)), len(y))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        yield pairwise(part, y, space[: len(part)])


def squared_distances(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """Squared Euclidean distances, [n, M]; between equal rows, rounding may leave a tiny number of either sign."""
    torch.addmm(y.square().sum(1).expand_as(out), x, y.T, alpha=-2, out=out)
    return out.add_(x.square().sum(1, keepdim=True))


def cubic_kernel(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """(x . y / d + 1)^3, the polynomial kernel of KID, [n, M]."""
    return torch.addmm(x.new_ones(1), x, y.T, alpha=1 / x.shape[1], out=out).pow_(3)


# --- Kernel distance --------------------------------------------------------------------------------------------------


def kernel_sums(x: Tensor) -> Tensor:
    """For every row of x the sum of its kernel with all other rows, [N]."""
    sums = torch.cat([strip.sum(1) for strip in strips(cubic_kernel, x, x)])
    return sums - (x.square().mean(1) + 1) ** 3  # less the kernel with itself


def kid(generated: Tensor, real: Tensor, real_sums: Tensor) -> tuple[float, float]:
    """Kernel distance and its standard error: the unbiased squared MMD (Binkowski et al. 2018, eq. 4; 0 is best).

    real_sums: kernel_sums(real). N and M must be 3 or more.

    All pairs are used, instead of random subsets of 1,000 as in the paper. Both have the same expectation, but the
    average over every pair has the least variance of all unbiased estimates, and no seed. The standard error is the
    jackknife's, leaving out one image of either set at a time; that of overlapping subsets is not a standard error.
    """
    n, m = len(generated), len(real)
    sums = kernel_sums(generated)
    across = [(strip.sum(1), strip.sum(0)) for strip in strips(cubic_kernel, generated, real)]
    rows, columns = torch.cat([row for row, _ in across]), torch.stack([column for _, column in across]).sum(0)
    within_generated = sums.sum() / (n * (n - 1))
    within_real = real_sums.sum() / (m * (m - 1))
    estimate = within_generated + within_real - 2 * rows.sum() / (n * m)

    without = (sums.sum() - 2 * sums) / ((n - 1) * (n - 2)) - 2 * (rows.sum() - rows) / ((n - 1) * m)
    without_real = (real_sums.sum() - 2 * real_sums) / ((m - 1) * (m - 2)) - 2 * (rows.sum() - columns) / (n * (m - 1))
    variance = (n - 1) * without.var(correction=0) + (m - 1) * without_real.var(correction=0)
    return estimate.item(), variance.sqrt().item()


# --- Frechet distance -------------------------------------------------------------------------------------------------


def frechet(generated: Tensor, real: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the Gaussians fitted to both (Heusel et al. 2017; 0 is best).

    The trace of (C1 C2)^(1/2) is the sum of the singular values of C1^(1/2) C2^(1/2), which exist, and are not
    negative, for covariances of any rank: a collapsed generator needs no special case.
    """
    covariances = [features.T.cov().view(2 * features.shape[1:]).cpu() for features in (generated, real)]
    first, second = (_square_root(covariance) for covariance in covariances)
    overlap = torch.linalg.svdvals(first @ second).sum()
    spread = sum(covariance.trace() for covariance in covariances) - 2 * overlap
    shift = (generated.mean(0) - real.mean(0)).square().sum().cpu()
    return float((shift + spread).clamp(min=0))


def _square_root(covariance: Tensor) -> Tensor:
    """Of a symmetric matrix without negative eigenvalues, other than those that rounding made."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root


# --- Neighbours -------------------------------------------------------------------------------------------------------


def radii(real: Tensor) -> Tensor:
    """Squared distance of every real image to its k-th nearest other one, [M]."""
    return torch.cat([strip.kthvalue(NEIGHBOURS + 1, dim=1).values for strip in strips(squared_distances, real, real)])


def density_coverage(generated: Tensor, real: Tensor, real_radii: Tensor) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, eqs. 3 and 4).

    Around every real image lies a ball that reaches to its k-th nearest real neighbour. Density: how many balls hold a
    generated image, on average, over k; not bounded by 1. Coverage: the share of balls that hold any at all.
    real_radii: radii(real). The border belongs to the ball, so that a set covers itself.
    """
    reach = real_radii + 1e-10 * real.square().sum(1).mean()  # the border stays inside under rounding
    inside = generated.new_zeros(())
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for strip in strips(squared_distances, generated, real):
        within = strip <= reach
        inside += within.sum()
        covered |= within.any(0)
    return (inside / (NEIGHBOURS * len(generated))).item(), covered.double().mean().item()


def nearest(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of every row of x to its nearest row of y, and that row's number: [N] and int64 [N]."""
    found = [strip.min(1) for strip in strips(squared_distances, x, y)]
    return torch.cat([near.values for near in found]).clamp(min=0).sqrt(), torch.cat([near.indices for near in found])


def memorisation(generated: Tensor, training: Tensor, held_out: Tensor) -> float:
    """Mean distance to the nearest training image, over that to the nearest held-out image.

    Copies of training images give near 0, fresh real images about 1. Of the larger set only the first rows count: more
    neighbours to choose from would bring the nearest closer for any generator.
    """
    count = min(len(training), len(held_out))
    to_training = nearest(generated, training[:count])[0].mean().item()
    to_held_out = nearest(generated, held_out[:count])[0].mean().item()
    if to_held_out == 0:  # copies of held-out images, which may be training images as well
        return 1.0 if to_training == 0 else float("inf")
    return to_training / to_held_out


# --- Classes ----------------------------------------------------------------------------------------------------------


def class_kl(generated: Tensor, real: Tensor) -> float:
    """KL(generated || real) between the histograms of judged classes, int64 [N] and [M], in nats; 0 is best.

    In this direction classes that are never generated add nothing of their own, so no smoothing is needed; one class
    alone out of ten gives log 10. A class that is generated but that none of the M real images was judged as counts as
    if one had been, which keeps the sum finite.
    """
    classes = int(torch.cat([generated, real]).max()) + 1
    drawn = generated.bincount(minlength=classes).double() / len(generated)
    prior = real.bincount(minlength=classes).clamp(min=1).double() / len(real)
    return torch.xlogy(drawn, drawn / prior).sum().item()


# --- The table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ScoreInputs:
    """What scores are computed from: generated and real images as the judge sees them.

    Attributes:
        generated, real: Features, float64 [N, d] and [M, d], on one device.
        kernel_sums, radii: `kernel_sums(real)` and `radii(real)`, [M] each.
        classes, real_classes: Judged classes, int64 [N] and [M], on the CPU; None where the judge does not classify.
        training: Features of as many training images, float64 [M, d]; fewer where there are not as many, None for none.
    """

    generated: Tensor
    real: Tensor
    kernel_sums: Tensor
    radii: Tensor
    classes: Tensor | None
    real_classes: Tensor | None
    training: Tensor | None

    @cached_property
    def density_coverage(self) -> tuple[float, float]:
        """Both, which share their distances."""
        return density_coverage(self.generated, self.real, self.radii)


def _class_kl(inputs: ScoreInputs) -> float | None:
    if inputs.classes is None or inputs.real_classes is None:
        return None
    return class_kl(inputs.classes, inputs.real_classes)


def _memorisation(inputs: ScoreInputs) -> float | None:
    return None if inputs.training is None else memorisation(inputs.generated, inputs.training, inputs.real)


FUNCTIONS: Mapping[str, Callable[[ScoreInputs], Value]] = {
    "kid": lambda inputs: kid(inputs.generated, inputs.real, inputs.kernel_sums),
    "frechet": lambda inputs: frechet(inputs.generated, inputs.real),
    "density": lambda inputs: inputs.density_coverage[0],
    "coverage": lambda inputs: inputs.density_coverage[1],
    "class_kl": _class_kl,
    "memorisation": _memorisation,
}
