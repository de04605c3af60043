"""The trials of a study, as all who work on it share them: taken one by one, told once, and never lost.

A trial that is being trained is RUNNING and names the process that trains it. When that process is gone, or has
stopped, it is WAITING again, and whoever takes it next goes on from its checkpoint. So a study holds as many trials as
were asked for, however often it was killed.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from harness.errors import HarnessError, redact
from harness.experiment import Experiment
from harness.study.sampling import Sampler, distributions
from harness.study.settings import Settings, own_values
from harness.tracking.liveness import gone, this_process

ATTEMPTS = 3  # a trial that fails, or takes its process with it, is tried so often
BEAT = 30.0  # seconds between signs of life, for other hosts to see
SILENCE = 600.0  # seconds without one after which another host's process is taken for dead
UNCLAIMED = 60.0  # seconds after which a trial that names no process is taken for abandoned

_SETTINGS, _PARENT = "harness.settings", "harness.parent"


@dataclass
class Claim:
    """A trial that is ours to train.

    values: what it tries. attempt: counted from 1, with those of the trials that it repeats.
    again: somebody has had it before, so some of it may be done.
    """

    trial: Trial
    values: Mapping[str, Any]
    attempt: int
    again: bool

    @property
    def number(self) -> int:
        return int(self.trial.number)


class Trials:
    """The trials of one study. Made by `create` or `find`.

    study: Optuna's own view of it, for reading.
    """

    def __init__(self, storage: BaseStorage, name: str, settings: Settings, folder: Path) -> None:
        self.name, self.settings = name, settings
        self._storage = storage
        self.study = optuna.load_study(
            study_name=name, storage=storage, sampler=Sampler(settings), pruner=_pruner(settings)
        )
        self._distributions = distributions(settings.search)
        # Decisions about who does what are made one after the other; between hosts the storage alone decides.
        self._lock = FileLock(folder / f"{_file_name(name)}.lock")
        self._held: dict[int, Claim] = {}

    @classmethod
    def create(cls, storage: BaseStorage, name: str, settings: Settings, folder: Path) -> Trials | None:
        """A new study whose first trial is the experiment as it is; None where another process was quicker."""
        try:
            study = optuna.create_study(study_name=name, storage=storage, direction=settings.direction)
        except optuna.exceptions.DuplicatedStudyError:
            return None
        study.enqueue_trial(own_values(settings), user_attrs={"harness.own": True})
        study.set_user_attr(_SETTINGS, settings.to_json())
        return cls(storage, name, settings, folder)

    @classmethod
    def find(cls, storage: BaseStorage, name: str, folder: Path, *, wait: float = 0) -> Trials | None:
        """The study of that name, or None. One that is just being created is waited for, so many seconds.

        Raises HarnessError for a study that harness has not made.
        """
        deadline = time.monotonic() + max(wait, 2)
        while True:
            try:
                attributes = optuna.load_study(study_name=name, storage=storage).user_attrs
            except KeyError:
                return None
            if _SETTINGS in attributes:
                return cls(storage, name, Settings.from_json(attributes[_SETTINGS], name), folder)
            if time.monotonic() > deadline:
                raise HarnessError(f"study {name} was not made by harness; choose another name with --study")
            time.sleep(0.1)

    # The run above the trials ------------------------------------------------------------------------------------

    @property
    def parent(self) -> str | None:
        """The id of the study's MLflow run."""
        run_id: str | None = self.study.user_attrs.get(_PARENT)
        return run_id

    @parent.setter
    def parent(self, run_id: str) -> None:
        self.study.set_user_attr(_PARENT, run_id)

    @contextlib.contextmanager
    def deciding(self) -> Iterator[None]:
        """While one process of this host decides, the others wait."""
        with self._lock:
            yield

    # Taking ------------------------------------------------------------------------------------------------------

    def claim(self, total: int, at_most: int = 1) -> list[Claim]:
        """Trials to train now: abandoned ones first, then new ones while the study has fewer than `total`."""
        claims: list[Claim] = []
        with self._lock:
            self._sweep()
            while len(claims) < at_most and self._room(total):
                trial = self.study.ask(self._distributions)
                if self._surplus(trial, total):
                    trial.set_user_attr("harness.surplus", True)
                    self.study.tell(trial, state=TrialState.FAIL)
                    break
                attributes = trial.user_attrs
                for key, value in {**this_process(), "harness.beat": time.time()}.items():
                    trial.set_user_attr(key, value)
                attempt, again = int(attributes.get("harness.attempt", 1)), "harness.host" in attributes
                claim = Claim(trial, trial.params, attempt, again)
                self._held[trial.number] = claim
                claims.append(claim)
        return claims

    def holds(self, claim: Claim) -> bool:
        """Whether the trial is still ours to tell."""
        return claim.number in self._held

    def open(self, total: int) -> bool:
        """Whether there is, or may be, something left to train."""
        trials = self.all()
        return sum(counts(trial) for trial in trials) < total or any(not trial.state.is_finished() for trial in trials)

    def all(self) -> list[FrozenTrial]:
        return list(self.study.get_trials(deepcopy=False))

    def _room(self, total: int) -> bool:
        trials = self.all()
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        return waiting or sum(counts(trial) for trial in trials) < total

    def _surplus(self, trial: Trial, total: int) -> bool:
        """Whether other hosts have taken the last places at the same moment."""
        counting = [other.number for other in self.all() if counts(other)]
        return trial.number in counting[total:] and "fixed_params" not in trial.system_attrs

    def _sweep(self) -> None:
        """Trials whose process is gone are waiting again, or have failed where that happened too often."""
        for trial in self.all():
            if trial.state != TrialState.RUNNING or trial.number in self._held or not _abandoned(trial):
                continue
            attempt = int(trial.user_attrs.get("harness.attempt", 1))
            if attempt >= ATTEMPTS:
                self._set(trial.number, "harness.error", f"its process died in each of {ATTEMPTS} attempts")
                self.study.tell(trial.number, state=TrialState.FAIL)
                continue
            self._set(trial.number, "harness.attempt", attempt + 1)
            self._storage.set_trial_state_values(self._id(trial.number), TrialState.WAITING)

    # Telling -----------------------------------------------------------------------------------------------------

    def report(self, claim: Claim, run_id: str, epoch: int, value: float) -> bool:
        """A score on the way; returns whether the trial is to end here."""
        trial = claim.trial
        if trial.user_attrs.get("harness.run_id") != run_id:
            trial.set_user_attr("harness.run_id", run_id)
        if epoch not in self._frozen(claim).intermediate_values:  # else it was trained again after a crash
            trial.report(value, epoch)
        return bool(trial.should_prune())

    def complete(self, claim: Claim, run_id: str, value: float, *, diverged: str | None = None) -> None:
        """A trial that has a score, good or bad."""
        if diverged:
            claim.trial.set_user_attr("harness.diverged", diverged)
        self._tell(claim, run_id, TrialState.COMPLETE, value)

    def prune(self, claim: Claim, run_id: str) -> None:
        self._tell(claim, run_id, TrialState.PRUNED)

    def fail(self, claim: Claim, error: str, *, again: bool) -> None:
        """A trial that an exception ended; again: it is tried anew, as another trial, while it has attempts left."""
        claim.trial.set_user_attr("harness.error", redact(error)[:500])
        if again and claim.attempt < ATTEMPTS:
            attributes = {"harness.retry_of": claim.number, "harness.attempt": claim.attempt + 1}
            self.study.enqueue_trial(dict(claim.values), user_attrs=attributes)
            claim.trial.set_user_attr("harness.retried", True)
        self._tell(claim, None, TrialState.FAIL)

    def release(self, claim: Claim) -> None:
        """A trial that was stopped is waiting again, to be gone on with."""
        if self._held.pop(claim.number, None):
            self._storage.set_trial_state_values(self._id(claim.number), TrialState.WAITING)

    def _tell(self, claim: Claim, run_id: str | None, state: TrialState, value: float | None = None) -> None:
        if run_id:
            claim.trial.set_user_attr("harness.run_id", run_id)
        self._held.pop(claim.number, None)
        self.study.tell(claim.trial, value, state=state)

    def _frozen(self, claim: Claim) -> FrozenTrial:
        return self._storage.get_trial(self._id(claim.number))

    def _set(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._id(number), key, value)

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self.name)
        return int(self._storage.get_trial_id_from_study_id_trial_number(study, number))

    # Signs of life -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Meanwhile the trials that are held show other hosts that they are alive."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                for number in list(self._held):
                    with contextlib.suppress(Exception):  # told in the meantime, or the storage is away for a moment
                        self._set(number, "harness.beat", time.time())

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=5)


