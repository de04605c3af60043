"""Copy what one run has logged into the run of another store that stands for it.

Params, tags, metrics with their times and steps, datasets, files and models; the status and the end time last, so that
a run that is FINISHED in the target has everything there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.errors import redact
from harness.experiment.tags import Tag
from harness.files import atomic_write, sha256_of
from harness.tracking import artifacts, registry, run_description
from harness.tracking.batches import split_values
from harness.tracking.before_resume import END_TAGS
from harness.tracking.event_writer import EventWriter
from harness.tracking.spool import Spool
from harness.tracking.store_reader import StoreReader

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from harness.tracking.store import Store

PARENT = "mlflow.parentRunId"
_METRICS = 800  # values of one log_batch call
_TEXT = {".csv", ".html", ".json", ".md", ".txt", ".yaml"}  # files that may name runs by their id
_ID = re.compile(r"(?:m-)?[0-9a-f]{32}")
_SET_BY_MLFLOW = ("mlflow.runName", PARENT, run_description.TAG)


class Contents:
    """Copies the contents of one run."""

    def __init__(
        self, source: StoreReader, target: Store, run: Run, ids: Mapping[str, str], existing: Run | None
    ) -> None:
        """Prepare the copy.

        Args:
            source: The store of the run.
            target: The other store.
            run: The run.
            ids: The ids in the target of the runs of its family, by their ids in the source.
            existing: The run in the target as it was; None if it was created just now and is empty.
        """
        self.source, self.target, self.run = source, target, run
        self.run_id = ids[run.info.run_id]
        self.existing = existing
        self._ids = dict(ids)
        self._delivered = _Delivered(source.root, target.uri, run.data.tags[Tag.ID])

    def copy(self) -> int:
        """Copy what the target does not have. Returns how many items were written.

        Raises:
            Exception: Whatever MLflow's client raises. The next call continues.
        """
        items = self._copy_params() + self._copy_metrics() + self._copy_datasets()
        with tempfile.TemporaryDirectory(prefix="harness-copy-") as folder:
            items += self._copy_models(Path(folder))
            items += self._copy_files(Path(folder))
        items += registry.copy_versions(self.source.client, self.target.client, self.run.info.run_id, self._ids)
        self._delivered.save()
        return items + self._copy_tags() + self._copy_status()

    def _copy_params(self) -> int:
        from mlflow.entities import Param

        known = self.existing.data.params if self.existing else {}
        new = {key: value for key, value in self.run.data.params.items() if key not in known}
        for piece in split_values(new, "params"):
            self.target.client.log_batch(self.run_id, params=[Param(*pair) for pair in piece.items()])
        return len(new)

    def _copy_metrics(self) -> int:
        new: list[Metric] = []
        for key in self.run.data.metrics:
            history = self.source.client.get_metric_history(self.run.info.run_id, key)
            known: Counter[tuple[object, ...]] = Counter()
            if self.existing and key in self.existing.data.metrics:
                known.update(_point(metric) for metric in self.target.client.get_metric_history(self.run_id, key))
            new += [metric for metric in history if not known[_point(metric)]]
        for start in range(0, len(new), _METRICS):
            self.target.client.log_batch(self.run_id, metrics=new[start : start + _METRICS])
        return len(new)

    def _copy_datasets(self) -> int:
        inputs = self.run.inputs.dataset_inputs if self.run.inputs else []
        theirs = self.existing.inputs.dataset_inputs if self.existing and self.existing.inputs else []
        known = {(each.dataset.name, each.dataset.digest) for each in theirs}
        new = [each for each in inputs if (each.dataset.name, each.dataset.digest) not in known]
        if new:
            self.target.client.log_inputs(self.run_id, new)
        return len(new)

    def _copy_models(self, folder: Path) -> int:
        """Copy the run's models. A model is found again by its tag `harness.event`, and does not change."""
        outputs = self.run.outputs.model_outputs if self.run.outputs else []
        items = 0
        for output in outputs:
            model = self.source.client.get_logged_model(output.model_id)
            key = model.tags.get(Tag.EVENT, f"{self.run.data.tags[Tag.ID]}/{model.model_id}")
            theirs = self._find_model(key)
            if theirs is None:
                place = folder / "models" / model.model_id
                place.mkdir(parents=True)
                artifacts.repository(self.source.client, model.model_id).download_artifacts("", str(place))
                event = {"kind": "model", "name": model.name, "key": key, "step": output.step, "owned": str(place)}
                writer = EventWriter(self.target.client, Spool(folder), self.run_id, self._experiment_id)
                writer.write([event])
                items += 1
            self._ids[model.model_id] = str(theirs or self._find_model(key))
        return items

    def _find_model(self, key: str) -> str | None:
        """The id of the run's model with this key in the target; None if it is missing or not complete."""
        found = self.target.client.search_logged_models([self._experiment_id], f"tags.`{Tag.EVENT}` = '{key}'")
        outputs = self.target.client.get_run(self.run_id).outputs
        known = {output.model_id for output in (outputs.model_outputs if outputs else [])}
        complete = [model.model_id for model in found if model.status == "READY" and model.model_id in known]
        return str(complete[0]) if complete else None

    @cached_property
    def _experiment_id(self) -> str:
        return str(self.target.client.get_run(self.run_id).info.experiment_id)

    def _copy_files(self, folder: Path) -> int:
        """Copy the run's artifacts. Ids of runs and models in text files become those of the target."""
        source = artifacts.repository(self.source.client, self.run.info.run_id)
        known = dict(_files(artifacts.repository(self.target.client, self.run_id))) if self.existing else {}
        items = 0
        for path, _ in _files(source):
            file = Path(source.download_artifacts(path, str(folder)))
            if PurePosixPath(path).suffix in _TEXT:
                self._rewrite(file)
            digest, size = sha256_of(file), file.stat().st_size
            if not (self._delivered.get(path) == digest and known.get(path) == size):
                parent = PurePosixPath(path).parent.as_posix()
                self.target.client.log_artifact(self.run_id, str(file), None if parent == "." else parent)
                self._delivered.add(path, digest)
                items += 1
            file.unlink()
        return items

    def _rewrite(self, file: Path) -> None:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return
        if (changed := self._translate(text)) != text:
            file.write_text(changed, encoding="utf-8")

    def _translate(self, text: str) -> str:
        """Return a text in which the ids of the source are those of the target."""
        return _ID.sub(lambda found: self._ids.get(found[0], found[0]), text)

    def _copy_tags(self) -> int:
        """Set the tags, and delete those of an earlier end. What a user has written at the target stays."""
        theirs = self.target.client.get_run(self.run_id).data.tags
        tags = {key: self._translate(value) for key, value in self.run.data.tags.items() if key not in _SET_BY_MLFLOW}
        description = self.run.data.tags.get(run_description.TAG)
        if description is not None:
            text = run_description.combine(
                theirs.get(run_description.TAG), self._translate(run_description.generated_text(description))
            )
            if not run_description.user_text(text):
                text = self._translate(description)
            tags[run_description.TAG] = text
        if (parent := self.run.data.tags.get(PARENT)) in self._ids:
            tags[PARENT] = self._ids[str(parent)]
        new = {key: value for key, value in tags.items() if theirs.get(key) != value}
        for key in set(END_TAGS) & theirs.keys() - tags.keys():
            self.target.client.delete_tag(self.run_id, key)
        for piece in split_values(new, "tags"):
            from mlflow.entities import RunTag

            self.target.client.log_batch(self.run_id, tags=[RunTag(*pair) for pair in piece.items()])
        return len(new)

    def _copy_status(self) -> int:
        """Set name, status and end time as the source has them."""
        theirs, info = self.target.client.get_run(self.run_id).info, self.run.info
        items = 0
        if theirs.run_name != info.run_name:
            self.target.client.update_run(self.run_id, name=info.run_name)
            items += 1
        if (theirs.status, theirs.end_time) != (info.status, info.end_time):
            if info.status == "RUNNING":
                self.target.client.update_run(self.run_id, status="RUNNING")
            else:
                self.target.client.set_terminated(self.run_id, info.status, end_time=info.end_time)
            items += 1
        return items


