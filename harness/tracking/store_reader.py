"""Read a tracking store: find runs, their metrics and files, and their pages in MLflow's UI."""

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, redact
from harness.tracking import artifacts, find_runs, registry, ui_links
from harness.tracking.connect import refuse_hanging_server
from harness.tracking.errors import store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NO_TAGS: Mapping[str, str] = {}
_FRESH = 2.0  # seconds after an answer of the store in which it is not probed
_HANG_TIMEOUT = 20.0  # seconds that a command waits for a server that hangs
_NEXT_HANG_TIMEOUT = 0.5  # after the first wait


class StoreReader:
    """One MLflow tracking store with an explicit client. Created by Store.open, as a Store.

    Methods that send requests raise HarnessError if the store does not answer.

    Attributes:
        uri: The address of the store.
        redacted_uri: The address without user and password.
        client: MLflow's client of the store.
        root: The folder of the store on this machine, with `spool`, and for databases `artifacts`.
    """

    def __init__(self, uri: str, client: "MlflowClient", root: Path) -> None:
        self.uri = uri
        self.redacted_uri = redact(uri)
        self.client = client
        self.root = root
        self._answered = time.monotonic()  # when the store last answered
        self._hang_timeout = _HANG_TIMEOUT

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn errors of requests into HarnessError, and limit the wait for a server that hangs."""
        if self.uri.startswith("http") and time.monotonic() - self._answered >= _FRESH:
            try:
                refuse_hanging_server(self.uri, self._hang_timeout)
            except HarnessError:
                self._hang_timeout = _NEXT_HANG_TIMEOUT
                raise
            self._hang_timeout = _HANG_TIMEOUT
        with store_errors(self.redacted_uri):
            yield
        self._answered = time.monotonic()

    # Runs

    def find(self, text: str) -> "Run":
        """Return the run for `text`: an id, a unique prefix of at least 4 characters, a name, or `latest`.

        Raises:
            HarnessError: No run matches, or several do; the message has the nearest names or the candidates.
            DeletedRunError: The run is deleted.
        """
        with self._asking():
            return find_runs.find(self.client, text)

    def get_run(self, run_id: str) -> "Run | None":
        """Return the run with this id, deleted or not; None where there is none."""
        with self._asking():
            return find_runs.by_id(self.client, run_id)

    def runs(self, *, limit: int = 20, project: str | None = None, children: bool = False) -> list["Run"]:
        """Return the newest runs of harness, newest first.

        Args:
            limit: Maximal number of runs.
            project: The name of an MLflow experiment; None for all.
            children: Include child runs, such as trials.
        """
        with self._asking():
            experiments = None
            if project is not None:
                experiment = self.client.get_experiment_by_name(project)
                experiments = [experiment.experiment_id] if experiment else []
            search = find_runs.harness_runs if children else find_runs.top_level
            return list(itertools.islice(search(self.client, experiments=experiments), limit))

    def recent(self) -> list["Run"]:
        """Return some of the newest runs except trials, with one request, to suggest names."""
        with self._asking():
            return find_runs.recent(self.client)

    def children(self, run_id: str, tags: Mapping[str, str] = NO_TAGS, *, deleted: bool = False) -> list["Run"]:
        """Return the runs directly below a run, newest first: all, or those with these tags. deleted: see `tagged`."""
        return self.tagged({"mlflow.parentRunId": run_id, **tags}, deleted=deleted)

    def tagged(self, tags: Mapping[str, str], *, deleted: bool = False) -> list["Run"]:
        """Return the runs with all of these tags, newest first. deleted: deleted runs, instead of the others."""
        with self._asking():
            return find_runs.with_tags(self.client, tags, deleted=deleted)

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """Return the newest value of a metric at each step; empty if it was never logged."""
        with self._asking():
            points = self.client.get_metric_history(run_id, metric)
        return {point.step: point.value for point in sorted(points, key=lambda point: point.timestamp)}

    # Files

    def download(self, run_id: str, path: str, into: Path) -> Path:
        """Copy an artifact, a file or a folder, of a run or of its models, into the folder `into`.

        Returns:
            Where the copy is.

        Raises:
            HarnessError: There is no such artifact.
            UnreachableError: The store does not answer.
        """
        return artifacts.download(self.client, run_id, path, into, self.redacted_uri)

    def download_registered(self, address: str, into: Path) -> Path:
        """Copy the files of a registered model into the folder `into`, which is created; return where they are.

        Args:
            address: models:/NAME@ALIAS or models:/NAME/VERSION.
            into: The folder.
        """
        with self._asking():
            return registry.download(self.client, address, into)

    # Pages of the UI

    @property
    def address(self) -> str | None:
        """The address of a server's UI without credentials, as prefix of `ui_links`; None for a database."""
        return self.redacted_uri.replace("***@", "") if self.uri.startswith("http") else None

    def link(self, run: "Run") -> str | None:
        """Return the address of the run in a server's UI; None for a database."""
        return f"{self.address}/{ui_links.run_page(run)}" if self.address else None

    def comparison_link(self, runs: Sequence["Run"]) -> str | None:
        """Return the address of the comparison of runs in a server's UI; None for a database."""
        return f"{self.address}/{ui_links.comparison_page(runs)}" if self.address else None
