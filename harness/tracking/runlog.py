"""The log of one run: every call appends to the spool and returns; a thread of its own ships what is there."""

import contextlib
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, redact
from harness.tracking import artifacts
from harness.tracking.inventory import Inventory, image_steps
from harness.tracking.shipping import Deleted, Shipper, Trouble, in_calls, reason
from harness.tracking.spool import Event, Spool

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

    from harness.tracking.system import SystemMetrics

_ROUND = 1.0  # seconds between rounds: what several short epochs log goes out in one call
_LONGEST_PAUSE = 30.0  # seconds between tries while the store is away
_SILENCE = 5.0  # seconds that a command waits, in all, for a store that does not answer at all
_SHORTEST_SILENCE = 0.5  # and again for each run that ends after that


class Patience:
    """How long the runs of one store still wait for it while it does not answer at all."""

    def __init__(self) -> None:
        self.left = _SILENCE

    def spend(self, seconds: float) -> None:
        self.left = max(_SHORTEST_SILENCE, self.left - seconds)

    def renew(self) -> None:
        self.left = _SILENCE


@dataclass(frozen=True)
class Before:
    """How a run stood when it was resumed: status, end (milliseconds since 1970), the tags that resuming changes.

    resumed: tags of the resumed run, which are logged once it has changed.
    """

    status: str
    end_time: int | None
    tags: Mapping[str, str]
    resumed: Mapping[str, str]


