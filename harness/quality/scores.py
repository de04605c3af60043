"""The scores that compare generated with real images in the feature space of a judge.

Plain functions over float64 tensors: `generated` [N, d] and `real` [M, d] are features on one device. All N x M
matrices are computed in strips of rows, so that 10,000 against 10,000 takes well under 1 GB. `FUNCTIONS` computes each
score of the table in `harness/experiment/scores.py`.
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
    """Yield pairwise(x, y) [N, M] a few rows at a time, in the same memory: a strip is valid until the next one."""
    rows = max(1, CHUNK_VALUES // len(y))
    buffer = x.new_empty(min(rows, len(x)), len(y))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        yield pairwise(part, y, buffer[: len(part)])


def squared_distances(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """Return squared Euclidean distances, [n, M]. Equal rows may have a tiny distance of either sign, by rounding."""
    torch.addmm(y.square().sum(1).expand_as(out), x, y.T, alpha=-2, out=out)
    return out.add_(x.square().sum(1, keepdim=True))


def cubic_kernel(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """Return (x . y / d + 1)^3, the polynomial kernel of KID, [n, M]."""
    return torch.addmm(x.new_ones(1), x, y.T, alpha=1 / x.shape[1], out=out).pow_(3)


# --- Kernel distance --------------------------------------------------------------------------------------------------


def kernel_sums(x: Tensor) -> Tensor:
    """Return, for every row of x, the sum of its kernel with all other rows, [N]."""
    sums = torch.cat([strip.sum(1) for strip in strips(cubic_kernel, x, x)])
    return sums - (x.square().mean(1) + 1) ** 3  # minus the kernel with itself


def kid(generated: Tensor, real: Tensor, real_sums: Tensor) -> tuple[float, float]:
    """Return KID, the unbiased squared MMD (Binkowski et al. 2018, eq. 4; 0 is best), and its standard error.

    real_sums: kernel_sums(real). N and M must be 3 or more.

    All pairs are used, instead of random subsets of 1,000 as in the paper. Both have the same expectation, but the
    average over every pair has the lowest variance of all unbiased estimates, and no seed. The standard error is the
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
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the fitted Gaussians (Heusel et al. 2017; 0 is best).

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
    """Return the square root of a symmetric matrix. Negative eigenvalues, from rounding, count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root


# --- Neighbours -------------------------------------------------------------------------------------------------------


def radii(real: Tensor) -> Tensor:
    """Return the squared distance of every real image to its k-th nearest neighbour, [M]."""
    return torch.cat([strip.kthvalue(NEIGHBOURS + 1, dim=1).values for strip in strips(squared_distances, real, real)])


def density_coverage(generated: Tensor, real: Tensor, real_radii: Tensor) -> tuple[float, float]:
    """Return density and coverage (Naeem et al. 2020, eqs. 3 and 4).

    Every real image has a ball whose radius is the distance to its k-th nearest real neighbour. Density is the mean
    number of balls that contain a generated image, divided by k; it may exceed 1. Coverage is the share of balls that
    contain a generated image. The border belongs to the ball, so that a set covers itself.

    Args:
        generated: Features [N, d].
        real: Features [M, d].
        real_radii: radii(real).
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
    """Return the distance of every row of x to its nearest row of y, [N], and the index of that row, int64 [N]."""
    found = [strip.min(1) for strip in strips(squared_distances, x, y)]
    return torch.cat([near.values for near in found]).clamp(min=0).sqrt(), torch.cat([near.indices for near in found])


def memorisation(generated: Tensor, training: Tensor, held_out: Tensor) -> float:
    """Return the mean distance to the nearest training image, divided by that to the nearest held-out image.

    It is near 0 for copies of training images, and about 1 for unseen real images. Only the first rows of the larger
    set are used: with more images, the nearest one would be closer for any generator.
    """
    count = min(len(training), len(held_out))
    to_training = nearest(generated, training[:count])[0].mean().item()
    to_held_out = nearest(generated, held_out[:count])[0].mean().item()
    if to_held_out == 0:  # copies of held-out images, which may be training images as well
        return 1.0 if to_training == 0 else float("inf")
    return to_training / to_held_out


# --- Classes ----------------------------------------------------------------------------------------------------------


def class_kl(generated: Tensor, real: Tensor) -> float:
    """Return KL(generated || real) of the histograms of predicted classes, int64 [N] and [M], in nats; 0 is best.

    In this direction, classes that are never generated add nothing, so no smoothing is needed. A generator of one class
    out of ten gets log 10. A generated class that no real image has counts as if one had it, which keeps the sum
    finite.
    """
    classes = int(torch.cat([generated, real]).max()) + 1
    share = generated.bincount(minlength=classes).double() / len(generated)
    prior = real.bincount(minlength=classes).clamp(min=1).double() / len(real)
    return torch.xlogy(share, share / prior).sum().item()


# --- The table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ScoreInputs:
    """The inputs of the scores: features and classes of generated and real images.

    Attributes:
        generated, real: Features, float64 [N, d] and [M, d], on one device.
        kernel_sums, radii: `kernel_sums(real)` and `radii(real)`, [M] each.
        classes, real_classes: Predicted classes, int64 [N] and [M], on the CPU; None if the judge does not classify.
        training: Features of training images, float64, [M, d] or fewer rows; None if there are none.
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
        """Density and coverage, which use the same distances."""
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
