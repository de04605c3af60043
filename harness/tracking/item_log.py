"""Log items of a run: every call appends an event to the spool and returns.

    metrics(), image(), ... --(event)--> Spool

`LoggedItems` has what is logged already: a metric, an image and a model are logged once per key and step.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, redact
from harness.tracking.batches import split_values
from harness.tracking.logged_items import LoggedItems
from harness.tracking.spool import Event, Spool

if TYPE_CHECKING:
    import numpy as np


class ItemLog:
    """Appends the items of a run to its spool, each item once. No method waits for the store; a full disk is an error.

    Items that this or an earlier process has logged are skipped. So a resumed run may log an item again. All methods
    may be called from any thread.

    Attributes:
        run_id: MLflow's id of the run.
        folder: The spool's folder. Files in its `checkpoints/` outlive the shipping.
        measured: Whether metrics other than `system/*` were logged.
        ended: Whether the log is closed.
    """

    def __init__(self, run_id: str, spool: Spool, logged: LoggedItems, on_append: Callable[[], None]) -> None:
        """on_append: called after every event."""
        self.run_id = run_id
        self.folder = spool.folder
        self.measured = False
        self.ended = False
        self._spool = spool
        self._logged = logged
        self._on_append = on_append

    def metrics(self, step: int, values: Mapping[str, float], *, replace: bool = False) -> None:
        """Log the values of one step, which are sent to the store together.

        Args:
            step: The epoch, or the trial of a study.
            values: By metric; NaN and infinities are allowed.
            replace: Log them even if this step has values already; MLflow shows the newest.
        """
        self.measured = self.measured or not all(key.startswith("system/") for key in values)
        logged = self._logged.metrics
        new = {key: float(value) for key, value in values.items() if replace or int(step) not in logged.get(key, ())}
        for piece in split_values(new, "metrics"):
            self._append({"kind": "metrics", "step": int(step), "values": piece})
            for key in piece:
                logged.setdefault(key, set()).add(int(step))

    def params(self, values: Mapping[str, object]) -> None:
        """Log params, as text. The store refuses to change a param."""
        for piece in split_values({key: redact(str(value)) for key, value in values.items()}, "params"):
            self._append({"kind": "params", "values": piece})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, without the credentials of any URI in them."""
        for piece in split_values({key: redact(str(value)) for key, value in values.items()}, "tags"):
            self._append({"kind": "tags", "values": piece})

    def describe(self, text: str) -> None:
        """Set harness's part of the run's description (Markdown); the user's part stays first."""
        if text:
            self._append({"kind": "note", "text": redact(text)})

    def image(self, key: str, step: int, picture: "np.ndarray", *, replace: bool = False) -> None:
        """Log a picture for the run's image charts, losslessly.

        Args:
            key: The name of the chart.
            step: The epoch.
            picture: uint8 [H, W] or [H, W, 3].
            replace: Log it even if this step has one already; MLflow's UI shows the newest.

        Raises:
            ValueError: The picture has another shape or type.
        """
        from PIL import Image

        if picture.dtype.name != "uint8" or picture.ndim not in (2, 3):
            raise ValueError(f"a picture is uint8 [H, W] or [H, W, 3], not {picture.dtype} {list(picture.shape)}")
        if self.has_image(key, step) and not replace:
            return
        now = now_ms()
        folder = self._spool.new_folder()
        # The same name as of MlflowClient.log_image: the UI reads key, step and time from it.
        file = folder / f"{key.replace('/', '~')}+step+{int(step)}+timestamp+{now}+{uuid.uuid4()}.png"
        Image.fromarray(picture).save(file)
        self._append({"kind": "image", "key": key, "step": int(step), **self._paths(file, folder), "time": now})
        self._logged.images.setdefault(key, set()).add(int(step))

    def artifact(self, file: Path, folder: str = "") -> None:
        """Log a file into the run's `folder`. It is read when it is shipped, so a newer version is logged."""
        file = file.absolute()
        inside = file.is_relative_to(self.folder)
        self._append(
            {"kind": "artifact", "file": str(file.relative_to(self.folder) if inside else file), "folder": folder}
        )
        self._logged.files.add(f"{folder}/{file.name}".lstrip("/"))

    def text(self, text: str, name: str) -> None:
        """Log `text` as an artifact at the path `name`, without the credentials of any URI in it."""
        folder = self._spool.new_folder()
        file = folder / Path(name).name
        file.write_text(redact(text), encoding="utf-8")
        parent = Path(name).parent.as_posix()
        self._append(
            {"kind": "artifact", **self._paths(file, folder), "folder": "" if parent == "." else parent},
        )

    def dataset(self, *, name: str, fingerprint: str, context: str, size: int, shape: tuple[int, ...]) -> None:
        """Log images as an MLflow dataset input.

        Args:
            name: The name of the data set.
            fingerprint: A hash of the images.
            context: What they are used for: `training`.
            size: How many images.
            shape: Of one image, [C, H, W].
        """
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

    def model(self, name: str, folder: Path, step: int, key: str) -> None:
        """Log an MLflow model: runs:/<run_id>/<name> loads it once it is shipped.

        Args:
            name: The model's name.
            folder: Where it was saved; it is copied.
            step: The epoch of its weights.
            key: Identifies the model among all runs; a model with the same key is logged once.
        """
        if self.has_model(key):
            return
        copy = self._spool.new_folder()
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        self._append({"kind": "model", "name": name, "key": key, "step": int(step), **self._paths(copy, copy)})
        self._logged.models.add(key)

    def sync_to_disk(self) -> None:
        """Write everything logged so far to the disk (fsync), so that it survives a power cut."""
        try:
            self._spool.sync()
        except OSError as error:
            raise HarnessError(f"cannot write to the spool {self.folder}: {error.strerror or error}") from error

    def has_image(self, key: str, step: int) -> bool:
        """Whether an image was logged under `key` at this step, shipped or not."""
        return int(step) in self._logged.images.get(key, ())

    def has_file(self, path: str) -> bool:
        """Whether an artifact was logged at `path`, at most one folder deep, shipped or not."""
        return path in self._logged.files

    def has_model(self, key: str) -> bool:
        """Whether a model with this key was logged, shipped or not."""
        return key in self._logged.models

    def steps(self, metric: str) -> set[int]:
        """Return the steps at which a metric was logged, shipped or not."""
        return set(self._logged.metrics.get(metric, ()))

    def last_step(self, metric: str) -> int:
        """Return the highest step logged of a metric, 0 when none, shipped or not."""
        return max(self.steps(metric), default=0)

    def _append(self, event: Event, *, durable: bool = False) -> None:
        if self.ended:
            raise HarnessError(f"run {self.run_id} has ended: nothing more can be logged")
        try:
            self._before_append(event)
            self._spool.append({"time": now_ms(), **event}, durable=durable)
        except OSError as error:
            raise HarnessError(f"cannot write to the spool {self.folder}: {error.strerror or error}") from error
        self._on_append()

    def _before_append(self, event: Event) -> None:
        """Called before every event. OSError is reported as one of the spool."""

    def _paths(self, file: Path, folder: Path) -> Event:
        """The entries of an event for a file in the spool. owned: the folder to delete after shipping."""
        return {"file": str(file.relative_to(self.folder)), "owned": str(folder.relative_to(self.folder))}


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)
