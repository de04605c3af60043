"""What has to be ready before a run begins or is resumed: images, networks, judge; nothing is tracked before."""

from __future__ import annotations

from harness import data
from harness.experiment import Experiment, trust
from harness.experiment.tags import Tag
from harness.gan import Training, resolve, resolve_untimed
from harness.quality import has_judge
from harness.quality.scoring import Scoring, judge_images
from harness.results import changes
from harness.results.changes import Recorded
from harness.runs.display import Display


def prepare(
    experiment: Experiment,
    display: Display,
    ready: Scoring | None = None,
    recorded: Recorded | None = None,
    *,
    timed: bool = True,
) -> tuple[Training, Scoring | None]:
    """Load the images, settle what `auto` stands for, build the networks, have the judge ready.

    recorded: what a run or study that is resumed was trained on and with. Whatever can be wrong with an experiment is
    found here, before anything is tracked.
    timed: time fp32 against bf16 where `auto` needs it. Otherwise the precision stays `auto`, and trains as fp32.
    """
    for leaf, name in experiment.custom_classes.items():
        trust.check(name, leaf)
    serves = ready is not None and ready.serves(experiment)
    splits = ready.splits if ready is not None and serves else _splits(experiment, display)
    if recorded is not None:
        recorded.check_data(changes.of_images(splits), display.message)
        recorded.check_code(experiment, display.message)
    training = _training(experiment, splits, display, timed)
    scoring = ready if serves else _scoring(training.experiment, splits, display)
    if recorded is not None and scoring is not None:
        recorded.check_data({Tag.JUDGE: scoring.identity}, display.message)
    return training, scoring


def _splits(experiment: Experiment, display: Display) -> data.Splits:
    display.message(f"loading the images of {experiment.data.name} ...")
    return data.load(**experiment.data.model_dump(), message=display.message)


def _scoring(experiment: Experiment, splits: data.Splits, display: Display) -> Scoring | None:
    """Its scoring, with the judge ready; None where nothing is scored."""
    judge = experiment.quality.judge
    if judge is None:
        return None
    if not has_judge(judge, judge_images(experiment, splits.train)):
        display.message(
            f"{splits.train.name} has no labels to train a judge on, so nothing is scored: for scores, set "
            "quality.judge to a feature network of your own, package.module:Class (docs/data.md)"
        )
        return None
    display.message("preparing scores ...")
    scoring = Scoring(experiment, splits, message=display.message)
    scoring.prepare()
    if not experiment.primary.against_real:
        display.message(
            f"{experiment.data.name} is scored by the modes that are hit: no image is compared with real ones, so "
            "there are no distances, no memorisation and no picture of neighbours"
        )
    elif not experiment.data.validation:
        display.message(
            "no validation images are held out (data.validation is 0): scored on the test split, at the end"
        )
    return scoring


def _training(experiment: Experiment, splits: data.Splits, display: Display, timed: bool) -> Training:
    if timed:
        experiment = resolve(experiment, splits.train, display.message)
    else:
        experiment, _ = resolve_untimed(experiment, splits.train)
    return Training(experiment, splits.train, splits.validation)
