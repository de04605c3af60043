"""The trials of a study, shared by several processes: claimed, reported to Optuna, and requeued when a process dies.

A trial that is being trained is RUNNING and names its process in an attribute. When that process has stopped or died,
the trial becomes WAITING again, and the next process that claims it resumes from its checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from harness.errors import HarnessError, redact
from harness.experiment import Experiment
from harness.experiment.tags import StudyAttribute, Tag, TrialAttribute
from harness.tracking.process_tags import process_ended, this_process
from harness.tuning.sampler import distributions
from harness.tuning.settings import Settings, baseline_values
from harness.tuning.shared_study import HEARTBEAT_TIMEOUT, SharedStudy
from harness.tuning.storage import storage_errors

MAX_ATTEMPTS = 3  # of a trial that fails, or whose process dies
HEARTBEAT_INTERVAL = 30.0  # seconds, for processes of other hosts
RETRY_DELAYS = (1.0, 3.0)  # seconds between tries of a storage that fails
CLAIM_TIMEOUT = 60.0  # seconds that a trial may be RUNNING before it names its process


@dataclass
class Claim:
    """A trial that this process trains.

    Attributes:
        trial: Optuna's trial.
        values: The hyperparameters that it tries.
        attempt: Counted from 1, including the attempts of the trials that it retries.
        requeued: Whether another process has claimed it before, and may have trained a part of it.
        pruned: The epoch at which an earlier process decided to prune it; else None.
    """

    trial: Trial
    values: Mapping[str, Any]
    attempt: int
    requeued: bool
    pruned: int | None = None

    @property
    def number(self) -> int:
        """Number of the trial."""
        return int(self.trial.number)


class Trials(SharedStudy):
    """The trials of one study, from `Trials.create` or `Trials.find`.

    All methods raise HarnessError if the storage fails, or if another process has taken over a trial.
    """

    def __init__(self, storage: BaseStorage, name: str, settings: Settings, folder: Path) -> None:
        super().__init__(storage, name, settings, folder)
        self._distributions = distributions(settings.search)
        self._held: dict[int, Claim] = {}
        self._unclaimed: dict[int, float] = {}  # when this process first saw it, on the monotonic clock

    # Claims ------------------------------------------------------------------------------------------------------

    def claim(self, total: int, at_most: int = 1) -> list[Claim]:
        """Claim trials to train, while fewer than `total` have ended or are being trained.

        Requeued trials come first, and are not claimed together with new ones.

        Args:
            total: Requested number of trials.
            at_most: Number of trials to claim at most.
        """
        claims: list[Claim] = []
        with self.locked(), storage_errors():
            if not self.all():
                self.study.enqueue_trial(baseline_values(self.settings), user_attrs={TrialAttribute.CUSTOM: True})
            self._reap_stale_trials()
            requeued = any(_is_requeued(trial) for trial in self.all())
            while len(claims) < at_most and self._has_room(total):
                if requeued and not any(_is_requeued(trial) for trial in self.all()):
                    break
                trial = self.study.ask(self._distributions)
                found = self._storage.get_trial(self._id(trial.number))
                if self._is_surplus(found, total):
                    trial.set_user_attr(TrialAttribute.SURPLUS, True)
                    self.study.tell(trial, state=TrialState.FAIL)
                    break
                attributes = found.user_attrs
                if changed := self.changed:
                    trial.set_user_attr(Tag.CHANGED, changed)
                trial.set_user_attr(TrialAttribute.PROCESS, {**this_process(), "beat": time.time()})
                claim = Claim(
                    trial,
                    trial.params,
                    attempt=int(attributes.get(TrialAttribute.ATTEMPT, 1)),
                    requeued=TrialAttribute.AGAIN in attributes,
                    pruned=attributes.get(TrialAttribute.PRUNED),
                )
                self._held[trial.number] = claim
                claims.append(claim)
        return claims

    def holds(self, claim: Claim) -> bool:
        """Whether this process still holds the trial."""
        return claim.number in self._held

    def is_incomplete(self, total: int) -> bool:
        """Whether fewer than `total` trials have ended."""
        return sum(is_counted(trial) for trial in self.all() if trial.state.is_finished()) < total

    def all(self) -> list[FrozenTrial]:
        """Return all trials of the study."""
        with storage_errors():
            return list(self.study.get_trials(deepcopy=False))

    def _has_room(self, total: int) -> bool:
        return sum(is_counted(trial) for trial in self.all() if trial.state != TrialState.WAITING) < total

    def _is_surplus(self, trial: FrozenTrial, total: int) -> bool:
        """Whether processes of other hosts have claimed the last trials at the same moment."""
        if "fixed_params" in trial.system_attrs or TrialAttribute.AGAIN in trial.user_attrs:
            return False
        busy = [other.number for other in self.all() if is_counted(other) and other.state != TrialState.WAITING]
        return len([number for number in busy if number < trial.number]) >= total

    def _reap_stale_trials(self) -> None:
        """Requeue RUNNING trials whose process has ended; after MAX_ATTEMPTS, let them fail."""
        trials = self.all()
        retried = {trial.user_attrs.get(TrialAttribute.RETRY_OF) for trial in trials}
        for trial in trials:
            if trial.state != TrialState.RUNNING or trial.number in self._held or not self._is_stale(trial):
                continue
            attempt = int(trial.user_attrs.get(TrialAttribute.ATTEMPT, 1))
            if trial.number in retried:  # its process died after it had enqueued the retry
                self._set(trial.number, TrialAttribute.RETRIED, True)
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif attempt >= MAX_ATTEMPTS:
                self._set(trial.number, TrialAttribute.ERROR, f"its process died in each of {MAX_ATTEMPTS} attempts")
                self.study.tell(trial.number, state=TrialState.FAIL)
            else:
                self._set(trial.number, TrialAttribute.ATTEMPT, attempt + 1)
                self._requeue(trial.number)

    def _is_stale(self, trial: FrozenTrial) -> bool:
        process = trial.user_attrs.get(TrialAttribute.PROCESS)
        if process is None:
            return time.monotonic() - self._unclaimed.setdefault(trial.number, time.monotonic()) > CLAIM_TIMEOUT
        self._unclaimed.pop(trial.number, None)
        if process[Tag.HOST] != socket.gethostname():
            return bool(time.time() - process["beat"] > HEARTBEAT_TIMEOUT)
        dropped = process[Tag.PID] == this_process()[Tag.PID]  # by this process, which does not hold it
        return dropped or process_ended(process)

    def _requeue(self, number: int) -> None:
        """Set a trial to WAITING, without a process, so that any process can claim it."""
        self._set(number, TrialAttribute.PROCESS, None)
        self._set(number, TrialAttribute.AGAIN, True)
        self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)

    # Results -----------------------------------------------------------------------------------------------------

    def report(self, claim: Claim, run_id: str, epoch: int, value: float, *, last: bool = False) -> bool:
        """Report an intermediate score; return whether to prune the trial. A storage that fails is tried again.

        Args:
            claim: The trial.
            run_id: Id of its MLflow run.
            epoch: The epoch.
            value: The score.
            last: Whether this is the last epoch, after which a trial is not pruned.
        """
        for delay in RETRY_DELAYS:
            try:
                return self._report(claim, run_id, epoch, value, last)
            except HarnessError:
                time.sleep(delay)
        return self._report(claim, run_id, epoch, value, last)

    def _report(self, claim: Claim, run_id: str, epoch: int, value: float, last: bool) -> bool:
        with storage_errors():
            found = self._storage.get_trial(self._id(claim.number))
            if found.user_attrs.get(TrialAttribute.RUN_ID) != run_id:
                claim.trial.set_user_attr(TrialAttribute.RUN_ID, run_id)
            if epoch not in found.intermediate_values:  # it is there if the epoch is repeated after a crash
                claim.trial.report(value, epoch)
            if last or not claim.trial.should_prune():
                return False
            claim.trial.set_user_attr(TrialAttribute.PRUNED, epoch)  # a repeated report would not be pruned
            return True

    def complete(self, claim: Claim, run_id: str, value: float, *, diverged: str | None = None) -> None:
        """End a trial with a score."""
        with storage_errors():
            if diverged:
                claim.trial.set_user_attr(TrialAttribute.DIVERGED, diverged)
            self._tell(claim, run_id, TrialState.COMPLETE, value)

    def prune(self, claim: Claim, run_id: str) -> None:
        """End a pruned trial."""
        with storage_errors():
            self._tell(claim, run_id, TrialState.PRUNED)

    def fail(self, claim: Claim, error: str, *, retry: bool) -> None:
        """End a failed trial. retry: enqueue its values as a new trial, unless this was the last attempt."""
        with self.locked(), storage_errors():
            claim.trial.set_user_attr(TrialAttribute.ERROR, redact(error)[:500])
            if retry and claim.attempt < MAX_ATTEMPTS:
                attributes = {TrialAttribute.RETRY_OF: claim.number, TrialAttribute.ATTEMPT: claim.attempt + 1}
                self.study.enqueue_trial(dict(claim.values), user_attrs=attributes)
                claim.trial.set_user_attr(TrialAttribute.RETRIED, True)
            self._tell(claim, None, TrialState.FAIL)

    def release(self, claim: Claim) -> None:
        """Requeue a trial that was stopped. If the storage fails, the next `claim` of any process does it."""
        if self._held.pop(claim.number, None):
            with contextlib.suppress(HarnessError), storage_errors():
                self._requeue(claim.number)

    def _tell(self, claim: Claim, run_id: str | None, state: TrialState, value: float | None = None) -> None:
        if run_id:
            claim.trial.set_user_attr(TrialAttribute.RUN_ID, run_id)
        self.study.tell(claim.trial, value, state=state)
        self._held.pop(claim.number, None)

    def _set(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._id(number), key, value)

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self.name)
        return int(self._storage.get_trial_id_from_study_id_trial_number(study, number))

    # Heartbeat ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Send heartbeats for the claimed trials and the study's run while the block lasts, for other hosts."""
        stopped = threading.Event()

        def beat() -> None:
            while True:
                if self.writes_study_run:
                    with contextlib.suppress(Exception):
                        self.study.set_user_attr(StudyAttribute.KEPT, time.time())
                if stopped.wait(HEARTBEAT_INTERVAL):
                    return
                for number in list(self._held):
                    with contextlib.suppress(Exception):  # the trial has ended, or the storage fails for a moment
                        self._set(number, TrialAttribute.PROCESS, {**this_process(), "beat": time.time()})

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(timeout=5)


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts as one of the requested trials: a failed trial that is retried does not."""
    attributes = trial.user_attrs
    return trial.state != TrialState.FAIL or not (
        attributes.get(TrialAttribute.RETRIED) or attributes.get(TrialAttribute.SURPLUS)
    )


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the complete trial with the best value, the first of several; None if there is none."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return min(complete, key=lambda trial: sign * trial_value(trial), default=None)


def trial_value(trial: FrozenTrial) -> float:
    """Return the value of a trial; NaN if it has none."""
    return math.nan if trial.value is None else float(trial.value)


def trial_experiment(settings: Settings, values: Mapping[str, Any]) -> Experiment:
    """Return the experiment that a trial trains. Raises HarnessError if its values are invalid.

    Names of custom classes come from the storage: see `harness.experiment.trust`.
    """
    return settings.search.experiment(settings.base, values)


def _is_requeued(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.WAITING and TrialAttribute.AGAIN in trial.user_attrs
