"""Test experiments end to end: train a tiny run of each, and read back all that was logged. The command `check`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness import data
from harness.errors import HarnessError, redact
from harness.experiment import Experiment, available
from harness.experiment.tags import Kind
from harness.gan.auto import resolve_device
from harness.interrupts import handle_signals
from harness.media import pictures
from harness.results import load
from harness.runs import small_data
from harness.runs.artifacts import GRID
from harness.runs.display import NullDisplay
from harness.runs.options import RunOptions, RunResult
from harness.runs.prepare import prepare
from harness.runs.session import RunSession
from harness.runs.train import train
from harness.tracking import Store, ensure_final_status

TRAINING_IMAGES = 500  # or the batches of two steps, if they are larger
SCORED_IMAGES = 100


@dataclass(frozen=True)
class Result:
    """The result of one experiment. reason: why it failed or was skipped."""

    name: str
    result: Literal["passed", "failed", "skipped"]
    seconds: float
    run_id: str | None = None
    reason: str | None = None


def check(
    names: Sequence[str],
    store: Store,
    *,
    device: str | None = None,
    message: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Check experiments.

    Args:
        names: Names or files. Empty: all known experiments.
        store: The MLflow store. The runs are nested below one parent.
        device: The device. None: that of each experiment.
        message: Receives the progress, one line a call.

    Raises:
        HarnessError: An experiment is unknown or invalid.
    """
    chosen = [_tiny(small_data.load(name)[0], device) for name in names or available()]
    for experiment in chosen:  # errors that would stop all of them are raised before anything is tracked
        data.create_source(**experiment.data.source_options())
        resolve_device(experiment.train.device)
    parent = store.start_run(project="gan", name="check", kind=Kind.CHECK, params={"experiments": len(chosen)})
    results: list[Result] = []
    with handle_signals() as stop, ensure_final_status(parent):
        for experiment in chosen:
            message(f"checking {experiment.name} ...")
            results.append(_check_one(experiment, store, parent.run_id, message))
            parent.tags({f"check.{experiment.name}": results[-1].result})
            if stop.signal:
                raise KeyboardInterrupt
        counts = {result: sum(r.result == result for r in results) for result in ("passed", "failed", "skipped")}
        parent.metrics(1, {f"check/{result}": count for result, count in counts.items()})
        parent.finish("FAILED" if counts["failed"] else "FINISHED")
    return results


def _tiny(experiment: Experiment, device: str | None) -> Experiment:
    tiny = {
        "data.subset": max(TRAINING_IMAGES, 2 * experiment.train.batch_size * experiment.train.discriminator_steps),
        "train.epochs": 1,
        "train.device": device or experiment.train.device,
        "quality.samples": min(SCORED_IMAGES, experiment.quality.samples),
        "quality.samples_while_training": min(SCORED_IMAGES, experiment.quality.samples_while_training),
    }
    return experiment.with_values(tiny)


def _limit_subset(experiment: Experiment, message: Callable[[str], None]) -> Experiment:
    """Return the experiment with a subset that a small data set has. Downloads the data set if necessary."""
    images = data.load_split(split="train", message=message, **experiment.data.source_options())
    available_images = len(images) - experiment.data.validation
    subset = experiment.data.subset
    fewer = subset is not None and experiment.train.batch_size <= available_images < subset
    return experiment.with_values({"data.subset": available_images}) if fewer else experiment


def _check_one(experiment: Experiment, store: Store, parent: str, message: Callable[[str], None]) -> Result:
    started = time.monotonic()
    missing = data.create_source(**experiment.data.source_options()).missing()
    if missing and not data.mirror():  # a configured mirror may have it
        return Result(experiment.name, "skipped", 0.0, reason=missing)
    run_id = None
    try:
        options = RunOptions(name=experiment.name, kind=Kind.CHECK, parent=parent, system_metrics=False)
        training, scoring = prepare(_limit_subset(experiment, message), NullDisplay())
        with RunSession.start(training, scoring, store, options, NullDisplay()) as session:
            outcome = train(session)
        run_id = outcome.run_id
        failure = _find_error(outcome, store, scored=scoring is not None)
    except HarnessError as error:
        failure = str(error)
    except Exception as error:  # a failure is a result: the other experiments are still checked
        failure = redact(f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - started
    return Result(experiment.name, "failed" if failure else "passed", seconds, run_id, failure)


def _find_error(outcome: RunResult, store: Store, *, scored: bool) -> str | None:
    """Return the first error of a finished run; None if there is none."""
    if outcome.status != "FINISHED":
        return outcome.reason or f"the run ended {outcome.status}"
    if outcome.unshipped:
        return f"not all data reached MLflow: {outcome.unshipped}"
    run = store.client.get_run(outcome.run_id)
    if run.info.status != "FINISHED":
        return f"the status of the run in MLflow is {run.info.status}"
    if scored and not outcome.scores:
        return "the best generator was not scored"
    for name, value in {**outcome.metrics, **outcome.scores}.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
        history = [(point.step, point.value) for point in store.client.get_metric_history(outcome.run_id, name)]
        if history != [(1, value)]:
            return f"{name} was logged as {value} at step 1 and read back as {history}"
    for path, value in outcome.experiment.flatten().items():
        if run.data.params.get(path) != str(value):
            return f"param {path} was logged as {value} and read back as {run.data.params.get(path)}"
    images = [item.path for item in store.client.list_artifacts(outcome.run_id, "images")]
    compares_images = outcome.scores and outcome.experiment.primary.against_real
    for key in ("samples", "neighbours") if compares_images else ("samples",):
        if not any(path.startswith(f"images/{key}") and path.endswith(".png") for path in images):
            return f"no image `{key}` among {images}"
    return _check_reload(outcome, store)


def _check_reload(outcome: RunResult, store: Store) -> str | None:
    """Check that new objects, loaded from MLflow, draw the same grid. Returns the error, or None."""
    run = store.client.get_run(outcome.run_id)
    if load.experiment(store, run) != outcome.experiment:
        return "experiment.yaml, read back, is a different experiment"
    training, _ = prepare(outcome.experiment, NullDisplay())
    training.load_state_dict(load.checkpoint(store, run).training)
    if outcome.grid is None or not np.array_equal(pictures.grid(training.sample(GRID)), outcome.grid):
        return "the checkpoint, loaded into new objects, draws different samples"
    return None
