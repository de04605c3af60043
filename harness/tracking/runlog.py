"""The log of one run: every call appends to the spool and returns; a thread of its own ships what is there."""

import contextlib
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, redact
from harness.tracking import artifacts
from harness.tracking.shipping import Shipper, Trouble, in_calls, reason
from harness.tracking.spool import Event, Spool

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

    from harness.tracking.system import SystemMetrics

_ROUND = 1.0  # seconds between rounds: what several short epochs log goes out in one call
_LONGEST_PAUSE = 30.0  # seconds between tries while the store is away


class RunLog:
    """One MLflow run that is being written. Made by Store.start_run and Store.resume_run.

    No method that logs waits for the store. All may be called from any thread. A full disk raises HarnessError.
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
        resumed: bool,
    ) -> None:
        self.run_id = run_id
        self.name = name
        self.harness_id = harness_id
        self.experiment_id = experiment_id
        self.uri: str = client.tracking_uri
        self.folder = spool.folder
        self.resumed = resumed
        self.measured = False  # metrics of its own are logged, not the machine's alone
        self.lost: str | None = None  # why nothing gets through at the moment, in one line
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
        self._tries = 0.0  # that failed since the last that did not
        self._thread = threading.Thread(target=self._work, name=f"ship-{run_id[:8]}", daemon=True)
        self._thread.start()

    # What is logged

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Values of one step, which reach the store together. NaN and infinities are allowed."""
        self.measured = self.measured or not all(key.startswith("system/") for key in values)
        for piece in in_calls({key: float(value) for key, value in values.items()}, "metrics"):
            self._append({"kind": "metrics", "step": int(step), "values": piece})

    def params(self, values: Mapping[str, object]) -> None:
        """Params, as text. The store refuses to change one that it has."""
        for piece in in_calls({key: redact(str(value)) for key, value in values.items()}, "params"):
            self._append({"kind": "params", "values": piece})

    def tags(self, values: Mapping[str, str]) -> None:
        for piece in in_calls({key: redact(str(value)) for key, value in values.items()}, "tags"):
            self._append({"kind": "tags", "values": piece})

    def image(self, key: str, step: int, picture: "np.ndarray") -> None:
        """A picture for the run's image charts, uint8 [H, W] or [H, W, 3]. Stored losslessly."""
        from PIL import Image

        if picture.dtype.name != "uint8" or picture.ndim not in (2, 3):
            raise ValueError(f"a picture is uint8 [H, W] or [H, W, 3], not {picture.dtype} {list(picture.shape)}")
        now = _now()
        folder = self._spool.new_folder()
        # The name is what MlflowClient.log_image would give it, and where the UI reads key, step and time.
        file = folder / f"{key.replace('/', '~')}+step+{int(step)}+timestamp+{now}+{uuid.uuid4()}.png"
        Image.fromarray(picture).save(file)
        self._append({"kind": "image", "key": key, "step": int(step), **self._inside(file, folder), "time": now})

    def artifact(self, file: Path, folder: str = "") -> None:
        """A file into the run's `folder`. It is read when it is shipped: a newer one in its place is taken instead."""
        file = file.absolute()
        inside = file.is_relative_to(self.folder)
        self._append(
            {"kind": "artifact", "file": str(file.relative_to(self.folder) if inside else file), "folder": folder}
        )

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

    def model(self, name: str, folder: Path, step: int = 0) -> None:
        """An MLflow model saved in `folder`, which is copied: runs:/<run_id>/<name> loads it once it is shipped."""
        owned = self._spool.new_folder()
        shutil.copytree(folder, owned, dirs_exist_ok=True)
        key = owned.name
        self._append({"kind": "model", "name": name, "key": key, "step": int(step), **self._inside(owned, owned)})

    def watch_system(self) -> "SystemMetrics":
        """MLflow's system metrics (CPU, memory, disk, network, GPUs) until stopped; also a context manager."""
        from harness.tracking.system import SystemMetrics

        return SystemMetrics(self)

    # What is known about it

    @property
    def ended(self) -> bool:
        """Whether `finish` was called: nothing more can be logged."""
        return self._ended

    @property
    def shipped(self) -> bool:
        """Whether the store has everything, refused events left out."""
        return self._spool.shipped >= self._spool.end

    def last_step(self, metric: str) -> int:
        """The highest step logged of a metric, 0 when none, shipped or not. Asks the store."""
        steps = [
            event["step"]
            for event in self._spool.all_pending()
            if event["kind"] == "metrics" and metric in event["values"]
        ]
        with _asking():
            steps += [point.step for point in self._client.get_metric_history(self.run_id, metric)]
        return max(steps, default=0)

    def image_steps(self, key: str) -> set[int]:
        """The steps at which a picture was logged under `key`, shipped or not. Asks the store."""
        pending = self._spool.all_pending()
        steps = {event["step"] for event in pending if event["kind"] == "image" and event["key"] == key}
        with _asking():
            images = artifacts.repository(self._client, self.run_id).list_artifacts("images")
        names = [Path(info.path).name for info in images]
        start = key.replace("/", "~") + "+step+"
        return steps | {
            int(name.removeprefix(start).split("+")[0])
            for name in names
            if name.startswith(start) and name.endswith(".png")
        }

    # The end

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until what was logged so far is shipped; less when the store stays away."""
        target = self._spool.end
        deadline = time.monotonic() + timeout
        with self._state:
            self._tries = 0
            self._hurry = True
            self._state.notify_all()
            while self._spool.shipped < target and self._tries < 3 and self._thread.is_alive():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._state.wait(left)
            self._hurry = False
        return self._spool.shipped >= target

    def finish(self, status: str, timeout: float = 60) -> bool:
        """End the run as FINISHED, FAILED or KILLED, and wait up to `timeout` seconds until everything is shipped.

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

    def _set_status(self, status: str, timeout: float) -> None:
        """Set the run's status past the spool: without disk space, too, it is not to stay RUNNING."""

        def ask() -> None:
            with contextlib.suppress(Exception):
                self._client.set_terminated(self.run_id, status, end_time=_now())

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
                self.lost, failed, pause = None, 0.0, _ROUND
            except Exception as error:  # whatever it is, training goes on
                self.lost = reason(error)
                # Trouble with one batch settles itself after a few tries (see shipping), so it counts for less.
                busy = isinstance(error, Trouble)
                failed, pause = (0.5, 1.0) if busy else (1.0, min(max(2 * pause, 1.0), _LONGEST_PAUSE))
            with self._state:
                self._tries = self._tries + failed if failed else 0
                self._state.notify_all()
                # Somebody who waits in flush does not wait for a long pause, too.
                self._state.wait_for(lambda: self._stop or self._hurry, timeout=pause)
                if self._hurry and failed:
                    self._state.wait_for(lambda: self._stop, timeout=1.0)
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