def _point(metric: Metric) -> tuple[object, ...]:
    """What makes two metric values the same. NaN equals NaN here."""
    return metric.timestamp, metric.step, None if math.isnan(metric.value) else metric.value


def _files(repository: ArtifactRepository, folder: str | None = None) -> Iterator[tuple[str, int]]:
    """Yield path and size of every file."""
    for entry in repository.list_artifacts(folder):
        if entry.is_dir:
            yield from _files(repository, entry.path)
        else:
            yield entry.path, entry.file_size


class _Delivered:
    """Which files were delivered to a store, with their SHA-256: kept beside the source, so that none is sent twice.

    If it is lost, files are sent again, which changes nothing.
    """

    def __init__(self, root: Path, uri: str, harness_id: str) -> None:
        place = hashlib.sha256(redact(uri).encode()).hexdigest()[:16]
        self._path = root / "delivered" / place / f"{harness_id}.json"
        try:
            self._files: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._files = {}

    def get(self, path: str) -> str | None:
        return self._files.get(path)

    def add(self, path: str, digest: str) -> None:
        self._files[path] = digest

    def save(self) -> None:
        """Write the record. If it cannot be written, nothing is lost."""
        with contextlib.suppress(OSError), atomic_write(self._path, parents=True) as fresh:
            fresh.write_text(json.dumps(self._files), encoding="utf-8")
