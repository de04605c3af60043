"""Resolve `auto`: pick the device, the precision and the batch size of runs once, before a run starts."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from harness.data import Images
from harness.data.source import Message, discard_message
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import auto_cache
from harness.gan.batched import BatchedTraining
from harness.gan.hardware import has_bf16
from harness.gan.timing import MAX_ROUNDS, STEPS, Timer, epoch_timer, is_faster
from harness.gan.training import Training

MAX_TIMED_MEMBERS = 4  # on a CPU: the gain of a few members shows the gain of many
_PRECISIONS = ("fp32", "bf16")
_BATCHED, _SEQUENTIAL = "together", "one after the other"  # answers in the file of cached timings

Compare = Callable[[Timer, Timer], bool]
"""Return whether the first way to train is so much faster than the second that it should replace it."""


def resolve(
    experiment: Experiment, images: Images, message: Message = discard_message, *, compare: Compare | None = None
) -> Experiment:
    """Return the experiment with `train.device` and `train.precision` set for training on these images.

    Args:
        experiment: its `auto` values are replaced.
        images: the training images.
        message: Receives one line before anything is timed.
        compare: `timing.is_faster`, unless a test passes another function.

    Raises:
        HarnessError: the requested device is not available.
    """
    experiment = _with_device(experiment)
    if experiment.train.precision == "auto":
        known = _known_precision(experiment, images)
        precision = known[0] if known else _time_precision(experiment, images, message, compare or is_faster)
        experiment = experiment.with_values({"train.precision": precision})
    return experiment


def resolve_untimed(experiment: Experiment, images: Images) -> tuple[Experiment, str | None]:
    """Do what `resolve` does without timing anything.

    Returns:
        The experiment, whose precision is still `auto` if only a timing can tell it, and a sentence about the
        precision (None if it was not `auto`).

    Raises:
        HarnessError: the requested device is not available.
    """
    experiment = _with_device(experiment)
    if experiment.train.precision != "auto":
        return experiment, None
    known = _known_precision(experiment, images)
    if known is None:
        return experiment, "a run times fp32 against bf16, once on this machine"
    precision, reason = known
    return experiment.with_values({"train.precision": precision}), reason


def resolve_device(device: str) -> str:
    """Return the device to use: `auto` takes cuda, then mps, then cpu.

    Raises:
        HarnessError: the device is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        usable = ", ".join(name for name, usable in available.items() if usable)
        raise HarnessError(f"device is {device}, but torch does not find it on this machine; expected {usable} or auto")
    return device


def resolve_batch_runs(
    experiment: Experiment,
    images: Images,
    count: int,
    message: Message = discard_message,
    *,
    compare: Compare | None = None,
) -> int:
    """Return how many of `count` such trainings to run as one batch: all of them if that is faster here, else 1.

    Args:
        experiment: with its device and precision resolved.
        images: the training images.
        count: Number of trainings.
        message: Receives one line before anything is timed.
        compare: `timing.is_faster`, unless a test passes another function.
    """
    if experiment.train.device == "mps" or count < 2:
        return 1
    size = min(count, MAX_TIMED_MEMBERS) if experiment.train.device == "cpu" else count
    facts = auto_cache.facts("population", experiment, images, precision=experiment.train.precision, members=size)
    answer = auto_cache.load_answer(facts, (_BATCHED, _SEQUENTIAL))
    if answer is None:
        message(f"timing {size} trainings at once against one after the other ...")
        try:
            faster = _is_batching_faster(experiment, images, size, compare or is_faster)
        except (torch.OutOfMemoryError, HarnessError):  # too many members, or networks that vmap cannot map
            return 1
        finally:
            gc.collect()  # CUDA graphs and their trainings refer to each other
        answer = _BATCHED if faster else _SEQUENTIAL
        auto_cache.save_answer(facts, answer)
    return count if answer == _BATCHED else 1


def _with_device(experiment: Experiment) -> Experiment:
    return experiment.with_values({"train.device": resolve_device(experiment.train.device)})


def _known_precision(experiment: Experiment, images: Images) -> tuple[str, str] | None:
    """Return the precision, and why; None if it must be timed."""
    if not has_bf16(experiment.train.device):
        return "fp32", f"this {experiment.train.device} has no bf16 instructions"
    cached = auto_cache.load_answer(_precision_facts(experiment, images), _PRECISIONS)
    return (cached, f"from an earlier timing, in {auto_cache.cache_file()}") if cached else None


def _precision_facts(experiment: Experiment, images: Images) -> auto_cache.Facts | None:
    return auto_cache.facts("precision", experiment, images)


def _time_precision(experiment: Experiment, images: Images, message: Message, compare: Compare) -> str:
    """Time both precisions: a CPU with bf16 instructions may still be slower with them."""
    message("timing fp32 against bf16 ...")
    sample = _timing_images(experiment, images)
    fp32, bf16 = (Training(_timing_experiment(experiment, precision), sample) for precision in _PRECISIONS)
    answer = "bf16" if compare(epoch_timer(bf16), epoch_timer(fp32)) else "fp32"
    for training in (fp32, bf16):
        training.forget_recording()
    auto_cache.save_answer(_precision_facts(experiment, images), answer)
    return answer


def _is_batching_faster(experiment: Experiment, images: Images, size: int, compare: Compare) -> bool:
    experiment, sample = (
        _timing_experiment(experiment, experiment.train.precision),
        _timing_images(experiment, images),
    )
    single = epoch_timer(Training(experiment, sample))
    batched = epoch_timer(BatchedTraining([Training(experiment, sample) for _ in range(size)]))
    return compare(batched, lambda: size * single())


def _timing_experiment(experiment: Experiment, precision: str) -> Experiment:
    """Return an experiment with enough epochs that a decaying learning rate stays above 0."""
    return experiment.with_values({"train.precision": precision, "train.epochs": 2 + 2 * MAX_ROUNDS})


def _timing_images(experiment: Experiment, images: Images) -> Images:
    """Return as many images as the timed steps need. They are repeated if there are fewer."""
    steps = STEPS[experiment.train.device]
    needed = steps * experiment.train.batch_size * experiment.train.discriminator_steps
    return images.index_select(torch.arange(needed) % len(images))
