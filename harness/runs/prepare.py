"""Prepare a run before it is tracked: load images, build networks, load or train the judge."""

from __future__ import annotations

from harness import data
from harness.experiment import Experiment, trust
from harness.experiment.tags import Tag
from harness.gan import Training, resolve, resolve_untimed
from harness.quality import has_judge
from harness.quality.scoring import Scoring, judge_images
from harness.results import changes
from harness.results.changes import RecordedInputs
from harness.runs.display import Display


def prepare(
    experiment: Experiment,
    display: Display,
    reuse: Scoring | None = None,
    recorded: RecordedInputs | None = None,
    *,
    timed: bool = True,
) -> tuple[Training, Scoring | None]:
    """Load the images, resolve `auto`, build the networks, prepare the judge.

    Args:
        experiment: The experiment.
        display: Receives messages.
        reuse: Images and judge of an earlier run. They are used if they match the experiment.
        recorded: Images, judge and code that a resumed run or study started with. The present ones must match.
        timed: Time fp32 against bf16 if `auto` needs it. Otherwise the precision stays `auto`, and trains as fp32.

    Returns:
        The training, and its scoring; None if nothing is scored.

    Raises:
        HarnessError: The experiment cannot be trained.
    """
    for field, name in experiment.custom_classes.items():
        trust.check(name, field)
    matches = reuse is not None and reuse.matches(experiment)
    splits = reuse.splits if reuse is not None and matches else _splits(experiment, display)
    if recorded is not None:
        recorded.check_data(changes.image_tags(splits), display.message)
        recorded.check_code(experiment, display.message)
    training = _training(experiment, splits, display, timed)
    scoring = reuse if matches else _scoring(training.experiment, splits, display)
    if recorded is not None and scoring is not None:
        recorded.check_data({Tag.JUDGE: scoring.identity}, display.message)
    return training, scoring


def _splits(experiment: Experiment, display: Display) -> data.Splits:
    display.message(f"loading the images of {experiment.data.name} ...")
    return data.load(**experiment.data.model_dump(), message=display.message)


def _scoring(experiment: Experiment, splits: data.Splits, display: Display) -> Scoring | None:
    """Return the scoring of an experiment, with its judge loaded; None if nothing is scored."""
    judge = experiment.quality.judge
    if judge is None:
        return None
    if not has_judge(judge, judge_images(experiment, splits.train)):
        display.message(
            f"{splits.train.name} has no labels to train a judge on, so nothing is scored: for scores, set "
            "quality.judge to a custom feature network, package.module:Class (docs/data.md)"
        )
        return None
    display.message("preparing scores ...")
    scoring = Scoring(experiment, splits, message=display.message)
    scoring.prepare()
    if not experiment.primary.against_real:
        display.message(
            f"{experiment.data.name} is scored by counting modes: no image is compared with real ones, so there are no "
            "distances, no memorisation score and no neighbour grids"
        )
    elif not experiment.data.validation:
        display.message(
            "no validation images are held out (data.validation is 0): the run is scored once, on the test split"
        )
    return scoring


def _training(experiment: Experiment, splits: data.Splits, display: Display, timed: bool) -> Training:
    if timed:
        experiment = resolve(experiment, splits.train, display.message)
    else:
        experiment, _ = resolve_untimed(experiment, splits.train)
    return Training(experiment, splits.train, splits.validation)
