"""The thread that ships a run's spool while the run goes on, and how long the end of a run waits for it."""

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

_SHIPPING_INTERVAL = 1.0  # seconds between rounds: what several short epochs log goes out in one call
_LONGEST_PAUSE = 30.0  # seconds between tries while the store is away
_SILENCE = 5.0  # seconds that a command waits, in all, for a store that does not answer at all
_SHORTEST_SILENCE = 0.5  # and again for each run that ends after that


class WaitBudget:
    """How long the runs of one store still wait for it while it does not answer at all. left: in seconds."""

    def __init__(self) -> None:
        self.left = _SILENCE

    def spend(self, seconds: float) -> None:
        """Shorten the waiting of the runs that end later."""
        self.left = max(_SHORTEST_SILENCE, self.left - seconds)

    def renew(self) -> None:
        """Start over: the store has answered."""
        self.left = _SILENCE


class BackgroundShipper:
    """Ships a spool in a thread of its own, from the moment it is made until `stop`.

    error: why nothing gets through at the moment, in one line; None while shipping works.
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
        self._hurry = False  # somebody waits in `flush`
        self._stopped = False  # the thread is to end
        self._thread_ended = False
        self._release_later = False  # `close` has left the spool's lock to the thread
        self._run_deleted = False  # the run is not in the store any more, so that nothing can be shipped
        self._last_answer = time.monotonic()  # when the store was last known to answer
        self._thread = threading.Thread(target=self._work, name=f"ship-{run_id[:8]}", daemon=True)
        self._thread.start()

    @property
    def shipped(self) -> bool:
        """Whether the store has everything that is in the spool, refused events left out."""
        return self._spool.shipped >= self._spool.end

    def notify(self) -> None:
        """Wake the thread: something was appended to the spool."""
        with self._changed:
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until what was logged so far is shipped; whether it was.

        Meanwhile the store is asked once a second for a sign of life (get_run).

        Args:
            timeout: Seconds without any progress after which this gives up. It also gives up when the store has not
                answered at all for as long as the wait budget allows.
        """
        target, shipped = self._spool.end, self._spool.shipped
        began = progress = self._last_answer = time.monotonic()
        silent = False
        with self._ask_for_signs_of_life(), self._changed:
            self._hurry = True
            self._changed.notify_all()
            while self._spool.shipped < target and not self._run_deleted and self._thread.is_alive():
                now = time.monotonic()
                if self._spool.shipped > shipped:
                    shipped, progress, self._last_answer = self._spool.shipped, now, now
                silent = now - self._last_answer > self._budget.left
                if silent or now - progress > timeout:
                    break
                self._changed.wait(min(timeout, 0.1))
            self._hurry = False
        complete = self._spool.shipped >= target
        if complete:
            self._budget.renew()
        elif silent:
            self._budget.spend(time.monotonic() - max(began, self._last_answer))
            self.error = self.error or "the tracking server does not answer"
        return complete

    def stop(self) -> None:
        """Ask the thread to end after the batch that it is shipping."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self, *, complete: bool) -> None:
        """After `stop`: wait for the thread, and release the spool's lock.

        A thread that hangs in a request is not waited for; it releases the lock itself when it ends.

        Args:
            complete: Everything is shipped: the spool is tidied, too, and the thread given 5 s instead of 0.1 s.
        """
        self.join(timeout=5 if complete else 0.1)
        with self._changed:
            self._release_later = not self._thread_ended
            if self._thread_ended:
                if complete:
                    self._spool.tidy()
                self._spool.release()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, at most `timeout` seconds."""
        self._thread.join(timeout)

    @contextlib.contextmanager
    def _ask_for_signs_of_life(self) -> Iterator[None]:
        """Meanwhile, ask the store for the run once a second: one that is slow to take something still answers."""
        over = threading.Event()

        def ask() -> None:
            while not over.wait(1.0):
                with contextlib.suppress(Exception):
                    self._client.get_run(self._run_id)
                    self._last_answer = time.monotonic()

        threading.Thread(target=ask, name=f"pulse-{self._run_id[:8]}", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or not self.shipped)
            if self._stopped:
                break
            try:
                self._shipper.ship(stop=lambda: self._stopped)
                self.error, failed, pause = None, False, _SHIPPING_INTERVAL
                self._run_deleted = False
            except Exception as error:  # whatever it is, training goes on
                self.error, failed = one_line(error), True
                self._run_deleted = isinstance(error, RunDeletedError)
                if isinstance(error, BatchFailedError):  # the store answers
                    pause, self._last_answer = 1.0, time.monotonic()
                else:
                    pause = min(max(2 * pause, 1.0), _LONGEST_PAUSE)
            with self._changed:
                self._changed.notify_all()
                # Somebody who waits in flush does not wait for a long pause, too.
                self._changed.wait_for(lambda: self._stopped or self._hurry, timeout=pause)
                if self._hurry and failed:
                    self._changed.wait_for(lambda: self._stopped, timeout=0.5)
        with self._changed:
            self._thread_ended = True
            if self._release_later:
                self._spool.release()
