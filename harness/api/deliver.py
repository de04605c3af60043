"""Move runs between stores: `harness.sync` and `harness.push`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import formatting
from harness.api.context import api_context
from harness.api.runs import Run
from harness.api.stores import check_store_answers, open_store, recover_runs
from harness.environment import OFFLINE_FOLDER
from harness.errors import HarnessError, redact
from harness.experiment.tags import Kind, Tag

if TYPE_CHECKING:
    from harness.tracking import Run as MlflowRun
    from harness.tracking import Store
    from harness.tracking.copy_runs import Copied


def _ignore(_: str) -> None: ...


def sync(*folders: str | Path, tracking_uri: str | None = None, message: Callable[[str], None] = _ignore) -> list[str]:
    """Send to the tracking server what was stored locally: offline runs, and what a lost server did not take.

    The result in the server is that of live runs: params, metrics with their times and steps, images, models, files,
    parent and child runs, statuses, start and end times. It can be repeated at any time, also while runs are trained.

    Args:
        *folders: Folders of offline stores (`--spool DIR`), or `spool` folders that were copied from another machine.
            None: ./mlruns/spool and ./mlruns/offline.
        tracking_uri: Address of the store to send to. None: $MLFLOW_TRACKING_URI, else ./mlruns/mlflow.db.
        message: Receives each line as soon as its runs are sent.

    Returns:
        What was done, in lines. Empty if nothing was left to send.

    Raises:
        HarnessError: A folder holds nothing to send, or a run exists in the store with other params or was trained
            further there; the other runs are sent.

    Examples:
        >>> harness.sync("mlruns/offline", tracking_uri="http://tracking:5000")
    """
    with api_context():
        uri = tracking_uri or os.environ.get(formatting.STORE) or formatting.LOCAL_STORE
        check_store_answers(uri)
        for folder in folders:
            _check_folder(Path(folder), uri)
        store = open_store(uri, create=True)
        lines = _Lines(message)
        for folder in folders:
            _send(Path(folder), store, lines)
        if not folders:
            recover_runs(store, lines.add, repeat=True)
            if _is_offline(OFFLINE_FOLDER):
                _send(OFFLINE_FOLDER, store, lines)
        lines.raise_refused()
        return lines.done


def push(
    *runs: str | Run,
    to: str,
    study: str | None = None,
    project: str | None = None,
    tracking_uri: str | None = None,
    message: Callable[[str], None] = _ignore,
) -> list[Copied]:
    """Copy runs with their children, files and models to another MLflow store.

    A study is copied with its trials, a trial with its study's run. The tag `harness.id` says which run is which:
    copying again adds what is new and changes nothing else.

    Args:
        *runs: Runs: a `Run`, an id, a unique prefix of one, a name, or `latest`.
        to: Address of the other store.
        study: Copy the study with this name.
        project: Copy all runs of the MLflow experiment with this name.
        tracking_uri: Address of the store of the runs; see `harness.run`.
        message: Receives each line as soon as its runs are copied.

    Returns:
        What was copied, by top-level run.

    Raises:
        HarnessError: No run is meant; or a run exists in the other store with other params or was trained further
            there: the other runs are copied.

    Examples:
        >>> harness.push("latest", to="http://tracking:5000")
    """
    if not runs and study is None and project is None:
        raise HarnessError("push copies nothing: expected RUN, --study NAME or --project NAME")
    with api_context():
        check_store_answers(to)
        source = next((run.store for run in runs if isinstance(run, Run)), None) or open_store(tracking_uri)
        recover_runs(source, message)
        selected = [source.find(run if isinstance(run, str) else run.id) for run in runs]
        if study is not None:
            selected += _found(source.tagged({Tag.STUDY: study, Tag.KIND: Kind.STUDY}), f"--study {study}", source)
        if project is not None:
            selected += _found(source.runs(limit=None, project=project), f"--project {project}", source)
        from harness.tracking import Store
        from harness.tracking.connect import resolve

        if resolve(to, source.root) == source.uri:
            raise HarnessError(f"--to {redact(to)} is the store of the runs: give the address of another one")
        target = Store.open(to)
        lines = _Lines(message)
        copied = _copy(source, target, selected, lines)
        lines.raise_refused()
        return copied


class _Lines:
    """What was done, line by line, and what was refused."""

    def __init__(self, message: Callable[[str], None]) -> None:
        self.done: list[str] = []
        self._refused: list[str] = []
        self._message = message

    def add(self, line: str) -> None:
        self.done.append(line)
        self._message(line)

    def refuse(self, error: HarnessError) -> None:
        self._refused.append(str(error))

    def raise_refused(self) -> None:
        """Raise HarnessError if a run was refused: one line for each, and the rest was done."""
        if self._refused:
            *others, last = self._refused
            for line in others:
                self._message(f"not copied: {line}")
            raise HarnessError(last)


def _send(folder: Path, store: Store, lines: _Lines) -> None:
    if _is_offline(folder):
        from harness.tracking import Store, offline

        with offline.one_delivery(folder):
            source = Store.open(offline.uri_of(folder), root=folder, create=False)
            recover_runs(source, lines.add)
            _copy(source, store, source.runs(limit=None), lines)
        return
    for line in store.sync(_spools(folder)):
        lines.add(line)


def _spools(folder: Path) -> Path:
    return folder / "spool" if (folder / "spool").is_dir() else folder


def _check_folder(folder: Path, uri: str) -> None:
    """Raise HarnessError for a folder with nothing to send in it."""
    if not folder.is_dir():
        raise HarnessError(f"{folder}: expected a folder, that of --spool DIR or a copy of it")
    if not _is_offline(folder) and not any(_spools(folder).glob("*/meta.json")):
        push = formatting.harness_command("push", "RUN", to=uri)
        raise HarnessError(
            f"{folder}: expected an offline store (--spool DIR) or a spool folder; a store with runs is copied with "
            f"`{push}`"
        )


def _is_offline(folder: Path) -> bool:
    from harness.tracking import offline

    return offline.is_offline_store(folder)


def _copy(source: Store, target: Store, runs: Sequence[MlflowRun], lines: _Lines) -> list[Copied]:
    from harness.tracking.copy_runs import RefusedCopyError, copy_family, find_families

    done = []
    for family in find_families(source, runs):
        try:
            copied = copy_family(source, target, family)
        except RefusedCopyError as error:
            lines.refuse(error)
            continue
        lines.add(str(copied))
        done.append(copied)
    return done


def _found(runs: list[MlflowRun], what: str, source: Store) -> list[MlflowRun]:
    if not runs:
        raise HarnessError(f"{what}: there is none in {source.redacted_uri}")
    return runs
