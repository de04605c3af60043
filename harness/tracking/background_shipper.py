"""The thread that ships a run's spool during the run, and how long the end of a run waits for it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.tracking.errors import one_line
from harness.tracking.shipping import BatchFailedError, RunDeletedError, Shipper
from harness.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SHIPPING_INTERVAL = 1.0  # seconds between rounds, so that one request has the metrics of several short epochs
_MAX_RETRY_DELAY = 30.0  # seconds between tries while the store does not answer
_WAIT_SECONDS = 5.0  # total seconds that a command waits for a store that does not answer at all
_MIN_WAIT_SECONDS = 0.5  # for each run that ends after that


class WaitBudget:
    """The time that the runs of a store wait in total while it does not answer at all.

    Attributes:
        remaining: In seconds.
    """

    def __init__(self) -> None:
        self.remaining = _WAIT_SECONDS

    def spend(self, seconds: float) -> None:
        """Reduce the time that later runs wait."""
        self.remaining = max(_MIN_WAIT_SECONDS, self.remaining - seconds)

    def renew(self) -> None:
        """Reset the budget, because the store has answered."""
        self.remaining = _WAIT_SECONDS


class BackgroundShipper:
    """Ships a spool in a background thread, from its creation until `stop`.

    Attributes:
        error: The current error of shipping, in one line; None while shipping works.
    """

    def __init__(
        self, client: "MlflowClient", spool: Spool, *, run_id: str, experiment_id: str, budget: WaitBudget
    ) -> None:
        """budget: shared by the runs of a store."""
        self.error: str | None = None
        self._client = client
        self._spool = spool
        self._run_id = run_id
        self._budget = budget
        self._shipper = Shipper(client, spool, run_id, experiment_id)
        self._changed = threading.Condition()
        self._flushing = False  # a thread waits in `flush`
        self._stopped = False  # the thread has to end
        self._thread_ended = False
        self._release_later = False  # the thread releases the spool's lock, not `close`
        self._run_deleted = False  # the run is no longer in the store, so nothing can be shipped
        self._last_answer = time.monotonic()  # when the store was last known to answer
        self._thread = threading.Thread(target=self._work, name=f"ship-{run_id[:8]}", daemon=True)
        self._thread.start()

    @property
    def shipped(self) -> bool:
        """Whether the store has everything in the spool, except refused events."""
        return self._spool.shipped >= self._spool.end

    def notify(self) -> None:
        """Wake the thread: something was appended to the spool."""
        with self._changed:
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything logged so far is shipped; return whether it is.

        While it waits, it requests the run once a second, to check that the store answers.

        Args:
            timeout: Seconds without progress after which it gives up. It also gives up when the store has not answered
                at all for the time of the wait budget.
        """
        target, shipped = self._spool.end, self._spool.shipped
        began = progress = self._last_answer = time.monotonic()
        silent = False
        with self._poll_store(), self._changed:
            self._flushing = True
            self._changed.notify_all()
            while self._spool.shipped < target and not self._run_deleted and self._thread.is_alive():
                now = time.monotonic()
                if self._spool.shipped > shipped:
                    shipped, progress, self._last_answer = self._spool.shipped, now, now
                silent = now - self._last_answer > self._budget.remaining
                if silent or now - progress > timeout:
                    break
                self._changed.wait(min(timeout, 0.1))
            self._flushing = False
        complete = self._spool.shipped >= target
        if complete:
            self._budget.renew()
        elif silent:
            self._budget.spend(time.monotonic() - max(began, self._last_answer))
            self.error = self.error or "the tracking server does not answer"
        return complete

    def stop(self) -> None:
        """Tell the thread to end after the current batch."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self, *, complete: bool) -> None:
        """After `stop`: wait for the thread, and release the spool's lock.

        A thread that hangs in a request is not waited for; it releases the lock itself when it ends.

        Args:
            complete: Everything is shipped: clean up the spool, too, and wait 5 s for the thread instead of 0.1 s.
        """
        self.join(timeout=5 if complete else 0.1)
        with self._changed:
            self._release_later = not self._thread_ended
            if self._thread_ended:
                if complete:
                    self._spool.clean_up()
                self._spool.release()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, at most `timeout` seconds."""
        self._thread.join(timeout)

    @contextlib.contextmanager
    def _poll_store(self) -> Iterator[None]:
        """Request the run once a second while the block lasts, to tell a slow store from one that does not answer."""
        finished = threading.Event()

        def poll() -> None:
            while not finished.wait(1.0):
                with contextlib.suppress(Exception):
                    self._client.get_run(self._run_id)
                    self._last_answer = time.monotonic()

        threading.Thread(target=poll, name=f"poll-{self._run_id[:8]}", daemon=True).start()
        try:
            yield
        finally:
            finished.set()

    def _work(self) -> None:
        delay = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or not self.shipped)
            if self._stopped:
                break
            try:
                self._shipper.ship(stop=lambda: self._stopped)
                self.error, failed, delay = None, False, _SHIPPING_INTERVAL
                self._run_deleted = False
            except Exception as error:  # no error of the store ends the training
                self.error, failed = one_line(error), True
                self._run_deleted = isinstance(error, RunDeletedError)
                if isinstance(error, BatchFailedError):  # the store answers
                    delay, self._last_answer = 1.0, time.monotonic()
                else:
                    delay = min(max(2 * delay, 1.0), _MAX_RETRY_DELAY)
            with self._changed:
                self._changed.notify_all()
                # `flush` shortens a long delay.
                self._changed.wait_for(lambda: self._stopped or self._flushing, timeout=delay)
                if self._flushing and failed:
                    self._changed.wait_for(lambda: self._stopped, timeout=0.5)
        with self._changed:
            self._thread_ended = True
            if self._release_later:
                self._spool.release()
