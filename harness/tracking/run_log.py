"""The log of one run, and how its final status is written.

    RunLog (an ItemLog) --> Spool (events.jsonl) <-- BackgroundShipper --> MLflow

Who decides the final status of a run:

    what ends the run                                   status      written by
    its last epoch is trained                           FINISHED    the caller: `finish`
    NaN, infinite, or no gradient left                  FAILED      the caller: `finish`, and the tag harness.diverged
    pruned; Ctrl-C, SIGTERM or --max-time in an epoch   KILLED      the caller: `finish`, when that epoch has ended
    Ctrl-C at any other time, or a second time          KILLED      `ensure_final_status`
    any other exception                                 FAILED      `ensure_final_status`, and the tag harness.error
    the process is killed, or the power fails           KILLED      `recovery`, called by the next command that trains
    one of these, before a resumed run has an epoch     as before   `restore`, or `recovery`

The status is an event of the spool like all others, and the last one: a run that is FINISHED in MLflow has everything
else there, too. Where the disk is full and the spool takes no event, the status is set without it.
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
    """One MLflow run that is being written. Made by Store.start_run and Store.resume_run.

    Attributes:
        before: How a resumed run stood; None for a new run, and once a resumed one has changed (`mark_changed`).
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
        """Begin to ship what is in the spool.

        Args:
            client: The store.
            spool: Where events are appended; this log holds its lock until `finish`.
            run_id: MLflow's id of the run.
            name: MLflow's name of the run.
            harness_id: The tag `harness.id`.
            experiment_id: The MLflow experiment.
            before: How a resumed run stood; None for a new run.
            logged: What the run has in the store.
            budget: How long to wait for a silent store, shared by the runs of a store.
        """
        self.name = name
        self.harness_id = harness_id
        self.experiment_id = experiment_id
        self.uri: str = client.tracking_uri
        self.resumed = before is not None
        self.before = before
        self._unchanged = before is not None  # then the spool holds `before`, for `recovery` after a kill
        self._client = client
        self._complete: bool | None = None  # what finish has returned
        self._shipper = BackgroundShipper(client, spool, run_id=run_id, experiment_id=experiment_id, budget=budget)
        super().__init__(run_id, spool, logged, on_append=self._shipper.notify)

    @property
    def shipped(self) -> bool:
        """Whether the store has everything, refused events left out."""
        return self._shipper.shipped

    @property
    def shipping_error(self) -> str | None:
        """Why nothing gets through at the moment, in one line; None where nothing is wrong."""
        return self._shipper.error

    def flush(self, timeout: float) -> bool:
        """Wait until what was logged so far is shipped; whether it was.

        Args:
            timeout: Seconds without any progress after which this gives up. It gives up earlier where the store does
                not answer at all.
        """
        return self._shipper.flush(timeout)

    def finish(self, status: str, timeout: float = 60) -> bool:
        """End the run, and wait until everything is shipped, as long as `flush` does.

        The log takes nothing more afterwards: a second call changes nothing, and returns the same. A full disk is no
        error here: `shipping_error` names it.

        Args:
            status: FINISHED, FAILED or KILLED.
            timeout: In seconds; see `flush`.

        Returns:
            True where the store has it all; the spool is cleared, but for the checkpoints of a run that is not
            FINISHED. False otherwise: `shipping_error` says why, and everything stays in the spool for Store.sync.
        """
        if self._complete is not None:
            return self._complete
        disk_error = None
        if not self.ended:  # it is where Ctrl-C cut an earlier call short
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
            self._shipper.error = disk_error or self.shipping_error or "the store was too slow to take everything"
        elif refused:
            self._spool.unreported_refusals()  # this report is the one
            self._shipper.error = (
                f"the store refused {len(refused)} events ({refused[0][1]}); they are kept in {self.folder}"
            )
        self._shipper.close(complete=complete)
        self._complete = complete and not refused
        return self._complete

    def mark_changed(self) -> None:
        """Say that the resumed run has changed (an epoch was trained): from now on it ends as what it has become."""
        if self.before is not None:
            self.tags(self.before.resume_tags)
            self.before = None

    def restore(self, timeout: float = 10) -> None:
        """Put a resumed run back to how it stood: its status, its end time, its tags. Ends the log.

        For what fails before `mark_changed`: a command that only tried does not change a run.

        Args:
            timeout: In seconds; see `flush`.
        """
        assert self.before is not None
        if self.ended:
            return
        before, self.before = self.before, None
        self._unchanged = False  # the spool keeps `before`: a kill from here on leads to the same end
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
            self._spool.forget_before()
            self._unchanged = False

    def _set_status_directly(
        self, status: str, timeout: float, *, end_time: int, tags: Mapping[str, str] | None = None
    ) -> None:
        """Set the run's status without the spool: where the disk is full, too, the run does not stay RUNNING."""

        def ask() -> None:
            with contextlib.suppress(Exception):
                for key, value in (tags or {}).items():
                    self._client.set_tag(self.run_id, key, value, synchronous=True)
            with contextlib.suppress(Exception):
                self._client.set_terminated(self.run_id, status, end_time=end_time)

        # In a thread of its own, because a store that hangs would hold up the end of the run.
        thread = threading.Thread(target=ask, name=f"end-{self.run_id[:8]}", daemon=True)
        thread.start()
        thread.join(timeout)


def _changes_run(event: Event) -> bool:
    """Whether a resumed run is another one with this event. Checkpoints and pictures repeat what it has."""
    if event["kind"] == "metrics":
        return not all(key.startswith("system/") for key in event["values"])
    return event["kind"] not in ("artifact", "image")


@contextlib.contextmanager
def ensure_final_status(log: RunLog) -> Iterator[None]:
    """Give the run a final status, whichever exception leaves the block; see the table at the top of this module.

    A resumed run that has not changed yet (`RunLog.before`) is put back to how it stood.
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
        with contextlib.suppress(HarnessError):  # a full disk, or a log that has ended, must not hide what happened
            log.tags({Tag.ERROR: redact(f"{type(error).__name__}: {error}")[:500]})
        log.finish("FAILED", timeout=10)
        raise
