"""An experiment's scorers: which judge, which images, how many; and its scores of a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from harness.data import Images, Splits, load_split, progress_messages
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.scores import CHANNELS
from harness.experiment.sections import VALIDATION_IMAGES
from harness.gan import generate, generate_all, sample_inputs
from harness.quality import FEWEST, Judge, ModeScorer, Scorer, ScoreSet, load_judge

Split = Literal["validation", "test"]
_NOISE = {"validation": 1, "test": 2}  # parts of the stream `samples`: what was chosen on one is not scored on it


class Scoring:
    """Scores generators of one experiment. Judge and real images are looked at when they are first needed.

    judge: `quality.judge` of the experiment unless another is named.
    message: is called with lines about the training of a judge, if there is none yet.
    """

    def __init__(
        self,
        experiment: Experiment,
        splits: Splits,
        *,
        judge: str | None = None,
        message: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.experiment = experiment
        self.splits = splits
        self._which = judge or experiment.quality.judge or "first"
        same_judge = self._which == experiment.quality.judge
        self._weights = experiment.quality.judge_weights if same_judge and ":" in self._which else None
        self._notice = message

    @cached_property
    def judge(self) -> Judge:
        """The judge; it may have to be trained first."""
        weights = Path(self._weights) if self._weights else None
        device = self.experiment.train.device
        report_progress = progress_messages(self._notice, "training the judge")
        images = judge_images(self.experiment, self.splits.train)
        return load_judge(self._which, images, device, self._notice, report_progress, weights)

    def serves(self, experiment: Experiment) -> bool:
        """Whether it scores, with the images that it has, what this experiment generates."""
        mine = self.experiment
        same = (experiment.data, experiment.quality, experiment.train.device) == (
            mine.data,
            mine.quality,
            mine.train.device,
        )
        return same and bool(experiment.track.score_every) == bool(mine.track.score_every)

    def prepare(self) -> None:
        """Have judge and splits ready. Raises HarnessError for whatever of them does not fit."""
        if self.experiment.primary.against_real:
            self.judge.features_and_classes(self.splits.train.pixels[:2])  # a custom judge may not accept such images
        _ = self.test
        if self.experiment.track.score_every:
            _ = self.while_training

    @property
    def identity(self) -> str:
        """The judge's name and hash, as they stand beside every score."""
        return f"{self.judge.name} {self.judge.sha256[:12]}"

    @cached_property
    def while_training(self) -> Scorer | ModeScorer:
        """Against the validation images where images are compared, with few samples."""
        return self._scorer("validation", self.experiment.quality.samples_while_training)

    @cached_property
    def test(self) -> Scorer | ModeScorer:
        """Against the test images, with `quality.samples`."""
        return self._scorer("test", self.experiment.quality.samples)

    @cached_property
    def validation(self) -> Scorer | ModeScorer:
        """Against the validation images, with `quality.samples`."""
        return self._scorer("validation", self.experiment.quality.samples)

    def between_epochs(self, experiments: Sequence[Experiment], generators: Sequence[nn.Module]) -> Sequence[ScoreSet]:
        """Few samples of each, as `while_training` scores them, for the curve and for choosing the best epoch.

        The experiments are this one, or its like: trained on the same images, with the same scores.
        """
        scorer = self.while_training
        inputs = [self._inputs(experiment, scorer, "validation") for experiment in experiments]
        return scorer.score_all(generate_all(generators, inputs))

    def of(self, experiment: Experiment, generator: nn.Module, split: Split) -> ScoreSet:
        """`quality.samples` of the generator of an experiment that is trained on the same images, against a split.

        Where nothing is compared with real images, the split only says from which noise the samples are drawn.
        """
        scorer = self.test if split == "test" else self.validation
        return scorer.score(generate(generator, self._inputs(experiment, scorer, split)))

    def neighbours(self, pixels: Tensor) -> Tensor | None:
        """The nearest training image of each, in the judge's features; None where modes are counted instead."""
        return self.test.neighbours(pixels) if isinstance(self.test, Scorer) else None

    def _scorer(self, split: Split, samples: int) -> Scorer | ModeScorer:
        if not self.experiment.primary.against_real:
            return ModeScorer(self.judge, samples=samples)
        real = self.splits.test if split == "test" else self.splits.validation
        if real is None:
            raise HarnessError(
                f"experiment {self.experiment.name} holds out no validation images (data.validation is 0): "
                f"score it on the test split, or train with data.validation={VALIDATION_IMAGES}"
            )
        if len(real) < FEWEST:
            raise HarnessError(
                f"{real.name} has {len(real)} images, and scores take {FEWEST} or more: train on more images, or score "
                "another run"
            )
        return Scorer(self.judge, real, self.splits.train, samples=samples, message=self._notice)

    def _inputs(self, experiment: Experiment, scorer: Scorer | ModeScorer, split: Split) -> Tensor:
        return sample_inputs(experiment, self.splits.train, scorer.samples, part=_NOISE[split], columns=False)


def judge_images(experiment: Experiment, images: Images) -> Images:
    """What the judge of an experiment sees: its training images, or where modes are counted those of a channel."""
    channel = CHANNELS.get(experiment.data.name)
    return images if channel is None else load_split(channel, "train")
