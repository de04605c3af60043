"""What `auto` stands for: settled once, before a run starts, and stored with it."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan.population import Population
from harness.gan.training import Training

WORTH = 1.15  # how much faster bf16, or a population, has to be to be chosen
TIMED_STEPS, TIMED_EPOCHS = 6, 3
POPULATION_TIMED = 4


def resolve(experiment: Experiment, images: Images) -> Experiment:
    """The experiment with `train.device` and `train.precision` settled for training on these images.

    Raises HarnessError when the device asked for is not there.
    """
    device = resolved_device(experiment.train.device)
    experiment = experiment.with_values({"train.device": device})
    if experiment.train.precision == "auto":
        experiment = experiment.with_values({"train.precision": _faster_precision(experiment, images)})
    return experiment


def resolved_device(wanted: str) -> str:
    """`wanted`, or what auto stands for. Raises HarnessError for a device that is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[wanted]:
        usable = ", ".join(name for name, usable in there.items() if usable)
        raise HarnessError(f"device {wanted} was asked for, but torch finds none here; usable: {usable} (or auto)")
    return wanted


def resolved_population(experiment: Experiment, images: Images, count: int) -> int:
    """How many of `count` trainings like this one to train at once: all of them where that is faster here, else 1.

    `experiment` has its device and precision resolved. On a CPU, where a few show what many gain, four are timed.
    """
    if experiment.train.device == "mps" or count < 2:
        return 1
    size = min(count, POPULATION_TIMED) if experiment.train.device == "cpu" else count
    try:
        alone, together = _population_seconds(experiment, _some(images, experiment), size)
    except (torch.OutOfMemoryError, HarnessError):  # too many, or networks of one's own that cannot be vectorised
        return 1
    finally:
        gc.collect()  # recorded steps and their trainings hold on to each other
    return count if size * alone > WORTH * together else 1


def _population_seconds(experiment: Experiment, images: Images, size: int) -> tuple[float, float]:
    plan = experiment.with_values({"train.epochs": 1 + TIMED_EPOCHS})
    alone, together = Training(plan, images), Population([Training(plan, images) for _ in range(size)])
    return _least(lambda: alone.train_epoch().seconds, lambda: together.train_epoch()[0][1].seconds)


def _faster_precision(experiment: Experiment, images: Images) -> str:
    """Time a few steps of both on this machine: what a CPU's flags promise is often not kept."""
    some = _some(images, experiment)
    plans = [
        experiment.with_values({"train.precision": name, "train.epochs": 1 + TIMED_EPOCHS}) for name in ("fp32", "bf16")
    ]
    first, second = (Training(plan, some) for plan in plans)
    fp32, bf16 = _least(lambda: first.train_epoch().seconds, lambda: second.train_epoch().seconds)
    for training in (first, second):
        training.forget_recording()
    return "bf16" if fp32 > WORTH * bf16 else "fp32"


def _some(images: Images, experiment: Experiment) -> Images:
    """As many as the timed steps of an epoch take."""
    several = experiment.train.discriminator_steps
    batches = several * -(-TIMED_STEPS // several)
    return images.take(torch.arange(batches * experiment.train.batch_size) % len(images))


def _least(first: Callable[[], float], second: Callable[[], float]) -> tuple[float, float]:
    """Of the seconds that each says it took, in turn, after one to warm up: what else the machine does only adds."""
    rounds = [(first(), second()) for _ in range(1 + TIMED_EPOCHS)]
    one, other = zip(*rounds[1:], strict=True)
    return min(one), min(other)
