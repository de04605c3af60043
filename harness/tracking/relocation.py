"""Rewrite the absolute artifact locations of a sqlite store whose folder was moved or copied.

Harness puts the artifacts of a sqlite store into `artifacts` beside the database, one folder per project. So the
locations of the MLflow experiments tell in which folder the store was last opened. Locations outside that folder were
chosen by the user, and do not change.
"""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.experiment.tags import Tag
from harness.files import atomic_write, path_of, safe_file_name
from harness.tracking.process_tags import process_ended
from harness.tracking.spool import Spool

# The columns of MLflow's schema that hold a location, and tags that do: (table, column, key of the tag).
_COLUMNS = (
    ("experiments", "artifact_location", None),
    ("runs", "artifact_uri", None),
    ("logged_models", "artifact_location", None),
    ("model_versions", "source", None),
    ("model_versions", "storage_location", None),
    ("trace_tags", "value", "mlflow.artifactLocation"),
)
_STORAGE_TAG = Tag.STORAGE  # of a study: the path of Optuna's journal


@dataclass(frozen=True)
class _Move:
    """The old and the new location of an experiment, without a final slash, and the old folder of the store."""

    experiment_id: int
    old: str
    new: str
    old_folder: Path


def artifacts_of(database: Path) -> Path:
    """Return the folder below which harness keeps the artifacts of a sqlite store."""
    return database.parent / "artifacts"


