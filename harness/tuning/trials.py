"""The trials of a study, as all who work on it share them: taken one by one, told once, and never lost.

A trial that is being trained is RUNNING and names the process that trains it. When that process is gone, or has
stopped, it is WAITING again, and whoever takes it next goes on from its checkpoint. So a study holds as many trials as
were asked for, however often it was killed.
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
from harness.tracking.process_tags import gone, this_process
from harness.tuning.sampler import distributions
from harness.tuning.settings import Settings, baseline_values
from harness.tuning.shared_study import SILENCE, SharedStudy
from harness.tuning.storage import storage_errors

ATTEMPTS = 3  # a trial that fails, or takes its process with it, is tried so often
BEAT = 30.0  # seconds between signs of life, for other hosts to see
PATIENCE = (1.0, 3.0)  # seconds between tries of a storage that fails
UNCLAIMED = 60.0  # seconds that a trial may run without naming its process


@dataclass
class Claim:
    """A trial that is ours to train.

    values: what it tries. attempt: counted from 1, with those of the trials that it repeats.
    again: somebody has had it before, so some of it may be done. pruned: the epoch at which that was decided.
    """

    trial: Trial
    values: Mapping[str, Any]
    attempt: int
    again: bool
    pruned: int | None = None

    @property
    def number(self) -> int:
        """Number of the trial."""
        return int(self.trial.number)


class Trials(SharedStudy):
    """The trials of one study, from `Trials.create` or `Trials.find`.

    All methods raise HarnessError when the storage fails, or when another process has taken over a trial.
    """

    def __init__(self, storage: BaseStorage, name: str, settings: Settings, folder: Path) -> None:
        """folder: where processes of this host that share the storage find each other."""
        super().__init__(storage, name, settings, folder)
        self._distributions = distributions(settings.search)
        self._held: dict[int, Claim] = {}
        self._unclaimed: dict[int, float] = {}  # when we first saw it so, on the monotonic clock

    # Taking ------------------------------------------------------------------------------------------------------

    def claim(self, total: int, at_most: int = 1) -> list[Claim]:
        """Trials to train now, while fewer than `total` have ended or are being trained.

        Those that somebody has begun come first, and without company: what they were drawn from is known already.
        """
        claims: list[Claim] = []
        with self.deciding(), storage_errors():
            if not self.all():
                self.study.enqueue_trial(baseline_values(self.settings), user_attrs={TrialAttribute.CUSTOM: True})
            self._reap_stale_trials()
            begun = any(_waits_again(trial) for trial in self.all())
            while len(claims) < at_most and self._room(total):
                if begun and not any(_waits_again(trial) for trial in self.all()):
                    break
                trial = self.study.ask(self._distributions)
                found = self._storage.get_trial(self._id(trial.number))
                if self._surplus(found, total):
                    trial.set_user_attr(TrialAttribute.SURPLUS, True)
                    self.study.tell(trial, state=TrialState.FAIL)
                    break
                attributes = found.user_attrs
                if changed := self.changed:
                    trial.set_user_attr(Tag.CHANGED, changed)
                trial.set_user_attr(TrialAttribute.PROCESS, {**this_process(), "beat": time.time()})
                attempt, again = int(attributes.get(TrialAttribute.ATTEMPT, 1)), TrialAttribute.AGAIN in attributes
                claim = Claim(trial, trial.params, attempt, again, attributes.get(TrialAttribute.PRUNED))
                self._held[trial.number] = claim
                claims.append(claim)
        return claims

    def holds(self, claim: Claim) -> bool:
        """Whether the trial is still ours to tell."""
        return claim.number in self._held

    def open(self, total: int) -> bool:
        """Whether fewer than `total` trials have ended."""
        return sum(is_counted(trial) for trial in self.all() if trial.state.is_finished()) < total

    def all(self) -> list[FrozenTrial]:
        """Return all trials of the study."""
        with storage_errors():
            return list(self.study.get_trials(deepcopy=False))

    def _room(self, total: int) -> bool:
        return sum(is_counted(trial) for trial in self.all() if trial.state != TrialState.WAITING) < total

    def _surplus(self, trial: FrozenTrial, total: int) -> bool:
        """Whether other hosts have taken the last places at the same moment."""
        if "fixed_params" in trial.system_attrs or TrialAttribute.AGAIN in trial.user_attrs:
            return False
        busy = [other.number for other in self.all() if is_counted(other) and other.state != TrialState.WAITING]
        return len([number for number in busy if number < trial.number]) >= total

    def _reap_stale_trials(self) -> None:
        """Trials whose process is gone are waiting again, or have failed where that happened too often."""
        trials = self.all()
        retried = {trial.user_attrs.get(TrialAttribute.RETRY_OF) for trial in trials}
        for trial in trials:
            if trial.state != TrialState.RUNNING or trial.number in self._held or not self._abandoned(trial):
                continue
            attempt = int(trial.user_attrs.get(TrialAttribute.ATTEMPT, 1))
            if trial.number in retried:  # its process died between the two
                self._set(trial.number, TrialAttribute.RETRIED, True)
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif attempt >= ATTEMPTS:
                self._set(trial.number, TrialAttribute.ERROR, f"its process died in each of {ATTEMPTS} attempts")
                self.study.tell(trial.number, state=TrialState.FAIL)
            else:
                self._set(trial.number, TrialAttribute.ATTEMPT, attempt + 1)
                self._wait_again(trial.number)

    def _abandoned(self, trial: FrozenTrial) -> bool:
        process = trial.user_attrs.get(TrialAttribute.PROCESS)
        if process is None:
            return time.monotonic() - self._unclaimed.setdefault(trial.number, time.monotonic()) > UNCLAIMED
        self._unclaimed.pop(trial.number, None)
        if process[Tag.HOST] != socket.gethostname():
            return bool(time.time() - process["beat"] > SILENCE)
        own = process[Tag.PID] == this_process()[Tag.PID]  # and not held: it was dropped
        return own or gone(process)

    def _wait_again(self, number: int) -> None:
        """For whoever comes next, who finds no process named in it until it names its own."""
        self._set(number, TrialAttribute.PROCESS, None)
        self._set(number, TrialAttribute.AGAIN, True)
        self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)

    # Telling -----------------------------------------------------------------------------------------------------

    def report(self, claim: Claim, run_id: str, epoch: int, value: float, *, last: bool = False) -> bool:
        """A score on the way; returns whether the trial is to end here, which it never is after its last epoch.

        A storage that is away for a moment is asked again: a healthy run is not to fail for it.
        """
        for pause in PATIENCE:
            try:
                return self._report(claim, run_id, epoch, value, last)
            except HarnessError:
                time.sleep(pause)
        return self._report(claim, run_id, epoch, value, last)

    def _report(self, claim: Claim, run_id: str, epoch: int, value: float, last: bool) -> bool:
        with storage_errors():
            found = self._storage.get_trial(self._id(claim.number))
            if found.user_attrs.get(TrialAttribute.RUN_ID) != run_id:
                claim.trial.set_user_attr(TrialAttribute.RUN_ID, run_id)
            if epoch not in found.intermediate_values:  # else it was trained again after a crash
                claim.trial.report(value, epoch)
            if last or not claim.trial.should_prune():
                return False
            claim.trial.set_user_attr(TrialAttribute.PRUNED, epoch)  # Optuna does not answer the same question twice
            return True

    def complete(self, claim: Claim, run_id: str, value: float, *, diverged: str | None = None) -> None:
        """A trial that has a score, good or bad."""
        with storage_errors():
            if diverged:
                claim.trial.set_user_attr(TrialAttribute.DIVERGED, diverged)
            self._tell(claim, run_id, TrialState.COMPLETE, value)

    def prune(self, claim: Claim, run_id: str) -> None:
        """A trial that was ended on the way."""
        with storage_errors():
            self._tell(claim, run_id, TrialState.PRUNED)

    def fail(self, claim: Claim, error: str, *, again: bool) -> None:
        """A trial that an exception ended; again: it is tried anew, as another trial, while it has attempts left."""
        with self.deciding(), storage_errors():
            claim.trial.set_user_attr(TrialAttribute.ERROR, redact(error)[:500])
            if again and claim.attempt < ATTEMPTS:
                attributes = {TrialAttribute.RETRY_OF: claim.number, TrialAttribute.ATTEMPT: claim.attempt + 1}
                self.study.enqueue_trial(dict(claim.values), user_attrs=attributes)
                claim.trial.set_user_attr(TrialAttribute.RETRIED, True)
            self._tell(claim, None, TrialState.FAIL)

    def release(self, claim: Claim) -> None:
        """A trial that was stopped is waiting again. Where the storage does not answer, it is swept up later."""
        if self._held.pop(claim.number, None):
            with contextlib.suppress(HarnessError), storage_errors():
                self._wait_again(claim.number)

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

    # Signs of life -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Meanwhile the trials that are held, and the study's run, show other hosts that they are alive."""
        over = threading.Event()

        def beat() -> None:
            while True:
                if self.keeping:
                    with contextlib.suppress(Exception):
                        self.study.set_user_attr(StudyAttribute.KEPT, time.time())
                if over.wait(BEAT):
                    return
                for number in list(self._held):
                    with contextlib.suppress(Exception):  # told in the meantime, or the storage is away for a moment
                        self._set(number, TrialAttribute.PROCESS, {**this_process(), "beat": time.time()})

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=5)


def is_counted(trial: FrozenTrial) -> bool:
    """Whether it is one of the trials that were asked for: a failed one is not where it is tried again."""
    attributes = trial.user_attrs
    return trial.state != TrialState.FAIL or not (
        attributes.get(TrialAttribute.RETRIED) or attributes.get(TrialAttribute.SURPLUS)
    )


def best(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the best value; the first of equals."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return min(complete, key=lambda trial: sign * value_of(trial), default=None)


def value_of(trial: FrozenTrial) -> float:
    """Return the value of a trial; NaN if it has none."""
    return math.nan if trial.value is None else float(trial.value)


def experiment_of(settings: Settings, values: Mapping[str, Any]) -> Experiment:
    """What a trial trains. Raises HarnessError where its values do not go together.

    Where custom classes are searched, their names come from the storage: see `harness.experiment.trust`.
    """
    return settings.search.experiment(settings.base, values)


def _waits_again(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.WAITING and TrialAttribute.AGAIN in trial.user_attrs
