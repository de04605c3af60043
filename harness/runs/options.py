"""The options and the result of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from harness.executors import WorkerOptions
from harness.experiment import Experiment
from harness.experiment.tags import Kind
from harness.interrupts import Deadline
from harness.media import pictures
from harness.quality.scoring import Split

Status = Literal["FINISHED", "FAILED", "KILLED"]


def _do_nothing() -> None:
    """The default of `RunOptions.on_progress`, which can be pickled."""


class Pruner(Protocol):
    """Decides whether a run ends before its last epoch, as Optuna's `Trial.report` and `Trial.should_prune` do."""

    def attach(self, run_id: str, epoch: int) -> None:
        """Set the MLflow run that starts or resumes, and the number of epochs it has trained."""

    def report(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Report the metrics of a scored epoch, by their names in MLflow."""

    def should_prune(self) -> bool:
        """Return whether the run ends after the last epoch that was attached or reported."""


@dataclass(frozen=True)
class RunOptions:
    """Options of tracking and of the end of a run. No option changes its numbers.

    Attributes:
        name: Name of the MLflow run. None: the name of the experiment and four random hexadecimal digits.
        kind: Value of the tag `harness.kind`.
        parent: Id of the parent run in MLflow.
        tags: Additional MLflow tags.
        note: Description of the MLflow run.
        deadline: End of the time limit. The run stops at the end of an epoch before it.
        system_metrics: Log CPU, GPU and memory use.
        pruner: Decides after every scored epoch whether the run ends.
        final: The split that the best generator is scored on at the end. For a run that is compared to select values,
            it must not be `test`.
        allow_changes: Resume although images, judge or source of the networks have changed.
        upload_first_checkpoint: Send the checkpoint before the first epoch to the store. A run that is killed in its
            first epochs can then be resumed on another machine.
        workers: Processes that train the seeds of a run with seeds; None for this process.
        on_progress: Called once, after the first epoch that this command has trained.
    """

    name: str | None = None
    kind: str = Kind.RUN
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    deadline: Deadline = field(default_factory=Deadline)
    system_metrics: bool = True
    pruner: Pruner | None = None
    final: Split = "test"
    allow_changes: bool = False
    upload_first_checkpoint: bool = False
    workers: WorkerOptions | None = None
    on_progress: Callable[[], None] = _do_nothing


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        run_id: Id of the MLflow run.
        name: Name of the MLflow run.
        experiment: The experiment with all its values.
        status: MLflow's status.
        epoch: The last epoch that was trained.
        metrics: Metrics of that epoch.
        scores: Final scores of the best generator, prefixed by the split of `RunOptions.final`; empty if it was not
            scored.
        judge: The judge of the final scores.
        grid: The last sample grid.
        reason: Why the run did not reach its last epoch, in words.
        stopped: SIGINT, SIGTERM or max-time, if one of these stopped the run.
        pruned: The pruner ended the run.
        unshipped: Why tracking data is still stored on this machine, to be sent by `harness sync`; else None.
        first: Number of epochs that earlier commands have trained.
        scored: The epoch of the generator that was scored at the end.
        seconds: Time that this command has spent on the run: training, scores, sample grids and checkpoints.
    """

    run_id: str
    name: str
    experiment: Experiment
    status: Status
    epoch: int
    metrics: Mapping[str, float]
    scores: Mapping[str, float] = field(default_factory=dict)
    judge: str | None = None
    grid: pictures.Picture | None = None
    reason: str | None = None
    stopped: str | None = None
    pruned: bool = False
    unshipped: str | None = None
    first: int = 0
    scored: int | None = None
    seconds: float = 0.0
