"""Train one experiment as one MLflow run: `run` starts a new one, `resume` continues one, `train` is the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.experiment import Experiment
from harness.interrupts import handle_signals
from harness.quality.scoring import Scoring
from harness.results import load
from harness.runs.display import Display, show_training
from harness.runs.options import RunOptions, RunResult
from harness.runs.prepare import prepare
from harness.runs.resumable import ResumableRun, restore_threads
from harness.runs.session import RunSession
from harness.tracking import Store


def run(
    experiment: Experiment, store: Store, options: RunOptions, display: Display, ready: Scoring | None = None
) -> RunResult:
    """Train an experiment as a new MLflow run.

    Args:
        ready: images and judge of an earlier run, used again where they are the same.

    Raises:
        HarnessError: before the run is created, if data, device, values or store are not as they should be.
    """
    with options.deadline.timed("prepare"):
        training, scoring = prepare(experiment, display, ready)
    with handle_signals(), RunSession.start(training, scoring, store, options, display) as session:
        return train(session)


def resume(
    resumable: ResumableRun,
    store: Store,
    values: Mapping[str, Any],
    options: RunOptions,
    display: Display,
    ready: Scoring | None = None,
) -> RunResult:
    """Continue a run from its last checkpoint, in the same MLflow run.

    Args:
        values: by dotted path; only `train.epochs` may differ, to extend the run.
        ready: as for `run`.

    Raises:
        HarnessError: if the run still runs, is complete, or if anything but its number of epochs has changed. The run
            then stands as before, as it does after any failure before the first new epoch.
    """
    experiment = resumable.extended(values)
    with handle_signals(), restore_threads(), load.code_of(store, resumable.run, resumable.checkpoint.experiment):
        recorded = resumable.recorded(store, options)
        training, scoring = prepare(experiment, display, ready, recorded)
        resumable.restore(training, display)
        with RunSession.resume(resumable, recorded, training, scoring, store, options, display) as session:
            return train(session)


def train(session: RunSession) -> RunResult:
    """Train until the last epoch, or until a signal, the deadline, the pruner or a divergence ends the run."""
    training = session.training
    with show_training(session.display, training, session.result.name):
        with handle_signals() as stop, session.system_metrics():
            if not session.should_stop():  # nothing may be left to train, or no time for it
                for report in training:
                    scores = session.score(report)
                    session.log(report, scores)
                    session.save()
                    session.draw()
                    if session.should_stop(stop.signal):
                        break
        training.forget_recording()  # a CUDA graph holds on to the training, and with it to the GPU's memory
        return session.finish()
