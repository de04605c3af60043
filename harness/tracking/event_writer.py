"""Write events of the spool to MLflow. Writing an event twice has the same effect as writing it once.

Metrics have the time at which they were logged, and MLflow stores one of two equal ones. Params and tags are set to the
same value again. Files get their name when they are logged. A model is looked up by the event's key before it is
created.

    kind                     MlflowClient
    metrics, params, tags    log_batch: one request for several events
    image                    log_artifact twice (the picture, and a small copy for lists), set_tag
    artifact                 log_artifact
    model                    search_logged_models, create_logged_model, log_model_artifacts, finalize_..., log_outputs
    dataset                  log_inputs
    note                     get_run, set_tag
    status                   set_terminated
"""

import json
from typing import TYPE_CHECKING

from harness.experiment.tags import Tag
from harness.tracking import run_description
from harness.tracking.batches import VALUE_KINDS
from harness.tracking.retries import send_once
from harness.tracking.spool import Event, Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel


class EventRefusedError(Exception):
    """This event can never be written."""


class EventWriter:
    """Writes the events of one run to its store. The files that they name are in the spool."""

    def __init__(self, client: "MlflowClient", spool: Spool, run_id: str, experiment_id: str) -> None:
        self._client = client
        self._spool = spool
        self._run_id = run_id
        self._experiment_id = experiment_id

    def write(self, events: list[Event]) -> None:
        """Write one event, or several metrics, params and tags in one request.

        Raises:
            EventRefusedError: The event cannot be read, or its files are missing.
            Exception: An exception of MLflow's client.
        """
        if events[0]["kind"] in VALUE_KINDS:
            self._log_batch(events)
            return
        (event,) = events
        match event["kind"]:
            case "image":
                self._log_image(event)
            case "artifact":
                self._log_artifact(event)
            case "model":
                self._log_model(event)
            case "dataset":
                self._log_dataset(event)
            case "note":
                self._set_description(event)
            case "status":
                self._client.set_terminated(self._run_id, event["status"], end_time=event["time"])
            case _:
                raise EventRefusedError("this line of the spool cannot be read")

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
        self._client.log_batch(
            self._run_id,
            metrics=metrics,
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )

    def _set_description(self, event: Event) -> None:
        """Replace harness's part of the description, and keep the user's part."""
        text = self._client.get_run(self._run_id).data.tags.get(run_description.TAG)
        text = run_description.combine(text, event["text"])
        self._client.set_tag(self._run_id, run_description.TAG, text, synchronous=True)

    def _log_image(self, event: Event) -> None:
        """Do the same as MlflowClient.log_image, with a file name that does not change when it is repeated."""
        from mlflow.tracking.multimedia import compress_image_size
        from PIL import Image

        picture = self._spool.folder / event["file"]
        if not picture.exists():
            return  # shipped before the progress was lost
        small = picture.with_name(picture.stem + "+compressed.webp")
        with Image.open(picture) as image:
            compress_image_size(image).save(small)
        self._client.log_artifact(self._run_id, str(picture), "images")
        self._client.log_artifact(self._run_id, str(small), "images")
        self._client.set_tag(self._run_id, "mlflow.loggedImages", True, synchronous=True)

    def _log_artifact(self, event: Event) -> None:
        file = self._spool.folder / event["file"]  # an absolute path stays absolute
        if not file.is_file():
            if event.get("owned"):
                return  # shipped before the progress was lost
            raise EventRefusedError(f"the file {file} is missing")
        self._client.log_artifact(self._run_id, str(file), event["folder"] or None)

    def _log_dataset(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = {Tag.DATASET: event["name"], "fingerprint": event["fingerprint"], "images": event["size"]}
        shape = [-1, *event["shape"]]
        column = {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": shape}}
        dataset = Dataset(
            name=event["name"],
            digest=event["fingerprint"][:36],  # the limit of MLflow
            source_type="code",
            source=json.dumps({"tags": tags}),
            schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([column]), "targets": None}}),
            profile=json.dumps({"features_shape": [event["size"], *event["shape"]], "num_rows": event["size"]}),
        )
        self._client.log_inputs(
            self._run_id, [DatasetInput(dataset, tags=[InputTag("mlflow.data.context", event["context"])])]
        )

    def _log_model(self, event: Event) -> None:
        import yaml
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        folder = self._spool.folder / event["owned"]
        # An earlier try may have created the model, and its answer was lost.
        found = self._client.search_logged_models(
            [self._experiment_id], filter_string=f"tags.`{Tag.EVENT}` = '{event['key']}'"
        )
        if not (folder / "MLmodel").is_file():
            if found:
                return  # shipped before the progress was lost
            raise EventRefusedError(f"the model in {folder} is missing")
        logged = found[0] if found else self._create_model(event)
        if found and logged.status == "READY" and logged.model_id in self._output_ids():
            return  # shipped before the progress was lost
        # Not Model.load, which decodes %XX in a path.
        model = Model.from_dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
        model.run_id, model.artifact_path = self._run_id, logged.artifact_location
        model.model_id = model.model_uuid = logged.model_id
        model.save(str(folder / "MLmodel"))
        self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.finalize_logged_model(logged.model_id, "READY")
        if logged.model_id not in self._output_ids():
            self._client.log_outputs(self._run_id, [LoggedModelOutput(logged.model_id, event["step"])])

    def _output_ids(self) -> list[str]:
        """The ids of the run's models."""
        outputs = self._client.get_run(self._run_id).outputs
        return [output.model_id for output in (outputs.model_outputs if outputs else [])]

    def _create_model(self, event: Event) -> "LoggedModel":
        tags = {Tag.EVENT: event["key"]}
        with send_once():  # if the answer is lost, the next try finds the model by its tag
            return self._client.create_logged_model(
                self._experiment_id, name=event["name"], source_run_id=self._run_id, tags=tags
            )
