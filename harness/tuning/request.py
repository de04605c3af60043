"""What was asked of a search, and what nobody can ask for."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.scores import Direction, searchable
from harness.interrupts import Deadline
from harness.tuning import storage as storages
from harness.tuning.settings import PRUNERS, SAMPLERS, metric_of

LONGEST_NAME = 200  # characters of a study's name
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, line and paragraph separators


@dataclass(frozen=True)
class TuneRequest:
    """What was asked for; None leaves it to the study as it is, or to the default for a new one.

    trials: how many in total; a study that was asked for some before keeps to that. storage: a database, instead of the
    journal file. fuse: None times it.
    rung: the epoch from which on trials may be pruned. deadline: when the command has to have ended.
    allow_changes: go on although the images, the judge or the source of networks have changed.
    """

    trials: int | None = None
    study: str | None = None
    storage: str | None = None
    sampler: str | None = None
    pruner: str | None = None
    min_resource: int | None = None
    metric: str | None = None
    direction: Direction | None = None
    batch_runs: int | None = None
    workers: int = 1
    deadline: Deadline = field(default_factory=Deadline)
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    system_metrics: bool = True
    allow_changes: bool = False


def check_name(study: str) -> None:
    """Raise HarnessError for a name that MLflow's tags or Optuna's databases do not take."""
    if not study.strip() or len(study) > LONGEST_NAME or any(unicodedata.category(each) in _UNSEEN for each in study):
        shown = repr(study if len(study) <= 60 else f"{study[:57]}...")
        raise HarnessError(f"--study {shown}: expected a name of 1 to {LONGEST_NAME} characters, in one line")
    if "'" in study and '"' in study:  # MLflow's filters cannot say it
        raise HarnessError(f"--study {study}: expected a name without both kinds of quotation marks")


def check(request: TuneRequest, tracking_uri: str, experiment: Experiment | None = None) -> None:
    """Raise HarnessError for what nobody can wish for; tracking_uri: where MLflow keeps its runs.

    experiment: what is searched, where that is known before its study is.
    """
    if request.study is not None:
        check_name(request.study)
    if request.storage is not None:
        storages.check(request.storage, tracking_uri)
    for what, value, known in (
        ("--metric", request.metric, searchable()),
        ("--sampler", request.sampler, SAMPLERS),
        ("--pruner", request.pruner, PRUNERS),
    ):
        if value is not None and value not in known:
            raise HarnessError(f"{what} {value}: expected one of {', '.join(known)}")
    for name, number in (
        ("trials", request.trials),
        ("prune_from", request.min_resource),
        ("workers", request.workers),
        ("batch_runs", request.batch_runs),
    ):
        if number is not None and number < 1:
            raise HarnessError(f"{name} is {number}; expected 1 or more")
    if request.direction not in (None, "minimize", "maximize"):
        raise HarnessError(f"direction is {request.direction}; expected minimize or maximize")
    if experiment is not None:
        metric_of(experiment, request.metric)
