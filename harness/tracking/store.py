"""A tracking store: MLflow through an explicit client and explicit ids, and the spool beside it."""

import contextlib
import csv
import io
import itertools
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness._version import __version__
from harness.environment import user_name
from harness.errors import HarnessError, UnreachableError, redact
from harness.experiment import scores
from harness.files import database_of, safe_file_name
from harness.tracking import artifacts, find_runs, notes, pages, recovery, registry, views
from harness.tracking.connect import connect, resolve
from harness.tracking.creating import create_once
from harness.tracking.durations import resumed_tags
from harness.tracking.git import git_tags
from harness.tracking.inventory import Inventory
from harness.tracking.process_tags import refuse_written, this_process
from harness.tracking.relocation import artifacts_of
from harness.tracking.runlog import Before, Patience, RunLog
from harness.tracking.shipping import Shipper, reason, ship_patiently
from harness.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_STALE = (
    "harness.error",
    "harness.diverged",
    "harness.pruned",
)  # tags of how a run ended, which a resumed one has yet to do
_NONE: Mapping[str, str] = MappingProxyType({})


def _silent(_: str) -> None: ...


class Store:
    """One MLflow tracking store reached through an explicit client, and the spool beside it. Made by Store.open.

    Whatever asks the store raises HarnessError when it does not answer.
    """

    def __init__(self, uri: str, client: "MlflowClient", root: Path) -> None:
        self.uri = uri
        self.shown_uri = redact(uri)
        self.client = client
        self.root = root
        self.spool = root / "spool"
        self._written: dict[str, Run] = {}  # begun or resumed here, by id
        self._patience = Patience()
        self._source: dict[str, str] | None = None  # asked of git once: the code that runs is the code that was loaded

    @classmethod
    def open(
        cls,
        uri: str | None = None,
        *,
        root: Path | None = None,
        message: Callable[[str], None] = _silent,
        create: bool = True,
    ) -> "Store":
        """The store at `uri`, else at MLFLOW_TRACKING_URI, else the sqlite database in `root` (default: ./mlruns).

        `message` is given one line before something slow. Imports MLflow, which takes seconds. Without `create`, no
        file or folder is made. Raises HarnessError when the store cannot be used, or is missing and not to be made.
        """
        root = (root or Path("mlruns")).absolute()
        uri = resolve(uri, root)
        store = cls(uri, connect(uri, root / "spool", message, create=create), root)
        try:
            if create:
                store.spool.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(f"cannot keep a spool in {store.spool}: {error.strerror}") from error
        return store

    def experiment_id(self, project: str) -> str:
        """The id of the MLflow experiment called `project`, which is made when it is missing."""
        from mlflow.exceptions import MlflowException

        with self._asking():
            experiment = self.client.get_experiment_by_name(project)
            if experiment is None:
                base = _artifacts(self.uri, self.root)
                location = (base / safe_file_name(project)).as_uri() if base else None
                # Without the tag the UI takes it for a language-model project and hides the charts.
                kind = {"mlflow.experimentKind": "custom_model_development"}
                try:
                    return str(self.client.create_experiment(project, artifact_location=location, tags=kind))
                except MlflowException as error:
                    # Another process may have been quicker.
                    experiment = self.client.get_experiment_by_name(project)
                    if experiment is None:
                        raise error
        if experiment.lifecycle_stage == "deleted":
            raise HarnessError(
                f"the project {project!r} is deleted in {self.shown_uri}: "
                f"{find_runs.restoring_experiment(self.client, experiment.experiment_id)}, or choose another name"
            )
        return str(experiment.experiment_id)

    def start_run(
        self,
        *,
        project: str,
        name: str,
        kind: str,
        params: Mapping[str, object],
        tags: Mapping[str, str] = _NONE,
        parent: str | None = None,
        note: str | None = None,
    ) -> RunLog:
        """Begin a run called `name` in the experiment `project`, nested below the run with id `parent` if given."""
        experiment_id = self.experiment_id(project)
        harness_id = uuid.uuid4().hex
        if self._source is None:
            self._source = git_tags()
        every = {
            "mlflow.user": user_name(),
            "mlflow.source.name": Path(sys.argv[0]).name or "python",
            "mlflow.source.type": "LOCAL",
            **self._source,
            **this_process(),
            "harness.kind": kind,
            "harness.id": harness_id,
            "harness.version": __version__,
            **tags,
        }
        if parent:
            every["mlflow.parentRunId"] = parent
        if note:
            every[notes.NOTE] = note
        every = {key: redact(str(value)) for key, value in every.items()}
        # The spool comes first: where it cannot be written, no run is begun.
        spool = self._spool_of(harness_id)
        try:
            with self._asking():
                run = create_once(
                    partial(self.client.create_run, experiment_id, tags=every, run_name=name),
                    lambda: list(find_runs.search(self.client, f"tags.`harness.id` = '{harness_id}'")),
                )
        except HarnessError:
            spool.release()
            spool.remove()
            raise
        log = self._log(spool, run, harness_id)
        log.params(params)
        return log

    def resume_run(self, run_id: str, *, claimed: bool = False) -> RunLog:
        """Go on writing an ended run; what it had left in its spool is shipped first, and it is RUNNING again.

        The log knows how the run stood: `RunLog.restore` puts that back, until `RunLog.keep` says that it has changed.
        claimed: the caller knows that no other host is writing it, though it may be RUNNING.
        Raises HarnessError for a run that another process, here or on another host, seems to be writing, and where the
        store fails or the disk is full; the run then stands as it did.
        """
        with self._asking():
            run = self.client.get_run(run_id)
        harness_id = run.data.tags.get("harness.id")
        if run.info.lifecycle_stage == "deleted":
            raise HarnessError(f"the run {run_id} is deleted; {find_runs.restoring(self.client, run)}")
        if not harness_id:
            raise HarnessError(f"the run {run_id} was not made by harness and cannot be resumed")
        # The spool's lock tells only of those who log through this folder.
        if run.info.status == "RUNNING" and not claimed:
            refuse_written(run_id, run.data.tags, self.uri)
        spool = self._spool_of(harness_id)
        log, worked = None, resumed_tags(run, spool.last_sign())
        try:
            with self._asking():
                ship_patiently(Shipper(self.client, spool, run_id, run.info.experiment_id))
                held = Inventory.read(self.client, run_id)
                spool.clear()
                run = self.client.get_run(run_id)
                log = self._log(spool, run, harness_id, held, worked)
                for key in log.before.tags.keys() & set(_STALE) if log.before else ():
                    self.client.delete_tag(run_id, key)
                for key, value in _owner().items():
                    self.client.set_tag(run_id, key, value, synchronous=True)
                self.client.update_run(run_id, status="RUNNING")
        except HarnessError:
            if log is None:
                spool.release()
            else:
                log.restore(timeout=5)
            raise
        return log

    def add(self, run_id: str, step: int, metrics: Mapping[str, float], tags: Mapping[str, str] = _NONE) -> None:
        """Write numbers of one step, and tags, to a run that has ended. What it has already is not written again."""
        from mlflow.entities import Metric, RunTag

        with self._asking():
            now, known = int(time.time() * 1000), self.client.get_run(run_id).data.metrics
            fresh = [Metric(name, value, now, step) for name, value in metrics.items() if known.get(name) != value]
            self.client.log_batch(run_id, fresh, tags=[RunTag(key, redact(value)) for key, value in tags.items()])

    def add_table(self, run_id: str, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Write an artifact, a CSV file, which MLflow's UI shows as a table, to a run that has ended."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        with self._asking():
            self.client.log_text(run_id, redact(text.getvalue()), name)

    def describe(self, run_id: str, change: Callable[[str], str]) -> None:
        """Rewrite harness's part of the description of a run that has ended. change: of the old text makes the new."""
        with self._asking():
            note = self.client.get_run(run_id).data.tags.get(notes.NOTE)
            text = notes.combined(note, redact(change(notes.generated(note))))
            self.client.set_tag(run_id, notes.NOTE, text, synchronous=True)

    def find(self, text: str) -> "Run":
        """The run that `text` means: an id, a unique prefix of at least 4 characters, a name, or `latest`.

        Raises HarnessError, with the nearest names or the candidates, when no run is meant or several.
        """
        with self._asking():
            return find_runs.find(self.client, text)

    def get_run(self, run_id: str) -> "Run | None":
        """The run with this id, deleted or not; None where there is none."""
        with self._asking():
            return find_runs.by_id(self.client, run_id)

    def runs(self, *, limit: int = 20, project: str | None = None, children: bool = False) -> list["Run"]:
        """Our newest runs, newest first: of one project or of all, with or without those below others."""
        with self._asking():
            experiments = None
            if project is not None:
                experiment = self.client.get_experiment_by_name(project)
                experiments = [experiment.experiment_id] if experiment else []
            some = find_runs.ours if children else find_runs.top_level
            return list(itertools.islice(some(self.client, experiments=experiments), limit))

    def recent(self) -> list["Run"]:
        """Some of our newest runs that are no trials, quickly: for the names that they suggest."""
        with self._asking():
            return find_runs.recent(self.client)

    def save_view(self, project: str, runs: Sequence["Run"]) -> str:
        """Keep in an MLflow experiment how its page is best looked at, given some of its runs; the key of that view."""
        top = self.runs(limit=views.MOST + 1, project=project)
        with self._asking():
            return views.save(self.client, self.experiment_id(project), views.state(runs, top))

    def save_run_view(self, run: "Run") -> str:
        """Keep in an MLflow experiment how one run is best looked at; the key of that view."""
        with self._asking():
            key, name = f"harness-run-{run.info.run_id}", f"run {run.info.run_name}"
            return views.save(self.client, run.info.experiment_id, views.run_state(run), key, name)

    def save_study_view(self, study: "Run", trials: Sequence["Run"]) -> str:
        """Keep in an MLflow experiment how the trials of a study are best looked at; the key of that view."""
        state = views.study_state(study, trials)
        with self._asking():
            key, name = f"harness-study-{study.info.run_id}", f"study {study.info.run_name}"
            return views.save(self.client, study.info.experiment_id, state, key, name)

    def children(self, run_id: str, tags: Mapping[str, str] = _NONE, *, deleted: bool = False) -> list["Run"]:
        """The runs directly below a run, newest first: all, or those with these tags. deleted: see `tagged`."""
        return self.tagged({"mlflow.parentRunId": run_id, **tags}, deleted=deleted)

    def tagged(self, tags: Mapping[str, str], *, deleted: bool = False) -> list["Run"]:
        """The runs with all of these tags, newest first. deleted: those that are deleted, instead of the others."""
        for value in tags.values():
            if "'" in value and '"' in value:
                return []  # no name of ours, and MLflow's filters cannot say it
        conditions = (
            f'tags.`{key}` = "{value}"' if "'" in value else f"tags.`{key}` = '{value}'" for key, value in tags.items()
        )
        with self._asking():
            return list(find_runs.search(self.client, " and ".join(conditions), deleted=deleted))

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """A run's values of a metric by their step: the newest of each; none where it was never logged."""
        with self._asking():
            points = self.client.get_metric_history(run_id, metric)
        return {point.step: point.value for point in sorted(points, key=lambda point: point.timestamp)}

    def sync(self, *, repeat: bool = True) -> list[str]:
        """Ship what ended processes left in the spool; one line a run: what was shipped, or why it could not be.

        repeat: report what the store refuses even where a command has reported it before.
        """
        return recovery.sync(self.client, self.spool, self.shown_uri, repeat=repeat)

    def reconcile(self) -> list[str]:
        """Set our RUNNING runs of this host whose process is gone to KILLED; returns their ids."""
        with self._asking():
            return recovery.reconcile(self.client, self.spool)

    @property
    def address(self) -> str | None:
        """Where a server's UI is, without credentials, for `pages` to be put behind a slash; None for a database."""
        return self.shown_uri.replace("***@", "") if self.uri.startswith("http") else None

    def written(self, run_id: str) -> "Run | None":
        """A run that was started or resumed here, as it then was. Does not ask the store."""
        return self._written.get(run_id)

    def link(self, run: "Run") -> str | None:
        """Where a server's UI shows the run; None for a database."""
        return f"{self.address}/{pages.of_run(run)}" if self.address else None

    def comparison_link(self, runs: Sequence["Run"]) -> str | None:
        """Where a server's UI compares the runs; None for a database."""
        return f"{self.address}/{pages.of_comparison(runs)}" if self.address else None

    def promote(self, run: "Run", name: str, alias: str) -> registry.Promoted:
        """Register the sampler of a run as `name` in MLflow's registry, and let `alias` point to it.

        Raises HarnessError for a run that is not FINISHED or has none, for a name or alias that MLflow does not take,
        and for a server without a registry.
        """
        tags = {"harness.experiment": run.data.tags.get("harness.experiment", "")}
        score = scores.primary_of_params(run.data.params).key
        if (value := run.data.metrics.get(f"test/{score}")) is not None:
            tags[f"harness.test_{score}"] = str(value)
        with self._asking():
            return registry.promote(self.client, run.info.run_id, name, alias, tags, self.shown_uri)

    def download_registered(self, address: str, into: Path) -> Path:
        """Copy the files of models:/NAME@ALIAS or models:/NAME/VERSION into a folder; returns where they are."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with self._asking():
            source = registry.source_of(self.client, address)
            into.mkdir(parents=True, exist_ok=True)
            repository = get_artifact_repository(source, tracking_uri=self.uri, registry_uri=self.uri)
            return Path(repository.download_artifacts("", str(into)))

    def download(self, run_id: str, path: str, into: Path) -> Path:
        """Copy an artifact, a file or a folder, of a run or of its models, into the folder `into`; returns where it is.

        Raises HarnessError when it is not there, and UnreachableError where the store does not say so.
        """
        wanted = path
        name, _, rest = path.partition("/")
        try:
            if model := artifacts.model_named(self.client, run_id, name):
                into, path = into / name, rest
            into.mkdir(parents=True, exist_ok=True)
            repository = artifacts.repository(self.client, model or run_id)
            return Path(repository.download_artifacts(path, str(into)))
        except Exception as error:
            try:
                folder = str(PurePosixPath(wanted).parent)
                there = [file.path for file in self.client.list_artifacts(run_id, None if folder == "." else folder)]
            except Exception as failure:
                raise UnreachableError(f"the tracking store {self.shown_uri} failed: {reason(failure)}") from failure
            if wanted in there:
                raise UnreachableError(f"{wanted} of run {run_id} cannot be read: {reason(error)}") from error
            raise HarnessError(f"the run {run_id} has no {path!r} in {self.shown_uri}: {reason(error)}") from error

    def _spool_of(self, harness_id: str) -> Spool:
        spool = Spool(self.spool / harness_id)
        try:
            spool.folder.mkdir(parents=True, exist_ok=True)
            free = spool.acquire()
        except OSError as error:
            raise HarnessError(f"cannot keep a spool in {self.spool}: {error.strerror or error}") from error
        if not free:
            pid = spool.read_meta().get("harness.pid", "unknown")
            raise HarnessError(f"the run is still being written by process {pid}: wait for it, or stop it")
        return spool

    def _log(
        self,
        spool: Spool,
        run: "Run",
        harness_id: str,
        held: Inventory | None = None,
        resumed: Mapping[str, str] = _NONE,
    ) -> RunLog:
        run_id, experiment_id = run.info.run_id, run.info.experiment_id
        self._written[run_id] = run
        meta = {
            "run_id": run_id,
            "experiment_id": experiment_id,
            "name": redact(run.info.run_name),
            "uri": self.shown_uri,
            **this_process(),
        }
        try:
            spool.write_meta(meta)
        except OSError as error:
            raise HarnessError(f"cannot write to the spool {spool.folder}: {error.strerror or error}") from error
        return RunLog(
            self.client,
            spool,
            run_id=run_id,
            name=str(run.info.run_name),
            harness_id=harness_id,
            experiment_id=experiment_id,
            before=None if held is None else _standing(run, resumed),
            held=held,
            patience=self._patience,
        )

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except HarnessError:
            raise
        except Exception as error:
            raise HarnessError(f"the tracking store {self.shown_uri} failed: {reason(error)}") from error


def _owner() -> dict[str, str]:
    """The tags of whoever writes a run."""
    return this_process() | {"harness.version": __version__}


def _standing(run: "Run", resumed: Mapping[str, str]) -> Before:
    """What resuming a run changes, as it stands. One that was left RUNNING by a process that is gone is KILLED."""
    status = "KILLED" if run.info.status == "RUNNING" else run.info.status
    kept = {*_STALE, *_owner()}
    tags = {key: value for key, value in run.data.tags.items() if key in kept}
    return Before(status, run.info.end_time, tags, resumed)


def _artifacts(uri: str, root: Path) -> Path | None:
    """Where the artifacts of a store go; None leaves it to a server. MLflow alone would say: below wherever we are."""
    if uri.startswith("sqlite:"):
        return artifacts_of(database_of(uri))
    return None if uri.startswith("http") else root / "artifacts"
