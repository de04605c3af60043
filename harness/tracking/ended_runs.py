"""Write to runs that have ended: scores, tables, descriptions, names, registered models."""

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import redact
from harness.experiment import scores
from harness.experiment.tags import Tag
from harness.tracking import registry, run_description
from harness.tracking.store_reader import NO_TAGS, StoreReader

if TYPE_CHECKING:
    from mlflow.entities import Run


class EndedRuns(StoreReader):
    """A store whose runs that have ended can be completed. Created by Store.open, as a Store."""

    def add(self, run_id: str, step: int, metrics: Mapping[str, float], tags: Mapping[str, str] = NO_TAGS) -> None:
        """Write metrics of one step, and tags, to a run that has ended: two requests. What it has is left out."""
        from mlflow.entities import Metric, RunTag

        with self._asking():
            now, known = int(time.time() * 1000), self.client.get_run(run_id).data.metrics
            new = [Metric(name, value, now, step) for name, value in metrics.items() if known.get(name) != value]
            self.client.log_batch(run_id, new, tags=[RunTag(key, redact(value)) for key, value in tags.items()])

    def add_table(self, run_id: str, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Write an artifact, a CSV file, which MLflow's UI shows as a table, to a run that has ended."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        with self._asking():
            self.client.log_text(run_id, redact(text.getvalue()), name)

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name."""
        with self._asking():
            self.client.update_run(run_id, name=name)

    def describe(self, run_id: str, change: Callable[[str], str]) -> None:
        """Rewrite harness's part of the description of a run that has ended. change: makes the new text of the old."""
        with self._asking():
            before = self.client.get_run(run_id).data.tags.get(run_description.TAG)
            text = run_description.combine(before, redact(change(run_description.generated_text(before))))
            self.client.set_tag(run_id, run_description.TAG, text, synchronous=True)

    def promote(self, run: "Run", name: str, alias: str) -> registry.Promoted:
        """Register the sampler of a run as `name` in MLflow's registry, and let `alias` point to it.

        Raises:
            HarnessError: The run is not FINISHED or has no sampler, MLflow does not take the name or alias, or the
                server has no registry.
        """
        tags = {Tag.EXPERIMENT: run.data.tags.get(Tag.EXPERIMENT, "")}
        score = scores.primary_of_params(run.data.params).key
        if (value := run.data.metrics.get(f"test/{score}")) is not None:
            tags[f"{Tag.TEST_}{score}"] = str(value)
        with self._asking():
            return registry.promote(self.client, run.info.run_id, name, alias, tags, self.redacted_uri)
