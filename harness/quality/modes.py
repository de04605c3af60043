"""Modes hit, and how evenly: how Stacked MNIST is scored (docs/metrics.md has the published figures)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.data import digit_frequencies
from harness.errors import HarnessError
from harness.experiment.scores import MODE_KL
from harness.quality.judge import Judge, format_shape
from harness.quality.score_set import ScoreSet, Value, compute
from harness.quality.scorer import some_of

DIGITS, CHANNELS = 10, 3
MODES = DIGITS**CHANNELS
SIMULATED = 1_000  # sets, for a reference: its mean is then known to 0.00003 at 26,000 samples


class ModeScorer:
    """Counts the modes in sets of `samples` stacked images: each channel is judged as a digit, the likeliest counting.

    Nothing is compared with real images. Of a larger set, images are chosen at random (seed 0).
    Raises HarnessError for a judge that does not classify digits.
    """

    def __init__(self, judge: Judge, *, samples: int = 26_000) -> None:
        self.judge = judge
        self.samples = samples
        self._digits(torch.zeros(1, CHANNELS, *(judge.shape or (1, 28, 28))[1:], dtype=torch.uint8))

    def score(self, pixels: Tensor) -> ScoreSet:
        """The scores of generated images, uint8 [N, 3, H, W], N >= samples. Raises HarnessError for other ones."""
        return self.score_all([pixels])[0]

    def score_all(self, sets: Sequence[Tensor]) -> list[ScoreSet]:
        """The scores of several sets of images, all of which the judge looks at in one go."""
        for pixels in sets:
            if pixels.ndim != 4 or pixels.shape[1] != CHANNELS:
                raise HarnessError(
                    f"images to score are {format_shape(pixels.shape[1:])}; "
                    f"stacked digits have {CHANNELS} channels, [N, 3, H, W]"
                )
        digits = self._digits(torch.cat([some_of(pixels, self.samples, seed=0) for pixels in sets]))
        return [scores_of(mode_counts(part)) for part in torch.split(digits, self.samples)]

    def references(self) -> dict[str, tuple[ScoreSet, ScoreSet]]:
        """What perfect generators would get with so many samples, by what they draw: mean and standard deviation."""
        return {
            "uniform digits": simulated(self.samples, torch.full((DIGITS,), 1 / DIGITS, dtype=torch.float64)),
            "digits as frequent as MNIST's": simulated(self.samples, digit_frequencies()),
        }

    def _digits(self, pixels: Tensor) -> Tensor:
        """The judged digit of every channel, int64 [N, 3]."""
        _, classes = self.judge.features_and_classes(pixels.flatten(0, 1).unsqueeze(1))
        if classes is None:
            raise HarnessError(
                f"judge {self.judge.name} returns features alone, and modes are counted by classes: "
                "return a pair of features and logits [N, 10], or choose the judge first"
            )
        if int(classes.max()) >= DIGITS:
            raise HarnessError(
                f"judge {self.judge.name} sees class {int(classes.max())} in a channel; expected logits of {DIGITS} "
                "classes, the digits"
            )
        return classes.cpu().view(-1, CHANNELS)


def mode_counts(digits: Tensor) -> Tensor:
    """How often each mode occurs, int64 [1000], among triples of digits, int64 [N, 3]."""
    triples = (digits[:, 0] * DIGITS + digits[:, 1]) * DIGITS + digits[:, 2]
    return triples.bincount(minlength=MODES)


def mode_kl(counts: Tensor) -> float:
    """KL of a histogram over all modes, [1000], from the uniform one, in nats: sum p log(1000 p).

    Its reference is never 0: a histogram of finitely many samples is not even.
    """
    share = counts.double() / counts.sum()
    kl = torch.xlogy(share, share * len(counts)).sum().clamp(min=0)  # rounding may leave a tiny number below
    return kl.item()


def modes(counts: Tensor) -> float:
    """Number of modes in a histogram, [1000], that are hit at least once."""
    return float((counts > 0).sum())


FUNCTIONS: Mapping[str, Callable[[Tensor], Value]] = {"mode_kl": mode_kl, "modes": modes}


def scores_of(counts: Tensor) -> ScoreSet:
    """The scores of a histogram over all modes, [1000]."""
    return compute(MODE_KL, FUNCTIONS, counts, MODE_KL.scores)


def simulated(samples: int, frequencies: Tensor, seed: int = 0) -> tuple[ScoreSet, ScoreSet]:
    """Mean and standard deviation of the scores of that many images whose channels are independent digits.

    frequencies: of the digits, float64 [10]. The histograms are drawn as they are, without a judge or an image.
    """
    joint = torch.einsum("i,j,k->ijk", frequencies, frequencies, frequencies).flatten()
    counts = np.random.default_rng(seed).multinomial(samples, joint.numpy(), size=SIMULATED)
    found = [scores_of(torch.from_numpy(row)).metrics("") for row in counts]
    columns = torch.tensor([list(each.values()) for each in found], dtype=torch.float64).T
    keys = [name.removeprefix("/") for name in found[0]]
    means = {key: column.mean().item() for key, column in zip(keys, columns, strict=True)}
    deviations = {key: column.std().item() for key, column in zip(keys, columns, strict=True)}
    return ScoreSet(MODE_KL, means), ScoreSet(MODE_KL, deviations)
