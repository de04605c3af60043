"""What a run is asked to do, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from harness.experiment import Experiment
from harness.experiment.tags import Kind
from harness.interrupts import Deadline
from harness.media import pictures
from harness.quality.scoring import Split

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Pruner(Protocol):
    """Decides whether a run ends before its last epoch, as Optuna's `Trial.report` and `Trial.should_prune` do."""

    def attach(self, run_id: str, epoch: int) -> None:
        """Take note of the MLflow run that is started or resumed, and of the epochs that it was trained so far."""

    def report(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Take the metrics of a scored epoch, by the names of MLflow's charts."""

    def should_prune(self) -> bool:
        """Return whether the run ends with the epoch that was attached or reported last."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is tracked and when it ends; nothing here changes its numbers.

    Attributes:
        name: MLflow run name; by default the experiment's name and four random hexadecimal digits.
        kind: value of the tag `harness.kind`.
        parent: id of the MLflow run to nest below.
        tags: further MLflow tags.
        note: description of the MLflow run.
        deadline: when the command must have ended; the run ends at an epoch boundary before it.
        system_metrics: whether the machine's load is logged.
        pruner: asked after every scored epoch whether the run ends there.
        final: the split that the best generator is scored on at the end. A run that others are chosen by stays off
            `test`.
        allow_changes: resume although images, judge or source of the networks have changed.
        on_progress: called once, after the first epoch that this command has trained.
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
    on_progress: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: id of the MLflow run.
        name: MLflow run name.
        experiment: the experiment with all its values.
        status: MLflow's status.
        epoch: the last epoch that was trained.
        metrics: of that epoch.
        scores: of the best generator at the end, prefixed by the split that `RunOptions.final` names; empty where it
            was not scored.
        judge: the judge that it was scored with.
        grid: the last sample grid.
        reason: why the run did not reach its last epoch, for people.
        stopped: SIGINT, SIGTERM or max-time, where one of these ended it.
        pruned: whether the pruner ended it.
        unshipped: what keeps a part of its tracking on this machine, until `harness sync`.
        first: epochs that earlier commands have trained.
        scored: the epoch of the generator that was scored at the end.
        seconds: that this command has trained, scored, drawn and saved the run.
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