class RunLog:
    """One MLflow run that is being written. Made by Store.start_run and Store.resume_run.

    No method that logs waits for the store. All may be called from any thread. A full disk raises HarnessError.

    A metric, an image and a model are logged once per key and step: what the run holds already, logged by this process
    or by the one that was killed before it, is left out. So a resumed run may log again whatever it is not sure of.
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
        before: Before | None = None,
        held: Inventory | None = None,
        patience: Patience | None = None,
    ) -> None:
        """before, held: how a resumed run stood, and what it holds in the store; None for a new run.

        patience: shared by the runs of a store.
        """
        self.run_id = run_id
        self.name = name
        self.harness_id = harness_id
        self.experiment_id = experiment_id
        self.uri: str = client.tracking_uri
        self.folder = spool.folder
        self.resumed = before is not None
        self.before = before  # None once the run has changed
        self.measured = False  # metrics of its own are logged, not the machine's alone
        self.lost: str | None = None  # why nothing gets through at the moment, in one line
        self._held = held or Inventory()
        self._patience = patience or Patience()
        self._client = client
        self._spool = spool
        self._shipper = Shipper(client, spool, run_id, experiment_id)
        self._state = threading.Condition()
        self._hurry = False
        self._ended = False  # nothing more may be logged
        self._stop = False  # the thread is to end
        self._complete: bool | None = None  # what finish has returned
        self._left = False  # finish has gone without waiting for the thread
        self._over = False  # the thread has ended
        self._answered = time.monotonic()  # when the store was last known to answer
        self._deleted = False  # the run is not in the store any more, so that nothing can be shipped
        self._thread = threading.Thread(target=self._work, name=f"ship-{run_id[:8]}", daemon=True)
        self._thread.start()

    # What is logged

    def metrics(self, step: int, values: Mapping[str, float], *, replace: bool = False) -> None:
        """Values of one step, which reach the store together. NaN and infinities are allowed.

        replace: log them although there are others at this step; the newest count.
        """
        self.measured = self.measured or not all(key.startswith("system/") for key in values)
        held = self._held.metrics
        fresh = {key: float(value) for key, value in values.items() if replace or int(step) not in held.get(key, ())}
        for piece in in_calls(fresh, "metrics"):
            self._append({"kind": "metrics", "step": int(step), "values": piece})
            for key in piece:
                held.setdefault(key, set()).add(int(step))

    def params(self, values: Mapping[str, object]) -> None:
        """Params, as text. The store refuses to change one that it has."""
        for piece in in_calls({key: redact(str(value)) for key, value in values.items()}, "params"):
            self._append({"kind": "params", "values": piece})

    def tags(self, values: Mapping[str, str]) -> None:
        for piece in in_calls({key: redact(str(value)) for key, value in values.items()}, "tags"):
            self._append({"kind": "tags", "values": piece})

    def describe(self, text: str) -> None:
        """Markdown for the run's description, in place of what was given before; a user's own text stays first."""
        if text:
            self._append({"kind": "note", "text": redact(text)})

    def image(self, key: str, step: int, picture: "np.ndarray", *, replace: bool = False) -> None:
        """A picture for the run's image charts, uint8 [H, W] or [H, W, 3]. Stored losslessly.

        replace: log it although there is one at this step; MLflow's UI shows the newest.
        """
        from PIL import Image

        if picture.dtype.name != "uint8" or picture.ndim not in (2, 3):
            raise ValueError(f"a picture is uint8 [H, W] or [H, W, 3], not {picture.dtype} {list(picture.shape)}")
        if self.has_image(key, step) and not replace:
            return
        now = _now()
        folder = self._spool.new_folder()
        # The name is what MlflowClient.log_image would give it, and where the UI reads key, step and time.
        file = folder / f"{key.replace('/', '~')}+step+{int(step)}+timestamp+{now}+{uuid.uuid4()}.png"
        Image.fromarray(picture).save(file)
        self._append({"kind": "image", "key": key, "step": int(step), **self._inside(file, folder), "time": now})
        self._held.images.setdefault(key, set()).add(int(step))

    def artifact(self, file: Path, folder: str = "") -> None:
        """A file into the run's `folder`. It is read when it is shipped: a newer one in its place is taken instead."""
        file = file.absolute()
        inside = file.is_relative_to(self.folder)
        self._append(
            {"kind": "artifact", "file": str(file.relative_to(self.folder) if inside else file), "folder": folder}
        )
        self._held.files.add(f"{folder}/{file.name}".lstrip("/"))

    def text(self, text: str, name: str) -> None:
        """An artifact at the path `name` made of `text`, without the credentials of any URI in it."""
        folder = self._spool.new_folder()
        file = folder / Path(name).name
        file.write_text(redact(text), encoding="utf-8")
        parent = Path(name).parent.as_posix()
        self._append(
            {"kind": "artifact", **self._inside(file, folder), "folder": "" if parent == "." else parent},
        )

    def dataset(self, *, name: str, fingerprint: str, context: str, size: int, shape: tuple[int, ...]) -> None:
        """The images as an MLflow dataset input: how many, of which shape, and used for what (`context`: training)."""
        self._append(
            {
                "kind": "dataset",
                "name": name,
                "fingerprint": fingerprint,
                "context": context,
                "size": int(size),
                "shape": [int(length) for length in shape],
            }
        )

    def model(self, name: str, folder: Path, step: int = 0, key: str | None = None) -> None:
        """An MLflow model saved in `folder`, which is copied: runs:/<run_id>/<name> loads it once it is shipped.

        key: what makes it this model and no other, among all runs; a model with the same key is logged once.
        """
        if key is not None and self.has_model(key):
            return
        owned = self._spool.new_folder()
        shutil.copytree(folder, owned, dirs_exist_ok=True)
        key = key or owned.name
        self._append({"kind": "model", "name": name, "key": key, "step": int(step), **self._inside(owned, owned)})
        self._held.models.add(key)

    def watch_system(self) -> "SystemMetrics":
        """MLflow's system metrics (CPU, memory, disk, network, GPUs) until stopped; also a context manager."""
        from harness.tracking.system import SystemMetrics

        return SystemMetrics(self)

    def sync_to_disk(self) -> None:
        """See everything logged so far on the disk, so that a power cut keeps it, too."""
        try:
            self._spool.sync()
        except OSError as error:
            raise HarnessError(f"cannot write to the spool {self.folder}: {error.strerror or error}") from error

    # What is known about it

    @property
    def ended(self) -> bool:
        """Whether `finish` was called: nothing more can be logged."""
        return self._ended

    @property
    def shipped(self) -> bool:
        """Whether the store has everything, refused events left out."""
        return self._spool.shipped >= self._spool.end

    def has_image(self, key: str, step: int) -> bool:
        return int(step) in self._held.images.get(key, ())

    def has_file(self, path: str) -> bool:
        """Whether the run has an artifact at `path`, at most one folder deep."""
        return path in self._held.files

    def has_model(self, key: str) -> bool:
        return key in self._held.models

    def steps(self, metric: str) -> set[int]:
        """The steps at which a metric was logged, shipped or not."""
        return set(self._held.metrics.get(metric, ()))

    def last_step(self, metric: str) -> int:
        """The highest step logged of a metric, 0 when none, shipped or not."""
        return max(self.steps(metric), default=0)

    def image_steps(self, key: str) -> set[int]:
        """The steps at which an image was logged under `key`, shipped or not. Asks the store."""
        with _asking():
            images = artifacts.repository(self._client, self.run_id).list_artifacts("images")
        return self._held.images.get(key, set()) | image_steps({info.path for info in images}).get(key, set())

    # The end

    def flush(self, timeout: float) -> bool:
        """Wait until what was logged so far is shipped.

        Gives up when nothing was shipped for `timeout` seconds, and a few seconds after the store has last answered.
        """
        target, shipped = self._spool.end, self._spool.shipped
        began = progress = self._answered = time.monotonic()
        silent = False
        with self._pulse(), self._state:
            self._hurry = True
            self._state.notify_all()
            while self._spool.shipped < target and not self._deleted and self._thread.is_alive():
                now = time.monotonic()
                if self._spool.shipped > shipped:
                    shipped, progress, self._answered = self._spool.shipped, now, now
                silent = now - self._answered > self._patience.left
                if silent or now - progress > timeout:
                    break
                self._state.wait(min(timeout, 0.1))
            self._hurry = False
        complete = self._spool.shipped >= target
        if complete:
            self._patience.renew()
        elif silent:
            self._patience.spend(time.monotonic() - max(began, self._answered))
            self.lost = self.lost or "the tracking server does not answer"
        return complete

    @contextlib.contextmanager
    def _pulse(self) -> Iterator[None]:
        """Meanwhile the store is asked for a sign of life: one that is slow to take something still answers."""
        over = threading.Event()

        def ask() -> None:
            while not over.wait(1.0):
                with contextlib.suppress(Exception):
                    self._client.get_run(self.run_id)
                    self._answered = time.monotonic()

        threading.Thread(target=ask, name=f"pulse-{self.run_id[:8]}", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def finish(self, status: str, timeout: float = 60) -> bool:
        """End the run as FINISHED, FAILED or KILLED, and wait until everything is shipped, as long as `flush` does.

        True: the store has it all, and the spool is cleared, but for the checkpoints of a run that is not FINISHED.
        False: `lost` says why; everything stays in the spool for Store.sync. The log takes nothing more either way:
        a second call changes nothing, and returns the same. A full disk is a `lost`, too, not an error.
        """
        if self._complete is not None:
            return self._complete
        unwritten = None
        if not self._ended:  # it is where Ctrl-C cut an earlier call short
            try:
                self._append({"kind": "status", "status": status}, durable=True)
            except HarnessError as error:
                unwritten = str(error)
                self._set_status(status, timeout)
            self._ended = True
        complete = self.flush(timeout) and not unwritten
        with self._state:
            self._stop = True
            self._state.notify_all()
        refused = self._spool.refused()
        if not complete:
            self.lost = unwritten or self.lost or "the store was too slow to take everything"
        elif refused:
            self._spool.unreported_refusals()  # this report is the one
            self.lost = f"the store refused {len(refused)} events ({refused[0][1]}); they are kept in {self.folder}"
        self._thread.join(timeout=5 if complete else 0.1)
        with self._state:
            self._left = not self._over
            if self._over:
                if complete:
                    self._spool.settle()
                self._spool.release()
        self._complete = complete and not refused
        return self._complete

    def keep(self) -> None:
        """The resumed run has changed (an epoch was trained): from now on it ends as what it has become."""
        if self.before is not None:
            self.tags(self.before.resumed)
            self.before = None

    def restore(self, timeout: float = 10) -> None:
        """Put a resumed run back to how it stood: its status, its end time, its tags. Ends the log.

        For what fails before `keep`: a command that only tried does not change a run.
        """
        assert self.before is not None
        if self._ended:
            return
        before, self.before = self.before, None
        end = before.end_time or _now()
        try:
            self.tags(before.tags)
            self._append({"kind": "status", "status": before.status, "time": end}, durable=True)
        except HarnessError:  # a full disk
            self._set_status(before.status, timeout, end_time=end, tags=before.tags)
        self._ended = True
        self.finish(before.status, timeout)

    def _set_status(
        self, status: str, timeout: float, *, end_time: int | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Set the run's status past the spool: without disk space, too, it is not to stay RUNNING."""

        def ask() -> None:
            with contextlib.suppress(Exception):
                for key, value in (tags or {}).items():
                    self._client.set_tag(self.run_id, key, value, synchronous=True)
            with contextlib.suppress(Exception):
                self._client.set_terminated(self.run_id, status, end_time=end_time or _now())

        # In a thread of its own, because a store that hangs would hold up the end of the run.
        thread = threading.Thread(target=ask, name=f"end-{self.run_id[:8]}", daemon=True)
        thread.start()
        thread.join(timeout)

    # The thread

    def _append(self, event: Event, *, durable: bool = False) -> None:
        if self._ended:
            raise HarnessError(f"run {self.run_id} has ended and takes nothing more")
        try:
            self._spool.append({"time": _now(), **event}, durable=durable)
        except OSError as error:
            raise HarnessError(f"cannot write to the spool {self.folder}: {error.strerror or error}") from error
        with self._state:
            self._state.notify_all()

    def _inside(self, file: Path, folder: Path) -> Event:
        return {"file": str(file.relative_to(self.folder)), "owned": str(folder.relative_to(self.folder))}

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._state:
                self._state.wait_for(lambda: self._stop or not self.shipped)
            if self._stop:
                break
            try:
                self._shipper.ship(stop=lambda: self._stop)
                self.lost, failed, pause = None, False, _ROUND
                self._deleted = False
            except Exception as error:  # whatever it is, training goes on
                self.lost, failed = reason(error), True
                self._deleted = isinstance(error, Deleted)
                if isinstance(error, Trouble):  # with one batch: the store answers
                    pause, self._answered = 1.0, time.monotonic()
                else:
                    pause = min(max(2 * pause, 1.0), _LONGEST_PAUSE)
            with self._state:
                self._state.notify_all()
                # Somebody who waits in flush does not wait for a long pause, too.
                self._state.wait_for(lambda: self._stop or self._hurry, timeout=pause)
                if self._hurry and failed:
                    self._state.wait_for(lambda: self._stop, timeout=0.5)
        with self._state:
            self._over = True
            if self._left:
                self._spool.release()


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise HarnessError(f"cannot ask the tracking store: {reason(error)}") from error


def _now() -> int:
    return int(time.time() * 1000)
