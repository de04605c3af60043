"""The log of one run, and its final status.

    RunLog (an ItemLog) --> Spool (events.jsonl) <-- BackgroundShipper --> MLflow

What sets the final status of a run:

    what ends the run                                   status      written by
    its last epoch is trained                           FINISHED    the caller: `finish`
    NaN, infinite, or no gradient left                  FAILED      the caller: `finish`, and the tag harness.diverged
    pruned; Ctrl-C, SIGTERM or --max-time in an epoch   KILLED      the caller: `finish`, when that epoch has ended
    Ctrl-C at any other time, or a second time          KILLED      `ensure_final_status`
    any other exception                                 FAILED      `ensure_final_status`, and the tag harness.error
    the process is killed, or the power fails           KILLED      `recovery`, called by the next command that trains
    one of these, before a resumed run trains an epoch  as before   `restore`, or `recovery`

The status is the last event in the spool, so a run that is FINISHED in MLflow has everything else there, too. If the
disk is full, the status is set without the spool.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from harness.errors import HarnessError, redact
from harness.experiment.tags import Tag
from harness.tracking.background_shipper import BackgroundShipper, WaitBudget
from harness.tracking.before_resume import BeforeResume
from harness.tracking.item_log import ItemLog, now_ms
from harness.tracking.logged_items import LoggedItems
from harness.tracking.spool import Event, Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient


class RunLog(ItemLog):
    """One MLflow run that is being written. Created by Store.start_run and Store.resume_run.

    Attributes:
        before: The earlier state of a resumed run; None for a new run, and after `mark_changed`.
        resumed: Whether this is a resumed run.
    """

    def __init__(
        self,
        client: "MlflowClient",
        spool: Spool,
        *,
        run_id: str,
        name: str,
        harness_id: str,
        experiment_id: str,
        before: BeforeResume | None,
        logged: LoggedItems,
        budget: WaitBudget,
    ) -> None:
        """Start to ship the spool.

        Args:
            client: The store.
            spool: Where events are appended; this log holds its lock until `finish`.
            run_id: MLflow's id of the run.
            name: MLflow's name of the run.
            harness_id: The tag `harness.id`.
            experiment_id: The MLflow experiment.
            before: The earlier state of a resumed run; None for a new run.
            logged: The items that the run has in the store.
            budget: How long to wait for a silent store, shared by the runs of a store.
        """
        self.name = name
        self.harness_id = harness_id
        self.experiment_id = experiment_id
        self.uri: str = client.tracking_uri
        self.resumed = before is not None
        self.before = before
        self._unchanged = before is not None  # then the spool has `before`, for `recovery` after a kill
        self._client = client
        self._complete: bool | None = None  # the result of `finish`
        self._shipper = BackgroundShipper(client, spool, run_id=run_id, experiment_id=experiment_id, budget=budget)
        super().__init__(run_id, spool, logged, on_append=self._shipper.notify)

    @property
    def shipped(self) -> bool:
        """Whether the store has everything, except refused events."""
        return self._shipper.shipped

    @property
    def shipping_error(self) -> str | None:
        """The current error of shipping, in one line; None if there is none."""
        return self._shipper.error

    def flush(self, timeout: float) -> bool:
        """Wait until everything logged so far is shipped; return whether it is.

        Args:
            timeout: Seconds without progress after which it gives up. It gives up earlier if the store does not answer
                at all.
        """
        return self._shipper.flush(timeout)

    def finish(self, status: str, timeout: float = 60) -> bool:
        """End the run, and wait until everything is shipped, as `flush` does.

        Then the log is closed. A second call does nothing, and returns the same. A full disk raises no error, but is
        reported by `shipping_error`.

        Args:
            status: FINISHED, FAILED or KILLED.
            timeout: In seconds; see `flush`.

        Returns:
            True if the store has everything. Then the spool is cleared, except the checkpoints of a run that is not
            FINISHED. Otherwise False: `shipping_error` has the reason, and the spool stays as it is for Store.sync.
        """
        if self._complete is not None:
            return self._complete
        disk_error = None
        if not self.ended:  # it is set if Ctrl-C interrupted an earlier call
            try:
                self._append({"kind": "status", "status": status}, durable=True)
            except HarnessError as error:
                disk_error = str(error)
                self._set_status_directly(status, timeout, end_time=now_ms())
            self.ended = True
        complete = self.flush(timeout) and not disk_error
        self._shipper.stop()
        refused = self._spool.refused()
        if not complete:
            self._shipper.error = disk_error or self.shipping_error or "the store was too slow to receive everything"
        elif refused:
            self._spool.unreported_refusals()  # count them as reported
            self._shipper.error = (
                f"the store refused {len(refused)} events ({refused[0][1]}); they are kept in {self.folder}"
            )
        self._shipper.close(complete=complete)
        self._complete = complete and not refused
        return self._complete

    def mark_changed(self) -> None:
        """Mark a resumed run as changed, after an epoch: it gets a new final status, and is not restored."""
        if self.before is not None:
            self.tags(self.before.resume_tags)
            self.before = None

    def restore(self, timeout: float = 10) -> None:
        """Restore the earlier status, end time and tags of a resumed run, and close the log.

        For errors before `mark_changed`, so that a command that fails does not change a run.

        Args:
            timeout: In seconds; see `flush`.
        """
        assert self.before is not None
        if self.ended:
            return
        before, self.before = self.before, None
        self._unchanged = False  # the spool still has `before`, so a kill from here on has the same result
        end = before.end_time or now_ms()
        try:
            self.tags(before.tags)
            self._append({"kind": "status", "status": before.status, "time": end}, durable=True)
        except HarnessError:  # a full disk
            self._set_status_directly(before.status, timeout, end_time=end, tags=before.tags)
        self.ended = True
        self.finish(before.status, timeout)

    def _before_append(self, event: Event) -> None:
        if self._unchanged and _changes_run(event):
            self._spool.delete_before()
            self._unchanged = False

    def _set_status_directly(
        self, status: str, timeout: float, *, end_time: int, tags: Mapping[str, str] | None = None
    ) -> None:
        """Set the run's status without the spool, so that the run does not stay RUNNING if the disk is full."""

        def set_status() -> None:
            with contextlib.suppress(Exception):
                for key, value in (tags or {}).items():
                    self._client.set_tag(self.run_id, key, value, synchronous=True)
            with contextlib.suppress(Exception):
                self._client.set_terminated(self.run_id, status, end_time=end_time)

        # In a thread, because a store that hangs would delay the end of the run.
        thread = threading.Thread(target=set_status, name=f"end-{self.run_id[:8]}", daemon=True)
        thread.start()
        thread.join(timeout)


def _changes_run(event: Event) -> bool:
    """Whether this event changes a resumed run. Checkpoints and images repeat items that it has."""
    if event["kind"] == "metrics":
        return not all(key.startswith("system/") for key in event["values"])
    return event["kind"] not in ("artifact", "image")


@contextlib.contextmanager
def ensure_final_status(log: RunLog) -> Iterator[None]:
    """Set a final status after any exception in the block; see the table at the top of this module.

    A resumed run that has not changed (`RunLog.before`) is restored.
    """
    try:
        yield
    except KeyboardInterrupt:
        if log.before is not None:
            log.restore(timeout=5)
        log.finish("KILLED", timeout=5)
        raise
    except BaseException as error:
        if log.before is not None:
            log.restore()
            raise
        with contextlib.suppress(HarnessError):  # a full disk, or a closed log, must not hide the exception
            log.tags({Tag.ERROR: redact(f"{type(error).__name__}: {error}")[:500]})
        log.finish("FAILED", timeout=10)
        raise
