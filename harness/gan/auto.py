"""What `auto` stands for: settled once, before a run starts, and stored with it."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from harness.data import Images
from harness.data.base import Message, silent
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import auto_cache
from harness.gan.batched import BatchedTraining
from harness.gan.hardware import has_bf16
from harness.gan.timing import MOST, STEPS, Turn, is_faster, time_turn
from harness.gan.training import Training

MEMBERS_TIMED = 4  # on a CPU, where a few members show what many gain
_PRECISIONS = ("fp32", "bf16")
_TOGETHER, _ALONE = "together", "one after the other"

Compare = Callable[[Turn, Turn], bool]
"""Whether the first way to train is worth taking instead of the second one."""


def resolve(
    experiment: Experiment, images: Images, message: Message = silent, *, compare: Compare | None = None
) -> Experiment:
    """The experiment with `train.device` and `train.precision` settled for training on these images.

    notice: told before something is timed. compare: `timing.is_faster`, or what a test puts in its place. Raises
    HarnessError when the device asked for is not there.
    """
    experiment = _on_device(experiment)
    if experiment.train.precision == "auto":
        known = _known_precision(experiment, images)
        precision = known[0] if known else _timed_precision(experiment, images, message, compare or is_faster)
        experiment = experiment.with_values({"train.precision": precision})
    return experiment


def resolve_untimed(experiment: Experiment, images: Images) -> tuple[Experiment, str | None]:
    """`resolve` as far as it needs no timing, and a sentence about the precision. None where it was not `auto`.

    A precision that only a timing can tell stays `auto`.
    """
    experiment = _on_device(experiment)
    if experiment.train.precision != "auto":
        return experiment, None
    known = _known_precision(experiment, images)
    if known is None:
        return experiment, "a run times fp32 against bf16, once on this machine"
    precision, reason = known
    return experiment.with_values({"train.precision": precision}), reason


def resolved_device(wanted: str) -> str:
    """`wanted`, or what auto stands for. Raises HarnessError for a device that is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[wanted]:
        usable = ", ".join(name for name, usable in there.items() if usable)
        raise HarnessError(f"device {wanted} was asked for, but torch finds none here; usable: {usable} (or auto)")
    return wanted


def resolve_batch_runs(
    experiment: Experiment, images: Images, count: int, message: Message = silent, *, compare: Compare | None = None
) -> int:
    """How many of `count` trainings like this one to train at once: all of them where that is faster here, else 1.

    `experiment` has its device and precision resolved. notice, compare: as in `resolve`.
    """
    if experiment.train.device == "mps" or count < 2:
        return 1
    size = min(count, MEMBERS_TIMED) if experiment.train.device == "cpu" else count
    facts = auto_cache.facts("population", experiment, images, precision=experiment.train.precision, members=size)
    answer = auto_cache.load_answer(facts, (_TOGETHER, _ALONE))
    if answer is None:
        message(f"timing {size} trainings at once against one after the other ...")
        try:
            faster = _batching_is_faster(experiment, images, size, compare or is_faster)
        except (torch.OutOfMemoryError, HarnessError):  # too many, or networks that cannot be vectorised
            return 1
        finally:
            gc.collect()  # recorded steps and their trainings hold on to each other
        answer = _TOGETHER if faster else _ALONE
        auto_cache.save_answer(facts, answer)
    return count if answer == _TOGETHER else 1


def _on_device(experiment: Experiment) -> Experiment:
    return experiment.with_values({"train.device": resolved_device(experiment.train.device)})


def _known_precision(experiment: Experiment, images: Images) -> tuple[str, str] | None:
    """The precision, and how it is known without timing anything. None where it is not."""
    if not has_bf16(experiment.train.device):
        return "fp32", f"this {experiment.train.device} has no bf16 instructions"
    remembered = auto_cache.load_answer(_precision_facts(experiment, images), _PRECISIONS)
    return (remembered, f"remembered from a timing, in {auto_cache.file()}") if remembered else None


def _precision_facts(experiment: Experiment, images: Images) -> auto_cache.Facts | None:
    return auto_cache.facts("precision", experiment, images)


def _timed_precision(experiment: Experiment, images: Images, message: Message, compare: Compare) -> str:
    """Time steps of both on this machine: a CPU that lists bf16 instructions may still be slower with them."""
    message("timing fp32 against bf16 ...")
    some = _images_of_a_turn(experiment, images)
    fp32, bf16 = (Training(_plan(experiment, precision), some) for precision in _PRECISIONS)
    answer = "bf16" if compare(time_turn(bf16), time_turn(fp32)) else "fp32"
    for training in (fp32, bf16):
        training.forget_recording()
    auto_cache.save_answer(_precision_facts(experiment, images), answer)
    return answer


def _batching_is_faster(experiment: Experiment, images: Images, size: int, compare: Compare) -> bool:
    some, plan = _images_of_a_turn(experiment, images), _plan(experiment, experiment.train.precision)
    alone = time_turn(Training(plan, some))
    together = time_turn(BatchedTraining([Training(plan, some) for _ in range(size)]))
    return compare(together, lambda: size * alone())


def _plan(experiment: Experiment, precision: str) -> Experiment:
    """Long enough for its learning rate to stay above 0."""
    return experiment.with_values({"train.precision": precision, "train.epochs": 2 + 2 * MOST})


def _images_of_a_turn(experiment: Experiment, images: Images) -> Images:
    """As many as its steps take, some of them several times where there are fewer."""
    steps = STEPS[experiment.train.device]
    needed = steps * experiment.train.batch_size * experiment.train.discriminator_steps
    return images.take(torch.arange(needed) % len(images))
