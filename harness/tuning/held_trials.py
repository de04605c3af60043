"""Trials that processes hold: which ones, whether their processes are alive, and how they are set free."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from harness.experiment.tags import StudyAttribute, Tag, TrialAttribute
from harness.tracking.process_tags import process_ended, this_process
from harness.tuning.settings import Settings
from harness.tuning.shared_study import HEARTBEAT_TIMEOUT, SharedStudy
from harness.tuning.storage import storage_errors
from harness.tuning.trial_values import is_racing

MAX_ATTEMPTS = 3  # of a trial that fails, or whose process dies
HEARTBEAT_INTERVAL = 30.0  # seconds, for processes of other hosts
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
        seeds: Number of seeds that it needs now.
        scores: Its scores so far by seed, if it has several seeds.
        measured: All metrics so far by seed and name, if the study has several.
        given_up: Whether an earlier process decided to give it up between seeds.
    """

    trial: Trial
    values: Mapping[str, Any]
    attempt: int
    requeued: bool
    pruned: int | None = None
    seeds: int = 1
    scores: dict[int, float] = field(default_factory=dict)
    measured: dict[int, dict[str, float]] = field(default_factory=dict)
    given_up: bool = False

    @property
    def number(self) -> int:
        """Number of the trial."""
        return int(self.trial.number)


class HeldTrials(SharedStudy):
    """The trials of a study, and those of them that this process holds."""

    def __init__(self, storage: BaseStorage, name: str, settings: Settings, folder: Path) -> None:
        super().__init__(storage, name, settings, folder)
        self._held: dict[int, Claim] = {}
        self._unclaimed: dict[int, float] = {}  # when this process first saw it, on the monotonic clock

    def holds(self, claim: Claim) -> bool:
        """Whether this process still holds the trial."""
        return claim.number in self._held

    def all(self) -> list[FrozenTrial]:
        """Return all trials of the study."""
        with storage_errors():
            return list(self.study.get_trials(deepcopy=False))

    def _reap_stale_trials(self, trials: Sequence[FrozenTrial]) -> bool:
        """Requeue RUNNING trials whose process has ended; after MAX_ATTEMPTS, let them fail.

        Returns:
            Whether there were any.
        """
        found = False
        retried = {trial.user_attrs.get(TrialAttribute.RETRY_OF) for trial in trials}
        for trial in trials:
            if trial.state != TrialState.RUNNING or trial.number in self._held or not self._is_stale(trial):
                continue
            found = True
            attempt = int(trial.user_attrs.get(TrialAttribute.ATTEMPT, 1))
            if trial.number in retried:  # its process died after it had enqueued the retry
                self._set(trial.number, TrialAttribute.RETRIED, True)
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif attempt >= MAX_ATTEMPTS and self.settings.method != "pbt":  # one member would end all others
                self._set(trial.number, TrialAttribute.ERROR, f"its process died in each of {MAX_ATTEMPTS} attempts")
                self.study.tell(trial.number, state=TrialState.FAIL)
            else:
                self._set(trial.number, TrialAttribute.ATTEMPT, attempt + 1)
                self._requeue(trial.number)
        return found

    def _is_stale(self, trial: FrozenTrial) -> bool:
        process = trial.user_attrs.get(TrialAttribute.PROCESS)
        if is_racing(trial):
            return False
        if process is None:
            return time.monotonic() - self._unclaimed.setdefault(trial.number, time.monotonic()) > CLAIM_TIMEOUT
        self._unclaimed.pop(trial.number, None)
        if process[Tag.HOST] != socket.gethostname():
            return process_ended(process) or bool(time.time() - process["beat"] > HEARTBEAT_TIMEOUT)
        dropped = process[Tag.PID] == this_process()[Tag.PID]  # by this process, which does not hold it
        return dropped or process_ended(process)

    def _requeue(self, number: int) -> None:
        """Set a trial to WAITING, without a process, so that any process can claim it."""
        self._set(number, TrialAttribute.PROCESS, None)
        self._set(number, TrialAttribute.AGAIN, True)
        self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)

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
