"""A tracking store that is written: runs started, resumed, and completed after their end; and the spool beside it.

Store --start_run, resume_run--> RunLog --> spool --> MLflow       while a run goes on
Store --add, describe, promote-------------------> MLflow          once it has ended
Store --sync, reconcile--> recovery                                after a process that was killed
"""

import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness._version import __version__
from harness.environment import user_name
from harness.errors import HarnessError, redact
from harness.experiment.tags import Tag
from harness.tracking import experiments, find_runs, offline, recovery, run_description
from harness.tracking.background_shipper import WaitBudget
from harness.tracking.before_resume import END_TAGS, BeforeResume
from harness.tracking.connect import connect, resolve
from harness.tracking.ended_runs import EndedRuns
from harness.tracking.git import git_tags
from harness.tracking.logged_items import LoggedItems
from harness.tracking.process_tags import check_not_running, this_process
from harness.tracking.retries import create_once
from harness.tracking.run_duration import resume_tags
from harness.tracking.run_log import RunLog
from harness.tracking.shipping import Shipper, ship_with_retries
from harness.tracking.spool import Spool
from harness.tracking.store_reader import NO_TAGS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def _ignore(_: str) -> None: ...


class Store(EndedRuns):
    """One MLflow tracking store reached through an explicit client, and the spool beside it. Made by Store.open.

    Attributes:
        spool: The folder of the spools, one folder a run (`harness.id`).
    """

    def __init__(self, uri: str, client: "MlflowClient", root: Path) -> None:
        super().__init__(uri, client, root)
        self.spool = root / "spool"
        self._written: dict[str, Run] = {}  # started or resumed here, by id
        self._wait_budget = WaitBudget()
        self._git_tags: dict[str, str] | None = (
            None  # asked of git once: the code that runs is the code that was loaded
        )

    @classmethod
    def open(
        cls,
        uri: str | None = None,
        *,
        root: Path | None = None,
        message: Callable[[str], None] = _ignore,
        create: bool = True,
    ) -> "Store":
        """Open a store. Imports MLflow, which takes seconds.

        Args:
            uri: Its address; else see `connect.resolve`.
            root: The folder of the spool; by default that of an offline store, else ./mlruns.
            message: Called with one line before something slow.
            create: Create what is missing; otherwise no file or folder is made.

        Raises:
            HarnessError: The store cannot be used, or is missing and not to be created.
        """
        uri = resolve(uri, (root or Path("mlruns")).absolute())
        root = (root or offline.root_of(uri) or Path("mlruns")).absolute()
        store = cls(uri, connect(uri, root / "spool", message, create=create), root)
        try:
            if create:
                store.spool.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(f"cannot keep a spool in {store.spool}: {error.strerror}") from error
        return store

    def experiment_id(self, project: str) -> str:
        """Return the id of the MLflow experiment called `project`, which is created when it is missing."""
        with self._asking():
            return experiments.get_or_create(self.client, project, self.uri, self.root)

    # Runs that are written

    def start_run(
        self,
        *,
        project: str,
        name: str,
        kind: str,
        params: Mapping[str, object],
        tags: Mapping[str, str] = NO_TAGS,
        parent: str | None = None,
        note: str | None = None,
    ) -> RunLog:
        """Create a run in MLflow (one request), and return its log.

        Args:
            project: The name of its MLflow experiment, which is created when it is missing.
            name: Its name.
            kind: The tag `harness.kind`: run, replicates, study, trial, check or confirm.
            params: Its params.
            tags: More tags than those that every run gets.
            parent: The id of the run that it is nested below.
            note: The user's part of its description.

        Raises:
            HarnessError: The store fails, or the spool cannot be written. Then there is no run.
        """
        experiment_id = self.experiment_id(project)
        harness_id = uuid.uuid4().hex
        if self._git_tags is None:
            self._git_tags = git_tags()
        all_tags = {
            "mlflow.user": user_name(),
            "mlflow.source.name": Path(sys.argv[0]).name or "python",
            "mlflow.source.type": "LOCAL",
            **self._git_tags,
            **this_process(),
            Tag.KIND: kind,
            Tag.ID: harness_id,
            Tag.VERSION: __version__,
            **tags,
        }
        if parent:
            all_tags["mlflow.parentRunId"] = parent
        if note:
            all_tags[run_description.TAG] = note
        all_tags = {key: redact(str(value)) for key, value in all_tags.items()}
        # The spool comes first: where it cannot be written, no run is created.
        spool = self._lock_spool(harness_id)
        try:
            with self._asking():
                run = create_once(
                    partial(self.client.create_run, experiment_id, tags=all_tags, run_name=name),
                    lambda: find_runs.with_tags(self.client, {Tag.ID: harness_id}),
                )
        except HarnessError:
            spool.release()
            spool.remove()
            raise
        log = self._log_of(run, harness_id, spool, before=None, logged=LoggedItems())
        log.params(params)
        return log

    def resume_run(self, run_id: str, *, claimed: bool = False) -> RunLog:
        """Go on writing a run that has ended; what it had left in its spool is shipped first, and it is RUNNING again.

        `RunLog.restore` puts back how the run stood, until `RunLog.mark_changed` is called.

        Args:
            run_id: The run.
            claimed: The caller knows that nobody else is writing it, though it may be RUNNING.

        Raises:
            HarnessError: Another process, here or on another host, seems to be writing the run; or the store fails or
                the disk is full, and the run stands as it did.
        """
        with self._asking():
            run = self.client.get_run(run_id)
        harness_id = run.data.tags.get(Tag.ID)
        if run.info.lifecycle_stage == "deleted":
            raise HarnessError(f"the run {run_id} is deleted; {find_runs.how_to_restore(self.client, run)}")
        if not harness_id:
            raise HarnessError(f"the run {run_id} was not made by harness and cannot be resumed")
        # The spool's lock tells only of those who log through this folder.
        if run.info.status == "RUNNING" and not claimed:
            check_not_running(run_id, run.data.tags, self.uri)
        spool = self._lock_spool(harness_id)
        owner_tags = {**this_process(), Tag.VERSION: __version__}
        duration_tags = resume_tags(run, spool.last_logged_ms())
        log = None
        try:
            with self._asking():
                ship_with_retries(Shipper(self.client, spool, run_id, run.info.experiment_id))
                logged = LoggedItems.read(self.client, run_id)
                spool.clear()
                run = self.client.get_run(run_id)
                before = recovery.before_resume(spool, run) or BeforeResume.of(run, owner_tags)
                before = replace(before, resume_tags=duration_tags)
                log = self._log_of(run, harness_id, spool, before=before, logged=logged)
                for key in before.tags.keys() & set(END_TAGS):
                    self.client.delete_tag(run_id, key)
                for key, value in owner_tags.items():
                    self.client.set_tag(run_id, key, value, synchronous=True)
                self.client.update_run(run_id, status="RUNNING")
        except HarnessError:
            if log is None:
                spool.release()
            else:
                log.restore(timeout=5)
            raise
        return log

    def written(self, run_id: str) -> "Run | None":
        """Return a run that was started or resumed here, as it then was. Does not ask the store."""
        return self._written.get(run_id)

    def _lock_spool(self, harness_id: str) -> Spool:
        spool = Spool(self.spool / harness_id)
        try:
            spool.folder.mkdir(parents=True, exist_ok=True)
            locked = spool.acquire()
        except OSError as error:
            raise HarnessError(f"cannot keep a spool in {self.spool}: {error.strerror or error}") from error
        if not locked:
            pid = spool.read_meta().get(Tag.PID, "unknown")
            raise HarnessError(f"the run is still being written by process {pid}: wait for it, or stop it")
        return spool

    def _log_of(
        self, run: "Run", harness_id: str, spool: Spool, *, before: BeforeResume | None, logged: LoggedItems
    ) -> RunLog:
        run_id, experiment_id, name = run.info.run_id, run.info.experiment_id, str(run.info.run_name)
        self._written[run_id] = run
        meta = {"run_id": run_id, "experiment_id": experiment_id, "name": redact(name), "uri": self.redacted_uri}
        try:
            spool.write_meta({**meta, **this_process(), **(before.as_meta() if before else {})})
        except OSError as error:
            raise HarnessError(f"cannot write to the spool {spool.folder}: {error.strerror or error}") from error
        return RunLog(
            self.client,
            spool,
            run_id=run_id,
            name=name,
            harness_id=harness_id,
            experiment_id=experiment_id,
            before=before,
            logged=logged,
            budget=self._wait_budget,
        )

    # After a process that was killed

    def sync(self, folder: Path | None = None, *, repeat: bool = True) -> list[str]:
        """Ship what ended processes left in the spool.

        Args:
            folder: Another folder of spools, which may be a copy from another machine.
            repeat: Report what the store refuses even where a command has reported it before.

        Returns:
            A line for each run: what was shipped, or why it could not be.
        """
        return recovery.sync(self.client, folder or self.spool, self.redacted_uri, repeat=repeat)

    def reconcile(self) -> list[str]:
        """Set the RUNNING runs of this host whose process is gone to KILLED (see `recovery`); return their ids."""
        with self._asking():
            return recovery.reconcile(self.client, self.spool)