def counts(trial: FrozenTrial) -> bool:
    """Whether it is one of the trials that were asked for: a failed one is not where it is tried again."""
    attributes = trial.user_attrs
    return trial.state != TrialState.FAIL or not (
        attributes.get("harness.retried") or attributes.get("harness.surplus")
    )


def best(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the best value; the first of equals."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return min(complete, key=lambda trial: sign * value_of(trial), default=None)


def value_of(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else float(trial.value)


def experiment_of(settings: Settings, values: Mapping[str, Any]) -> Experiment:
    """What a trial trains. Raises HarnessError where its values do not go together."""
    return settings.search.experiment(settings.base, values)


def _abandoned(trial: FrozenTrial) -> bool:
    attributes = trial.user_attrs
    host = attributes.get("harness.host")
    if host is None:
        began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return time.time() - began > UNCLAIMED
    if host != socket.gethostname():
        return time.time() - float(attributes.get("harness.beat", 0)) > SILENCE
    own = attributes.get("harness.pid") == this_process()["harness.pid"]  # and not held: it was dropped
    return own or gone(attributes)


def _pruner(settings: Settings) -> BasePruner:
    """Asynchronous successive halving (Li et al. 2020): at each rung the best of those that came so far go on."""
    if settings.pruner == "none":
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=settings.rung, reduction_factor=settings.reduction)


def _file_name(study: str) -> str:
    return re.sub(r"[^\w.-]+", "_", study)
