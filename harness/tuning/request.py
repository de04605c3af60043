"""The options of `tune`, and their validation."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.executors import check_executor
from harness.experiment import Experiment, trust
from harness.experiment.loading import AGGREGATES
from harness.experiment.scores import Direction, searchable
from harness.interrupts import Deadline
from harness.tuning.custom_sampler import build_sampler, is_custom, trusted_name
from harness.tuning.goals import COSTS, Constraint, check_metric
from harness.tuning.settings import METHODS, PRUNERS, SAMPLERS, resolve_metrics
from harness.tuning.storage import check_url

MAX_NAME_LENGTH = 200  # characters of a study's name
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, line and paragraph separators


@dataclass(frozen=True)
class TuneRequest:
    """The options of `tune`. None means: as in the existing study, or the default for a new one.

    Attributes:
        trials: Total number of trials.
        study: Name of the study.
        storage: URL of a database; None for the journal file.
        sampler: One of SAMPLERS, or the path of a custom one (`custom_sampler`).
        pruner: One of PRUNERS.
        min_resource: The epoch from which on trials may be pruned.
        metrics: Metrics to optimize: keys of scores, or costs.
        constraints: Limits on metrics, such as "parameters<=2e6".
        direction: minimize or maximize.
        batch_runs: Number of runs that are trained as one batch; None measures what is fastest.
        seeds: Number of seeds of a trial.
        aggregate: How their scores become the value of the trial.
        race: Whether trials begin with one seed, and the best ones get more.
        method: optuna or pbt: see `Settings`.
        perturb_every: Number of epochs between two decisions of a population.
        workers: Number of processes.
        executor: Where they run: one of `executors.EXECUTORS`.
        executor_options: Options of the scheduler, KEY=VALUE.
        address: Address of a Ray cluster.
        from_study: A study whose finished trials a new study starts with.
        deadline: Time limit of the command.
        name: Name of the study's MLflow run.
        tags: Tags of the runs.
        note: Description of the study's MLflow run.
        system_metrics: Whether runs log system metrics.
        allow_changes: Continue although the images, the judge or the source of networks have changed.
    """

    trials: int | None = None
    study: str | None = None
    storage: str | None = None
    sampler: str | None = None
    pruner: str | None = None
    min_resource: int | None = None
    metrics: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    direction: Direction | None = None
    batch_runs: int | None = None
    seeds: int | None = None
    aggregate: str | None = None
    race: bool | None = None
    method: str | None = None
    perturb_every: int | None = None
    workers: int = 1
    executor: str = "local"
    executor_options: tuple[str, ...] = ()
    address: str | None = None
    from_study: str | None = None
    deadline: Deadline = field(default_factory=Deadline)
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    system_metrics: bool = True
    allow_changes: bool = False


def check_name(study: str) -> None:
    """Raise HarnessError for a name that MLflow's tags or Optuna's databases cannot store."""
    if (
        not study.strip()
        or len(study) > MAX_NAME_LENGTH
        or any(unicodedata.category(each) in _UNPRINTABLE for each in study)
    ):
        shown = repr(study if len(study) <= 60 else f"{study[:57]}...")
        raise HarnessError(f"--study {shown}: expected a name of 1 to {MAX_NAME_LENGTH} characters, in one line")
    if "'" in study and '"' in study:  # MLflow's filter strings cannot quote it
        raise HarnessError(f"--study {study}: expected a name without both kinds of quotation marks")


def validate(request: TuneRequest, tracking_uri: str, experiment: Experiment | None = None) -> None:
    """Check the options of a command.

    Args:
        request: The options.
        tracking_uri: URI of the MLflow store.
        experiment: The experiment to search, if the command names it.

    Raises:
        HarnessError: An option is invalid.
    """
    if request.study is not None:
        check_name(request.study)
    if request.storage is not None:
        check_url(request.storage, tracking_uri)
    for option, value, known in (
        ("--sampler", None if request.sampler and is_custom(request.sampler) else request.sampler, SAMPLERS),
        ("--pruner", request.pruner, PRUNERS),
        ("--aggregate", request.aggregate, AGGREGATES),
        ("--method", request.method, METHODS),
    ):
        if value is not None and value not in known:
            raise HarnessError(f"{option} {value}: expected one of {', '.join(known)}")
    metrics = (*searchable(), *COSTS)
    for metric in request.metrics:
        if metric not in metrics:
            raise HarnessError(f"--metric {metric}: expected one of {', '.join(metrics)}")
    for text in request.constraints:
        if (metric := Constraint.parse(text).metric) not in metrics:
            raise HarnessError(f"--constraint {text}: {metric} is no metric; expected one of {', '.join(metrics)}")
    for name, number in (
        ("trials", request.trials),
        ("prune_from", request.min_resource),
        ("workers", request.workers),
        ("batch_runs", request.batch_runs),
        ("seeds", request.seeds),
        ("perturb_every", request.perturb_every),
    ):
        if number is not None and number < 1:
            raise HarnessError(f"{name} is {number}; expected 1 or more")
    if request.sampler and is_custom(request.sampler):
        trust.allow([trusted_name(request.sampler)])  # the user names it here
        build_sampler(request.sampler, 0)
    check_executor(request.executor, request.executor_options, request.address)
    if request.direction not in (None, "minimize", "maximize"):
        raise HarnessError(f"direction is {request.direction}; expected minimize or maximize")
    if experiment is not None:
        resolve_metrics(experiment, request.metrics)
        for text in request.constraints:
            check_metric(experiment, Constraint.parse(text).metric, f"--constraint {text}")
