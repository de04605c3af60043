"""Ship events from the spool to MLflow, in order and in batches.

    RunLog --(event)--> Spool --(Entry)--> Shipper --(batch of events)--> EventWriter --> MlflowClient

`Shipper` distinguishes three failures: the store does not answer (try later), the batch failed (try again, then event
by event), or the event is refused (record it in the spool, and continue).
"""

import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.tracking import find_runs
from harness.tracking.batches import make_batches, split_event
from harness.tracking.errors import error_code, http_status, one_line
from harness.tracking.event_writer import EventRefusedError, EventWriter
from harness.tracking.spool import Entry, Event, Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
_BUSY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
_RETRY_DELAY = 0.5  # seconds
_RETRY_TIMEOUT = 15.0  # seconds after which a failing store is not tried again
_MAX_FAILURES = 5  # of one batch, while the store answers, before it is split or refused


class StoreUnavailableError(Exception):
    """Nothing can be shipped now: the store does not answer."""


class RunDeletedError(StoreUnavailableError):
    """The run is not in the store, or deleted there."""


class BatchFailedError(Exception):
    """The store answers, but the batch failed; another try may succeed."""


class Shipper:
    """Ships one run's spool, whose lock the caller holds."""

    def __init__(self, client: "MlflowClient", spool: Spool, run_id: str, experiment_id: str) -> None:
        self.spool = spool
        self._client = client
        self._run_id = run_id
        self._writer = EventWriter(client, spool, run_id, experiment_id)
        self._failures = 0  # in a row, at the same place

    def ship(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Ship all pending events, with a few requests per batch. After an error, the next call continues from there.

        Args:
            stop: Called after each batch; True ends the call.

        Raises:
            StoreUnavailableError: The store does not answer, or does not have the run (RunDeletedError).
            BatchFailedError: The store answers, but a batch failed.
        """
        end = self.spool.end  # later events wait for the next round, which saves requests
        while self.spool.shipped < end and (entries := self.spool.pending()):
            for batch in make_batches(entries):
                self._ship(batch)
                self._failures = 0
                if stop():
                    return

    def get_run(self) -> "Run":
        """Return the run, as the store has it.

        Raises:
            StoreUnavailableError: The store does not answer, or does not have the run (RunDeletedError).
        """
        try:
            run = self._client.get_run(self._run_id)
        except Exception as error:
            if error_code(error) in _REFUSALS:
                raise RunDeletedError("the run is no longer in the store") from error
            raise StoreUnavailableError(one_line(error)) from error
        if run.info.lifecycle_stage == "deleted":
            raise RunDeletedError(f"the run is deleted in the store; {find_runs.how_to_restore(self._client, run)}")
        return run

    def _ship(self, batch: list[Entry]) -> None:
        if not self._write([entry.event for entry in batch]):
            if len(batch) > 1:
                for entry in batch:
                    self._ship([entry])
                return
            # One bad name among an event's values must not affect the others.
            for part in split_event(batch[0].event):
                self._write([part], record_refusal=True)
        self._record(batch)

    def _write(self, events: list[Event], *, record_refusal: bool = False) -> bool:
        """Write events; return False if the store refuses them. record_refusal: record a refused event in the spool.

        Raises BatchFailedError if a later try may succeed, StoreUnavailableError if the store does not answer.
        """
        try:
            self._writer.write(events)
        except Exception as error:
            if not self._is_refusal(error):
                raise BatchFailedError(one_line(error)) from error
            if record_refusal:
                self.spool.refuse(events[0], one_line(error))
            return False
        return True

    def _is_refusal(self, error: Exception) -> bool:
        """Whether the store refuses this batch for good. Raises StoreUnavailableError if it does not answer."""
        self.get_run()
        if isinstance(error, EventRefusedError) or error_code(error) in _REFUSALS:
            return True
        if http_status(error) in (400, 409, 413, 415, 422):
            return True
        self._failures += error_code(error) not in _BUSY
        return self._failures >= _MAX_FAILURES

    def _record(self, batch: list[Entry]) -> None:
        """Record a batch as shipped, and delete its files from the spool."""
        status = self.spool.status
        for entry in batch:
            if entry.event["kind"] == "status":
                status = entry.event["status"]
        self.spool.mark_shipped(batch[-1].end, status)
        refused = [event for event, _ in self.spool.refused()]
        for entry in batch:
            if entry.event.get("owned") and entry.event not in refused:
                shutil.rmtree(self.spool.folder / entry.event["owned"], ignore_errors=True)


def ship_with_retries(shipper: Shipper) -> None:
    """Ship all pending events, with one more try than one batch has; fewer if the store is slow to fail.

    Raises:
        StoreUnavailableError: The store does not answer, or does not have the run (RunDeletedError: no second try).
        BatchFailedError: The store answers, but a batch failed.
    """
    deadline = time.monotonic() + _RETRY_TIMEOUT
    for left in reversed(range(_MAX_FAILURES + 1)):
        try:
            shipper.ship()
            return
        except RunDeletedError:
            raise
        except (StoreUnavailableError, BatchFailedError):
            if not left or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_DELAY)
