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
from harness.tracking import Store, system_metrics


@contextmanager
def start_session(
    experiment: Experiment, store: Store, options: RunOptions, display: Display, reuse: Scoring | None = None
) -> Iterator[RunSession]:
    """Prepare an experiment and create its MLflow run.

    Args:
        experiment: The experiment.
        store: The MLflow store.
        options: How the run is tracked, and when it ends.
        display: Shows the progress.
        reuse: Images and judge of an earlier run. They are used if they match the experiment.

    Raises:
        HarnessError: Data, device, values or store cannot be used. No run is created then.
    """
    with options.deadline.measure("prepare"):
        training, scoring = prepare(experiment, display, reuse)
    with handle_signals(), RunSession.start(training, scoring, store, options, display) as session:
        yield session


@contextmanager
def resume_session(
    resumable: ResumableRun,
    store: Store,
    values: Mapping[str, Any],
    options: RunOptions,
    display: Display,
    reuse: Scoring | None = None,
) -> Iterator[RunSession]:
    """Prepare a run to resume from its last checkpoint, and reopen its MLflow run.

    Args:
        resumable: The run.
        store: The MLflow store.
        values: New values by dotted path. Only `train.epochs` may change, to extend the run.
        options: How the run is tracked, and when it ends.
        display: Shows the progress.
        reuse: See `start_session`.

    Raises:
        HarnessError: The run is still running, is complete, or something other than its number of epochs has changed.
            The run is unchanged then, as it is after any failure before the first new epoch.
    """
    stored, experiment = resumable.checkpoint.experiment, resumable.extended(values)
    with (
        handle_signals(),
        restore_threads(),
        load.use_stored_code(store, resumable.run, stored),
    ):
        recorded = resumable.recorded(store, options)
        training, scoring = prepare(experiment, display, reuse, recorded)
        resumable.restore(training, display)
        with RunSession.resume(resumable, recorded, training, scoring, store, options, display) as session:
            yield session


def train(session: RunSession) -> RunResult:
    """Train until the last epoch, or until a signal, the deadline, the pruner or a divergence ends the run."""
    training = session.training
    with show_training(session.display, training, session.result.name):
        with handle_signals() as stop, system_metrics(session.run_log, enabled=session.options.system_metrics):
            ended = session.should_stop()  # all epochs may be trained already, or no time may be left
            while not ended:
                report = training.train_steps(session.checkpoints.steps_until_pause())
                if report is None:
                    ended = session.pause(stop.signal)
                    continue
                scores = session.score(report)
                session.report(report, scores)
                session.log(report, scores)
                session.save()
                session.draw()
                ended = session.should_stop(stop.signal)
        training.forget_recording()  # a CUDA graph refers to the training, and keeps its GPU memory
        return session.finish()
