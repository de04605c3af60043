"""Train the runs of trials: one alone, several as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import HarnessError
from harness.interrupts import handle_signals
from harness.quality.scoring import Scoring
from harness.runs.batched import RunSpec, run_batched
from harness.runs.display import Display
from harness.runs.options import RunResult
from harness.runs.prepare import prepare
from harness.runs.session import RunSession
from harness.runs.train import resume_session, train
from harness.tracking import Store


class InvalidRunError(HarnessError):
    """An experiment cannot be trained: another try would fail, too. No run was created."""


def train_runs(
    specs: Sequence[RunSpec],
    scoring: Scoring,
    store: Store,
    display: Display,
    on_result: Callable[[int, RunResult], None],
) -> None:
    """Train runs.

    Args:
        specs: The runs; several are trained as one batch.
        scoring: Images and judge.
        store: The MLflow store.
        display: Shows the progress.
        on_result: Called with the index and the result of a run as soon as it has ended.

    Raises:
        NotBatchableError: The runs cannot be trained as one batch. No run was created.
        InvalidRunError: The experiment of the only run cannot be trained.
        HarnessError: The tracking or the storage fails.
    """
    if len(specs) > 1:
        splits = scoring.splits
        run_batched(specs, splits.train, splits.validation, scoring, store, display, on_result)
    else:
        on_result(0, _train_alone(specs[0], scoring, store, display))


def _train_alone(spec: RunSpec, scoring: Scoring, store: Store, display: Display) -> RunResult:
    if spec.resumable:
        opened = resume_session(spec.resumable, store, {}, spec.options, display, scoring)
    else:
        try:
            training, scoring_of_run = prepare(spec.experiment, display, scoring)
        except HarnessError as error:
            raise InvalidRunError(str(error)) from error
        opened = RunSession.start(training, scoring_of_run, store, spec.options, display)
    with handle_signals(), opened as session:
        return train(session)
