"""Score generators of an experiment with its judge, images and number of samples."""

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
from harness.formatting import format_count
from harness.gan import generate, generate_all, sample_inputs
from harness.quality import MIN_IMAGES, Judge, ModeScorer, Scorer, ScoreSet, load_judge

Split = Literal["validation", "test"]
_NOISE = {
    "validation": 1,
    "test": 2,
}  # parts of the stream `samples`: final scores do not use the noise that selected the best epoch


class Scoring:
    """Scores generators of one experiment. The judge is loaded when it is first needed.

    Attributes:
        experiment: The experiment.
        splits: Its images.
    """

    def __init__(
        self,
        experiment: Experiment,
        splits: Splits,
        *,
        judge: str | None = None,
        message: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare nothing yet; see `prepare`.

        Args:
            experiment: The experiment.
            splits: Its images.
            judge: The judge. None: `quality.judge` of the experiment.
            message: Receives progress, one line a call, if a judge is trained.
        """
        self.experiment = experiment
        self.splits = splits
        self._which = judge or experiment.quality.judge or "first"
        same_judge = self._which == experiment.quality.judge
        self._weights = experiment.quality.judge_weights if same_judge and ":" in self._which else None
        self._message = message

    @cached_property
    def judge(self) -> Judge:
        """The judge. It is trained first if necessary."""
        weights = Path(self._weights) if self._weights else None
        device = self.experiment.train.device
        report_progress = progress_messages(self._message, "training the judge")
        images = judge_images(self.experiment, self.splits.train)
        return load_judge(self._which, images, device, self._message, report_progress, weights)

    def matches(self, experiment: Experiment) -> bool:
        """Return whether this scoring, with its images, fits another experiment."""
        this = self.experiment
        return (
            experiment.data == this.data
            and experiment.quality == this.quality
            and experiment.train.device == this.train.device
            and bool(experiment.track.score_every) == bool(this.track.score_every)
        )

    def prepare(self) -> None:
        """Load the judge and check the splits. Raises HarnessError if one of them cannot be used."""
        if self.experiment.primary.against_real:
            self.judge.features_and_classes(self.splits.train.pixels[:2])  # a custom judge may not accept such images
        _ = self.test
        if self.experiment.track.score_every:
            _ = self.while_training

    @property
    def identity(self) -> str:
        """The name and the hash of the judge, which are printed with every score."""
        return f"{self.judge.name} {self.judge.sha256[:12]}"

    @cached_property
    def while_training(self) -> Scorer | ModeScorer:
        """The scorer against the validation images, with few samples."""
        return self._scorer("validation", self.experiment.quality.samples_while_training)

    @cached_property
    def test(self) -> Scorer | ModeScorer:
        """The scorer against the test images, with `quality.samples`."""
        return self._scorer("test", self.experiment.quality.samples)

    @cached_property
    def validation(self) -> Scorer | ModeScorer:
        """The scorer against the validation images, with `quality.samples`."""
        return self._scorer("validation", self.experiment.quality.samples)

    def score_during_training(
        self, experiments: Sequence[Experiment], generators: Sequence[nn.Module]
    ) -> Sequence[ScoreSet]:
        """Score few samples of each generator, for the curve and to select the best epoch.

        The experiments must have the same images and scores as this one.
        """
        scorer = self.while_training
        inputs = [self._inputs(experiment, scorer, "validation") for experiment in experiments]
        return scorer.score_all(generate_all(generators, inputs))

    def score(self, experiment: Experiment, generator: nn.Module, split: Split) -> ScoreSet:
        """Score `quality.samples` samples of a generator against a split. It must be trained on the same images.

        If samples are not compared with real images, the split only selects the noise.
        """
        scorer = self.test if split == "test" else self.validation
        return scorer.score(generate(generator, self._inputs(experiment, scorer, split)))

    def neighbours(self, pixels: Tensor) -> Tensor | None:
        """Return the nearest training image of each image, in the feature space; None if modes are counted instead."""
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
        if len(real) < MIN_IMAGES:
            raise HarnessError(
                f"{real.name} has {format_count(len(real), 'image')}, but scores need {MIN_IMAGES} or more: train on "
                "more images, or score another run"
            )
        return Scorer(self.judge, real, self.splits.train, samples=samples, message=self._message)

    def _inputs(self, experiment: Experiment, scorer: Scorer | ModeScorer, split: Split) -> Tensor:
        return sample_inputs(experiment, self.splits.train, scorer.samples, part=_NOISE[split], columns=False)


def judge_images(experiment: Experiment, images: Images) -> Images:
    """Return the images that the judge is trained on: the training images, or those of a channel to count modes."""
    channel = CHANNELS.get(experiment.data.name)
    return images if channel is None else load_split(channel, "train")
