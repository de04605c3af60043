"""From the spool into MLflow: in order, in batches, and such that doing a piece twice leaves the store as if done once.

What makes repeating harmless: metrics carry the time at which they were logged, and MLflow keeps one of two equal ones;
params and tags are set to what they already are; files have names that were decided when they were logged; a model is
looked up by the event's id before it is created.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.errors import redact
from harness.experiment.tags import Tag
from harness.tracking import find_runs, notes
from harness.tracking.creating import sent_once
from harness.tracking.spool import Entry, Event, Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

Value = TypeVar("Value", str, float)

_VALUES = ("metrics", "params", "tags")
# What one log_batch call takes (mlflow/utils/validation.py: 1,000 in all, of these 100 params and 100 tags, and 1 MB).
_LIMITS = {"metrics": 800, "params": 100, "tags": 100}
_BYTES = 800_000
_METRIC_BYTES = 100  # what the request adds to a metric's key and value: the names of its fields, step, time

_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
_BUSY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
_BETWEEN_TRIES = 0.5  # seconds
_LONGEST_FAILURE = 15.0  # seconds after which a failing store is not tried again
_PATIENCE = 5  # failures of one batch, with the store answering, before it is taken apart or set aside


class Away(Exception):
    """Nothing can be shipped now: the store does not answer."""


class Deleted(Away):
    """The run is not in the store, or deleted there."""


class Trouble(Exception):
    """The store answers, but did not take this batch; another try may do."""


class Refused(Exception):
    """This event can never be shipped."""


class Shipper:
    """Ships one run's spool, whose lock the caller holds."""

    def __init__(self, client: "MlflowClient", spool: Spool, run_id: str, experiment_id: str) -> None:
        self.client = client
        self.spool = spool
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._failures = 0  # in a row, at the same place

    def ship(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Ship all that is pending now. Raises Away or Trouble, and goes on from there the next time."""
        end = self.spool.end  # what is logged meanwhile waits for the next round, to go out in fewer calls
        while self.spool.shipped < end and (entries := self.spool.pending()):
            for batch in _batches(entries):
                self._ship(batch)
                self._failures = 0
                if stop():
                    return

    def _ship(self, batch: list[Entry]) -> None:
        events = [entry.event for entry in batch]
        try:
            self._apply(events)
        except Exception as error:
            if not self._hopeless(error):
                raise Trouble(reason(error)) from error
            if len(batch) > 1:
                for entry in batch:
                    self._ship([entry])
                return
            # One bad name among an event's values must not cost the others.
            for part in _parts(events[0]):
                try:
                    self._apply([part])
                except Exception as fault:
                    if not self._hopeless(fault):
                        raise Trouble(reason(fault)) from fault
                    self.spool.refuse(part, reason(fault))
        self._note(batch)

    def _note(self, batch: list[Entry]) -> None:
        status = self.spool.status
        for entry in batch:
            if entry.event["kind"] == "status":
                status = entry.event["status"]
        self.spool.note(batch[-1].end, status)
        refused = [event for event, _ in self.spool.refused()]
        for entry in batch:
            if entry.event.get("owned") and entry.event not in refused:
                shutil.rmtree(self.spool.folder / entry.event["owned"], ignore_errors=True)

    def _hopeless(self, error: Exception) -> bool:
        """Whether to stop trying this batch. Raises Away when it is not the batch's fault."""
        self.run()
        if isinstance(error, Refused) or _code(error) in _REFUSALS or _status(error) in (400, 409, 413, 415, 422):
            return True
        self._failures += _code(error) not in _BUSY
        return self._failures >= _PATIENCE

    def run(self) -> "Run":
        """The run, as the store has it. Raises Deleted when it has none, Away when it does not answer."""
        try:
            run = self.client.get_run(self.run_id)
        except Exception as error:
            if _code(error) in _REFUSALS:
                raise Deleted("the run is gone from the store") from error
            raise Away(reason(error)) from error
        if run.info.lifecycle_stage == "deleted":
            raise Deleted(f"the run is deleted in the store; {find_runs.restoring(self.client, run)}")
        return run

    def _apply(self, events: list[Event]) -> None:
        """Do what the events say. Several events come only of the kinds that log_batch takes together."""
        if events[0]["kind"] in _VALUES:
            self._log_batch(events)
            return
        (event,) = events
        match event["kind"]:
            case "image":
                self._image(event)
            case "artifact":
                self._artifact(event)
            case "model":
                self._model(event)
            case "dataset":
                self._dataset(event)
            case "note":
                self._note_of(event)
            case "status":
                self._status(event)
            case _:
                raise Refused("this line of the spool cannot be read")

    def _log_batch(self, events: list[Event]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics: list[Metric] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for event in events:
            if event["kind"] == "metrics":
                metrics += [Metric(key, value, event["time"], event["step"]) for key, value in event["values"].items()]
            else:
                (params if event["kind"] == "params" else tags).update(event["values"])
        self.client.log_batch(
            self.run_id,
            metrics=metrics,
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )

    def _status(self, event: Event) -> None:
        self.client.set_terminated(self.run_id, event["status"], end_time=event["time"])

    def _note_of(self, event: Event) -> None:
        """Replace harness's part of the description, whatever the user has written in the meantime."""
        note = self.client.get_run(self.run_id).data.tags.get(notes.NOTE)
        self.client.set_tag(self.run_id, notes.NOTE, notes.combined(note, event["text"]), synchronous=True)

    def _image(self, event: Event) -> None:
        """What MlflowClient.log_image does, under a name that stays the same when it is done again."""
        from mlflow.tracking.multimedia import compress_image_size
        from PIL import Image

        picture = self.spool.folder / event["file"]
        if not picture.exists():
            return  # shipped before the progress was lost
        small = picture.with_name(picture.stem + "+compressed.webp")
        with Image.open(picture) as image:
            compress_image_size(image).save(small)
        self.client.log_artifact(self.run_id, str(picture), "images")
        self.client.log_artifact(self.run_id, str(small), "images")
        self.client.set_tag(self.run_id, "mlflow.loggedImages", True, synchronous=True)

    def _artifact(self, event: Event) -> None:
        file = self.spool.folder / event["file"]  # an absolute path stays what it is
        if not file.is_file():
            if event.get("owned"):
                return  # shipped before the progress was lost
            raise Refused(f"the file {file} is gone")
        self.client.log_artifact(self.run_id, str(file), event["folder"] or None)

    def _dataset(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        described = {Tag.DATASET: event["name"], "fingerprint": event["fingerprint"], "images": event["size"]}
        shape = [-1, *event["shape"]]
        column = {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": shape}}
        dataset = Dataset(
            name=event["name"],
            digest=event["fingerprint"][:36],  # no more fits
            source_type="code",
            source=json.dumps({"tags": described}),
            schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([column]), "targets": None}}),
            profile=json.dumps({"features_shape": [event["size"], *event["shape"]], "num_rows": event["size"]}),
        )
        self.client.log_inputs(
            self.run_id, [DatasetInput(dataset, tags=[InputTag("mlflow.data.context", event["context"])])]
        )

    def _model(self, event: Event) -> None:
        import yaml
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        folder = self.spool.folder / event["owned"]
        # The answer to an earlier try may have been lost: that model is the one to go on with.
        found = self.client.search_logged_models(
            [self.experiment_id], filter_string=f"tags.`{Tag.EVENT}` = '{event['key']}'"
        )
        if not (folder / "MLmodel").is_file():
            if found:
                return  # shipped before the progress was lost
            raise Refused(f"the model in {folder} is gone")
        logged = found[0] if found else self._create_model(event)
        if found and logged.status == "READY" and logged.model_id in self._outputs():
            return  # shipped before the progress was lost
        # Not Model.load, which decodes %XX in a path.
        model = Model.from_dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
        model.run_id, model.artifact_path = self.run_id, logged.artifact_location
        model.model_id = model.model_uuid = logged.model_id
        model.save(str(folder / "MLmodel"))
        self.client.log_model_artifacts(logged.model_id, str(folder))
        self.client.finalize_logged_model(logged.model_id, "READY")
        if logged.model_id not in self._outputs():
            self.client.log_outputs(self.run_id, [LoggedModelOutput(logged.model_id, event["step"])])

    def _outputs(self) -> list[str]:
        """The ids of the run's models."""
        outputs = self.client.get_run(self.run_id).outputs
        return [output.model_id for output in (outputs.model_outputs if outputs else [])]

    def _create_model(self, event: Event) -> "LoggedModel":
        tags = {Tag.EVENT: event["key"]}
        with sent_once():  # where the answer is lost, the next try finds it by its tag
            return self.client.create_logged_model(
                self.experiment_id, name=event["name"], source_run_id=self.run_id, tags=tags
            )


def ship_patiently(shipper: Shipper) -> None:
    """Ship all that is pending, with one more try than one batch gets; a store that is slow to fail gets fewer.

    Raises Away or Trouble.
    """
    deadline = time.monotonic() + _LONGEST_FAILURE
    for left in reversed(range(_PATIENCE + 1)):
        try:
            shipper.ship()
            return
        except Deleted:
            raise
        except (Away, Trouble):
            if not left or time.monotonic() > deadline:
                raise
            time.sleep(_BETWEEN_TRIES)


def _batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    """The entries in order, with runs of metrics, params and tags put together as far as one call takes them.

    Of several uploads of the same file only the last is kept: it carries the newest contents anyway.
    """
    newest = {_target(entry.event): entry.end for entry in entries if entry.event["kind"] == "artifact"}
    batch: list[Entry] = []
    load: dict[str, int] = {}
    params: dict[str, str] = {}
    for entry in entries:
        event, kind = entry.event, entry.event["kind"]
        if kind == "artifact" and newest[_target(event)] != entry.end:
            continue
        cost = _cost(event)
        full = any(load.get(what, 0) + amount > limit for what, amount, limit in cost)
        # A param given twice with two values must reach the store as two calls, so that it can refuse the second.
        clash = kind == "params" and any(params.get(key, value) != value for key, value in event["values"].items())
        if batch and (kind not in _VALUES or batch[-1].event["kind"] not in _VALUES or full or clash):
            yield batch
            batch, load, params = [], {}, {}
        batch.append(entry)
        for what, amount, _ in cost:
            load[what] = load.get(what, 0) + amount
        if kind == "params":
            params.update(event["values"])
    if batch:
        yield batch


def _cost(event: Event) -> list[tuple[str, int, int]]:
    if event["kind"] not in _VALUES:
        return []
    count = len(event["values"])
    size = len(json.dumps(event["values"])) + _METRIC_BYTES * count
    return [(event["kind"], count, _LIMITS[event["kind"]]), ("bytes", size, _BYTES)]


def in_calls(values: Mapping[str, Value], kind: str) -> Iterator[dict[str, Value]]:
    """`values` in pieces of which each fits one log_batch call."""
    piece: dict[str, Value] = {}
    size = 0
    for key, value in values.items():
        cost = len(json.dumps([key, value])) + _METRIC_BYTES
        if piece and (len(piece) == _LIMITS[kind] or size + cost > _BYTES):
            yield piece
            piece, size = {}, 0
        piece[key] = value
        size += cost
    if piece:
        yield piece


def _parts(event: Event) -> list[Event]:
    if event["kind"] not in _VALUES:
        return [event]
    return [{**event, "values": {key: value}} for key, value in event["values"].items()]


def _target(event: Event) -> tuple[str, str]:
    return event["folder"], Path(event["file"]).name


def _code(error: Exception) -> str | None:
    return getattr(error, "error_code", None)


def _status(error: Exception) -> int | None:
    """The HTTP status behind an error of an artifact upload, which MLflow passes on as requests raised it."""
    return getattr(getattr(error, "response", None), "status_code", None)


def reason(error: BaseException) -> str:
    """One line of at most 300 characters that says what went wrong, without credentials."""
    text = " ".join(str(error).split()) or type(error).__name__
    if any(sign in text for sign in ("Max retries exceeded", "Connection refused", "timed out", "timeout exception")):
        text = "the tracking server does not answer"
    return redact(text)[:300]
