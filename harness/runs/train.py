"""Train one experiment as one MLflow run.

with start_session(experiment, store, options, display) as session:  # or resume_session
    result = train(session)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def start_session(
    experiment: Experiment, store: Store, options: RunOptions, display: Display, ready: Scoring | None = None
) -> Iterator[RunSession]:
    """Prepare an experiment and create its MLflow run.

    Args:
        experiment: what to train.
        store: where it is tracked.
        options: how it is tracked, and when it ends.
        display: is shown what happens.
        ready: images and judge of an earlier run, used again where they are the same.

    Raises:
        HarnessError: before the run is created, if data, device, values or store are not as they should be.
    """
    with options.deadline.measure("prepare"):
        training, scoring = prepare(experiment, display, ready)
    with handle_signals(), RunSession.start(training, scoring, store, options, display) as session:
        yield session


@contextmanager
def resume_session(
    resumable: ResumableRun,
    store: Store,
    values: Mapping[str, Any],
    options: RunOptions,
    display: Display,
    ready: Scoring | None = None,
) -> Iterator[RunSession]:
    """Prepare a run to be continued from its last checkpoint, and reopen its MLflow run.

    Args:
        resumable: the run.
        store: where it is tracked.
        values: by dotted path; only `train.epochs` may differ, to extend the run.
        options: how it is tracked, and when it ends.
        display: is shown what happens.
        ready: as for `start_session`.

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
            yield session


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
