"""Score Stacked MNIST: the number of modes, and their KL divergence (docs/metrics.md has published results)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.data import digit_frequencies
from harness.errors import HarnessError
from harness.experiment.scores import MODE_KL
from harness.quality.judge import Judge, format_shape
from harness.quality.score_set import ScoreSet, Value, compute_scores
from harness.quality.scorer import random_subset

DIGITS, CHANNELS = 10, 3
MODES = DIGITS**CHANNELS
SIMULATIONS = 1_000  # sets for a reference: the error of its mean is 0.00003 at 26,000 samples


class ModeScorer:
    """Counts the modes in sets of stacked images. The judge classifies each channel as a digit.

    Images are not compared with real ones.

    Attributes:
        judge: The judge. HarnessError is raised if it does not classify digits.
        samples: Number of images of a set that are scored. Of a larger set, they are selected at random (seed 0).
    """

    def __init__(self, judge: Judge, *, samples: int = 26_000) -> None:
        self.judge = judge
        self.samples = samples
        self._digits(torch.zeros(1, CHANNELS, *(judge.shape or (1, 28, 28))[1:], dtype=torch.uint8))

    def score(self, pixels: Tensor) -> ScoreSet:
        """Return the scores of generated images, uint8 [N, 3, H, W], N >= samples. Raises HarnessError for others."""
        return self.score_all([pixels])[0]

    def score_all(self, sets: Sequence[Tensor]) -> list[ScoreSet]:
        """Return the scores of several sets of images. The judge classifies all of them in one call."""
        for pixels in sets:
            if pixels.ndim != 4 or pixels.shape[1] != CHANNELS:
                raise HarnessError(
                    f"images to score are {format_shape(pixels.shape[1:])}; "
                    f"stacked digits have {CHANNELS} channels, [N, 3, H, W]"
                )
        digits = self._digits(torch.cat([random_subset(pixels, self.samples, seed=0) for pixels in sets]))
        return [score_counts(mode_counts(part)) for part in torch.split(digits, self.samples)]

    def references(self) -> dict[str, tuple[ScoreSet, ScoreSet]]:
        """Return the scores of perfect generators by name: mean and standard deviation over simulated sets."""
        return {
            "uniform digits": simulate_scores(self.samples, torch.full((DIGITS,), 1 / DIGITS, dtype=torch.float64)),
            "digits as frequent as MNIST's": simulate_scores(self.samples, digit_frequencies()),
        }

    def _digits(self, pixels: Tensor) -> Tensor:
        """Return the predicted digit of every channel, int64 [N, 3]."""
        _, classes = self.judge.features_and_classes(pixels.flatten(0, 1).unsqueeze(1))
        if classes is None:
            raise HarnessError(
                f"judge {self.judge.name} returns features only, but modes are counted by class: "
                "return a pair of features and logits [N, 10], or choose the judge first"
            )
        if int(classes.max()) >= DIGITS:
            raise HarnessError(
                f"judge {self.judge.name} predicts class {int(classes.max())} for a channel; expected logits of the "
                f"{DIGITS} digits"
            )
        return classes.cpu().view(-1, CHANNELS)


def mode_counts(digits: Tensor) -> Tensor:
    """Return the number of images of each mode, int64 [1000], for triples of digits, int64 [N, 3]."""
    triples = (digits[:, 0] * DIGITS + digits[:, 1]) * DIGITS + digits[:, 2]
    return triples.bincount(minlength=MODES)


def mode_kl(counts: Tensor) -> float:
    """Return the KL divergence of a histogram over all modes, [1000], from the uniform one, in nats: sum p log(1000 p).

    It is never 0 for a perfect generator: a histogram of finitely many samples is not uniform.
    """
    share = counts.double() / counts.sum()
    kl = torch.xlogy(share, share * len(counts)).sum().clamp(min=0)  # rounding may leave a tiny number below
    return kl.item()


def modes(counts: Tensor) -> float:
    """Return the number of modes with at least one image in a histogram, [1000]."""
    return float((counts > 0).sum())


FUNCTIONS: Mapping[str, Callable[[Tensor], Value]] = {"mode_kl": mode_kl, "modes": modes}


def score_counts(counts: Tensor) -> ScoreSet:
    """Return the scores of a histogram over all modes, [1000]."""
    return compute_scores(MODE_KL, FUNCTIONS, counts, MODE_KL.scores)


def simulate_scores(samples: int, frequencies: Tensor, seed: int = 0) -> tuple[ScoreSet, ScoreSet]:
    """Simulate histograms of images whose channels are independent digits, without images or a judge.

    Args:
        samples: Number of images of a histogram.
        frequencies: Frequencies of the digits, float64 [10].
        seed: Random seed.

    Returns:
        Mean and standard deviation of the scores.
    """
    joint = torch.einsum("i,j,k->ijk", frequencies, frequencies, frequencies).flatten()
    counts = np.random.default_rng(seed).multinomial(samples, joint.numpy(), size=SIMULATIONS)
    found = [score_counts(torch.from_numpy(row)).metrics("") for row in counts]
    columns = torch.tensor([list(each.values()) for each in found], dtype=torch.float64).T
    keys = [name.removeprefix("/") for name in found[0]]
    means = {key: column.mean().item() for key, column in zip(keys, columns, strict=True)}
    deviations = {key: column.std().item() for key, column in zip(keys, columns, strict=True)}
    return ScoreSet(MODE_KL, means), ScoreSet(MODE_KL, deviations)