def relocate(database: Path, spools: Path, message: Callable[[str], None]) -> None:
    """Rewrite the artifact locations of a store that was moved or copied since it was last opened, all or none.

    Args:
        database: The SQLite file.
        spools: The folder of the spools that is used with it.
        message: Called with one line where runs are affected.

    Raises:
        HarnessError: A process is still writing one of these runs through this folder, or the database cannot be
            written.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=20, isolation_level=None)) as connection:
        if not _moves(connection, database):
            return
        try:
            connection.execute("BEGIN IMMEDIATE")  # a second process waits, and finds no moves
            moves = _moves(connection, database)
            if not moves:
                return
            _check_not_written(connection, moves, [spools, database.parent / "spool"])
            runs = _count_runs(connection, moves)
            for move in moves:
                _rewrite(connection, move, database.parent)
                _rewrite_models(connection, move)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise HarnessError(
                f"the folder of the tracking store {database} was moved or copied, and the artifact locations in it "
                f"cannot be rewritten: {error}"
            ) from error
    if runs:
        folders = ", ".join(sorted({str(move.old_folder) for move in moves}))
        message(
            f"the tracking store was moved or copied from {folders}: the artifact locations of {runs} runs are "
            f"rewritten to {database.parent}"
        )


def _moves(connection: sqlite3.Connection, database: Path) -> list[_Move]:
    """The experiments to rewrite; empty for a store that was not moved."""
    rows = connection.execute(
        "SELECT experiment_id, name, artifact_location FROM experiments WHERE artifact_location IS NOT NULL"
    ).fetchall()
    created_by_harness = {
        experiment
        for (experiment,) in connection.execute(
            "SELECT experiment_id FROM experiment_tags WHERE key = 'mlflow.experimentKind'"
        )
    }
    folders = {
        path.parent.parent for row in rows if (path := _project_folder(*row, known=row[0] in created_by_harness))
    }
    folders = {folder for folder in folders if not _same(folder, database.parent)}
    moves = []
    for experiment_id, _, location in rows:
        path = path_of(location)
        folder = path and next((folder for folder in folders if path.is_relative_to(folder)), None)
        if path is None or folder is None:
            continue
        new = database.parent / path.relative_to(folder)
        if _belongs(connection, experiment_id, path, new, inside=path.is_relative_to(folder / "artifacts")):
            text = new.as_uri() if location.startswith("file:") else str(new)
            moves.append(_Move(experiment_id, location.rstrip("/"), text, folder))
    return moves


def _project_folder(experiment_id: int, name: str, location: str, *, known: bool) -> Path | None:
    """The folder of an experiment that harness created in `artifacts`; None for another one.

    The second of the two names is that of earlier versions of harness.
    """
    path = path_of(location)
    expected = {"0"} if experiment_id == 0 else set()
    if known:
        expected = {safe_file_name(name), re.sub(r"[^\w.-]+", "_", name)}
    return path if path and path.name in expected and path.parent.name == "artifacts" else None


def _belongs(connection: sqlite3.Connection, experiment_id: int, old: Path, new: Path, *, inside: bool) -> bool:
    """Whether the files of an experiment are, or will be, at `new`.

    A database that was copied without its folder still uses the original artifacts, and the user may have chosen a
    location outside of `artifacts`.
    """
    if is_there(new) or not is_there(old):
        return inside or is_there(new)
    has_runs = connection.execute("SELECT 1 FROM runs WHERE experiment_id = ? LIMIT 1", (experiment_id,)).fetchone()
    return inside and not has_runs


def _rewrite(connection: sqlite3.Connection, move: _Move, folder: Path) -> None:
    for table, column, key in _COLUMNS:
        if not _has_column(connection, table, column):
            continue  # of another version of MLflow
        condition = "" if key is None else f" AND key = '{key}'"
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE ({column} = ? OR substr({column}, 1, ?) = ?){condition}",
            (move.new, len(move.old) + 1, move.old, len(move.old) + 1, f"{move.old}/"),
        )
    connection.execute(
        "UPDATE tags SET value = ? || substr(value, ?) WHERE key = ? AND substr(value, 1, ?) = ? "
        "AND run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = ?)",
        (
            str(folder),
            len(str(move.old_folder)) + 1,
            Tag.STORAGE,
            len(str(move.old_folder)) + 1,
            f"{move.old_folder}/",
            move.experiment_id,
        ),
    )


def _rewrite_models(connection: sqlite3.Connection, move: _Move) -> None:
    """Rewrite the location in the MLmodel file of logged models. It is informative, and not used to load them."""
    for (location,) in connection.execute(
        "SELECT artifact_location FROM logged_models WHERE experiment_id = ?", (move.experiment_id,)
    ):
        path = path_of(location)
        if path is None:
            continue
        with contextlib.suppress(OSError, UnicodeDecodeError):
            file = path / "MLmodel"
            text = file.read_text(encoding="utf-8")
            new = text.replace(f"artifact_path: {move.old}/", f"artifact_path: {move.new}/")
            if new != text:
                with atomic_write(file) as moved:
                    moved.write_text(new, encoding="utf-8")


def _check_not_written(connection: sqlite3.Connection, moves: list[_Move], folders: list[Path]) -> None:
    """Raise HarnessError if a process writes a run: it holds the lock of the run's spool, which was moved, too."""
    for run_id, name, tags in _running(connection, moves):
        harness_id = tags.get(Tag.ID)
        if harness_id and any(Spool(folder / harness_id).is_locked() for folder in folders):
            old = moves[0].old_folder
            raise HarnessError(
                f"the tracking store was moved from {old} while process {tags.get(Tag.PID)} writes run {name} "
                f"({run_id[:8]}): stop that process or move the folder back, then repeat the command"
                if not process_ended(tags)
                else f"another process writes run {name} ({run_id[:8]}) of the tracking store that was moved from "
                f"{old}: wait for it, then repeat the command"
            )


def _running(connection: sqlite3.Connection, moves: list[_Move]) -> Iterator[tuple[str, str, dict[str, str]]]:
    for move in moves:
        runs = connection.execute(
            "SELECT run_uuid, name FROM runs WHERE experiment_id = ? AND status = 'RUNNING'", (move.experiment_id,)
        ).fetchall()
        for run_id, name in runs:
            yield run_id, name, dict(connection.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)))


def _count_runs(connection: sqlite3.Connection, moves: list[_Move]) -> int:
    return sum(
        connection.execute("SELECT count(*) FROM runs WHERE experiment_id = ?", (move.experiment_id,)).fetchone()[0]
        for move in moves
    )


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return any(name == column for _, name, *_ in connection.execute(f"PRAGMA table_info({table})"))


def is_there(path: Path) -> bool:
    """Whether a path exists and is visible: the old folder may be in the home folder of another user."""
    try:
        return path.exists()
    except OSError:
        return False


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same folder, also through links."""
    return one == other or (is_there(one) and is_there(other) and one.samefile(other))
