"""The runs and the pictures of docs/gan.md: a good run, collapse, divergence, overfitting, objectives, penalties.

    OMP_NUM_THREADS=1 python benchmarks/explained.py [RUN ...] [--out build/explained] [--images docs/images]

Every run is two files: NAME.json, its curves, and NAME.npz, what it drew; a run that has them is not trained again, so
the command goes on where it was stopped. With all of them there, the figures are drawn. Small networks, few images, one
thread, one seed: a quarter of an hour of one core. Prints a table of the runs in Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from circumstances import circumstances
from explained_figures import draw_all
from timing import print_table
from torch import Tensor

from harness import data
from harness import experiment as experiments
from harness.data import Images
from harness.errors import HarnessError
from harness.files import atomic_write
from harness.gan import Report, Training, from_uint8, sample_inputs
from harness.gan.penalties import interpolate, logits_and_input_gradients
from harness.gan.step import discriminator_logits, training_step
from harness.quality.scoring import Scoring

LOOKED_AT = 500  # images of each sort whose logits and slopes are kept, one by one
STEPS_KEPT = 300  # of a run's first ones
DRAWN = 100  # images of every epoch
ADVISED = 10  # images for which it is kept what G is told
TOLD = ("advised", "advice", "advised_logits")

FIXED = ("train.device=cpu", "train.precision=fp32", "train.seed=0", "data.validation=10000", "track.score_every=1")
PLAIN = ("conditional=false", "optimizer.schedule=constant")  # the convolutional pair, not told the class
SHORT = (*PLAIN, "data.subset=10000", "train.epochs=4")

# The numbers of a step, in the order of StepStats.
STEP_METRICS = ("loss/discriminator", "loss/generator", "gradient/discriminator", "gradient/generator", "loss/penalty")


@dataclass(frozen=True)
class Run:
    """overrides: after FIXED, as `harness run EXPERIMENT --set` takes them."""

    experiment: str
    overrides: tuple[str, ...]


def _short(*overrides: str) -> Run:
    return Run("conditional", (*SHORT, *overrides))


FEW_IMAGES = ("data.subset=500", "train.batch_size=50", "train.epochs=200", "track.score_every=10")
UNSCORED = ("data.subset=1000", "train.epochs=10", "track.score_every=null", "quality.judge=null")
RUNS = {
    "good": Run("conditional", ("data.subset=10000", "train.epochs=12")),
    "notebook": Run("notebook", ("data.subset=20000", "train.epochs=10")),
    "notebook-fixed": Run("notebook-fixed", ("data.subset=20000", "train.epochs=10")),
    "non-saturating": _short(),
    "minimax": _short("objective.kind=minimax"),
    "lsgan": _short("objective.kind=lsgan"),
    "hinge": _short("objective.kind=hinge"),
    "relativistic": _short("objective.kind=relativistic"),
    "wasserstein": _short("objective.kind=wasserstein"),
    "wasserstein-gp": _short("objective.kind=wasserstein", "objective.gradient_penalty=10"),
    "r1": _short("objective.r1=1"),
    "dragan": _short("objective.dragan=10"),
    "few": Run("conditional", (*PLAIN, *FEW_IMAGES)),
    "few-moved": Run("conditional", (*PLAIN, *FEW_IMAGES, "augment.translation=0.125")),
    "dead": Run("notebook", ("optimizer.lr=1", *UNSCORED)),
    "diverged": Run(
        "notebook",
        ("objective.kind=wasserstein", "optimizer.lr=0.1", f"discriminator.widths={[256] * 6}", *UNSCORED),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="RUN", help=f"train these only: {', '.join(RUNS)}")
    parser.add_argument("--out", type=Path, default=Path("build/explained"), help="the runs, two files each")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="where the figures go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        for name in arguments.names or RUNS:
            if name not in RUNS:
                raise HarnessError(f"there is no run {name!r}; the runs are {', '.join(RUNS)}")
            if not (arguments.out / f"{name}.json").exists():
                train(name, arguments.out)
    except HarnessError as error:
        sys.exit(f"explained: {error}")
    if all((arguments.out / f"{name}.json").exists() for name in RUNS):
        runs = {name: json.loads((arguments.out / f"{name}.json").read_text()) for name in RUNS}
        print_runs(runs)
        draw_all(runs, {name: np.load(arguments.out / f"{name}.npz") for name in RUNS}, arguments.images)


# One run ---------------------------------------------------------------------------------------------------------


def train(name: str, out: Path) -> None:
    """Train a run to its end or until a number is not finite, and write both files, the JSON last.

    A run that is dead, its gradients exactly 0, goes on: what the page shows of it comes after that.
    """
    run = RUNS[name]
    plan = experiments.load(run.experiment, [*FIXED, *run.overrides])
    splits = data.load(**plan.data.model_dump())
    training = Training(plan, splits.train)
    scoring = Scoring(plan, splits) if plan.quality.judge else None
    began, steps, points = time.process_time(), [], []
    kept: dict[str, list[Tensor]] = {what: [] for what in ("samples", "logits", *TOLD)}
    kept["samples"].append(training.sample(DRAWN))
    diverged = None
    while training.epoch < plan.train.epochs and not diverged:
        report = watched_epoch(training, steps)
        diverged = None if all(map(math.isfinite, report.metrics.values())) else report.diverged
        points.append({"epoch": report.epoch, "images": training.steps * plan.train.batch_size, **report.metrics})
        due = report.epoch % (plan.track.score_every or 1) == 0 and not diverged
        if scoring and due:
            (scores,) = scoring.score_during_training([plan], [training.generator_ema])
            classes = scoring.judge.features_and_classes(training.sample(1_000))[1]
            points[-1] |= scores.metrics("quality") | {"digits": classes.bincount(minlength=10).tolist()}
        if splits.validation is not None and due:
            kept["samples"].append(training.sample(DRAWN))
            kept["logits"].append(looked_at(training, splits.validation))
            for what, values in zip(TOLD, told_to(training), strict=True):
                kept[what].append(values)
        print(f"{name}, epoch {report.epoch} of {plan.train.epochs}", file=sys.stderr)
    arrays = {what: torch.stack(values).numpy() for what, values in kept.items() if values}
    with atomic_write(out / f"{name}.npz", parents=True) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, slopes=slopes(training).numpy(), **arrays)
    found = {
        "experiment": run.experiment,
        "overrides": [*FIXED, *run.overrides],
        "points": points,
        "steps": {name: [row[index] for row in steps[:STEPS_KEPT]] for index, name in enumerate(STEP_METRICS)},
        "diverged": diverged,
        "judge": scoring.identity if scoring else None,
        "cpu_seconds": time.process_time() - began,
        **circumstances("cpu"),
    }
    with atomic_write(out / f"{name}.json", parents=True) as fresh:
        fresh.write_text(json.dumps(found, indent=1) + "\n")


def watched_epoch(training: Training, steps: list[list[float]]) -> Report:
    """`Training.train_epoch`, step by step, so that the numbers of each can be appended to `steps`."""
    began, first = time.perf_counter(), len(steps)
    training.begin_epoch()
    for _ in range(training.steps_per_epoch):
        training.set_schedule()
        steps.append([number.item() for number in training_step(training, training.randomness.step)])
        training.steps += 1
    return training.end_epoch([sum(column) for column in zip(*steps[first:], strict=True)], time.perf_counter() - began)


# What D says -----------------------------------------------------------------------------------------------------


def some(training: Training, images: Images) -> tuple[Tensor, Tensor | None]:
    """Images as the networks see them, and their labels where D is told."""
    count = min(LOOKED_AT, len(images))
    labels = images.labels[:count] if training.experiment.conditional and images.labels is not None else None
    return from_uint8(images.pixels[:count]), labels


def generated(training: Training, count: int = LOOKED_AT) -> tuple[Tensor, Tensor | None]:
    """The same of images drawn by G."""
    inputs = sample_inputs(training.experiment, training.images, count, columns=count == ADVISED)
    classes = training.images.classes
    with torch.no_grad():
        return training.generator(inputs), inputs[:, -classes:].argmax(1) if training.experiment.conditional else None


@torch.no_grad()
def looked_at(training: Training, held_out: Images) -> Tensor:
    """Logits [3, LOOKED_AT] of training images, held-out images and generated ones."""
    sorts = some(training, training.images), some(training, held_out), generated(training)
    return torch.stack(
        [discriminator_logits(training.losses, training.discriminator, images, labels=told) for images, told in sorts]
    )


def told_to(training: Training) -> tuple[Tensor, Tensor, Tensor]:
    """Generated images [ADVISED, H, W], what D's gradient says of their pixels, likewise, and their logits [ADVISED].

    The gradient is that of G's loss, turned round: where it is positive, a lighter pixel would lower the loss.
    """
    images, labels = generated(training, ADVISED)
    images.requires_grad_()
    logits = discriminator_logits(training.losses, training.discriminator, images, labels=labels)
    real, told = some(training, training.images.index_select(torch.arange(ADVISED)))
    of_real = discriminator_logits(training.losses, training.discriminator, real, labels=told).detach()
    loss = training.losses.objective.generator(logits, of_real)
    (gradient,) = torch.autograd.grad(loss * ADVISED, images)  # the loss is a mean over the batch
    return images.detach()[:, 0], -gradient[:, 0], logits.detach()


def slopes(training: Training) -> Tensor:
    """Norms [3, LOOKED_AT] of D's gradient at training images, at generated ones, and at points between them."""
    (real, labels), (fake, asked) = some(training, training.images), generated(training)
    blend = torch.rand(LOOKED_AT, generator=torch.Generator().manual_seed(0))
    places = (real, labels), (fake, asked), (interpolate(real, fake, blend), labels)
    return torch.stack(
        [
            logits_and_input_gradients(
                partial(discriminator_logits, training.losses, training.discriminator, labels=told), images
            )[1].norm(dim=1)
            for images, told in places
        ]
    ).detach()


def print_runs(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """The last epoch of each."""
    names = ["loss/discriminator", "loss/generator", "logit/real", "logit/fake", "accuracy/real", "accuracy/fake"]
    names += ["quality/kid", "quality/coverage", "quality/class_kl", "quality/memorisation"]
    rows = []
    for name, run in runs.items():
        last = run["points"][-1]
        cells = [f"{last[each]:.3g}" if each in last else "" for each in names]
        rows.append([name, f"{last['images']:,}", *cells, f"{run['cpu_seconds']:.0f}", run["diverged"] or ""])
    print_table(["run", "images", *names, "CPU s", "diverged"], rows)


if __name__ == "__main__":
    main()
