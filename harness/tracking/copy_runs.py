"""Copy runs between stores: `sync` of an offline store, and `push`.

copy_family --plan_family--> every run found or created in the target --copy_contents--> its items, its status last

The tag `harness.id` says which run of the target a run is. Copying again adds what is new and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.experiment.tags import Kind, Tag
from harness.tracking import find_runs
from harness.tracking.copy_contents import PARENT, Contents
from harness.tracking.errors import store_errors
from harness.tracking.retries import create_once
from harness.tracking.store_reader import StoreReader

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.tracking.store import Store


class RefusedCopyError(HarnessError):
    """A run cannot be copied into this target. Nothing of its family was written."""


@dataclass(frozen=True)
class Copied:
    """What copying a run with its parents and children did.

    Attributes:
        name: Name of the top-level run.
        run_id: Its id in the target.
        runs: Number of runs of the family.
        created: Number of runs that the target did not have.
        items: Number of metric values, params, tags, files and models that were written.
    """

    name: str
    run_id: str
    runs: int
    created: int
    items: int

    def __str__(self) -> str:
        """Return one line for the terminal."""
        count = f"{self.runs} run" + "s" * (self.runs != 1)
        if not self.items and not self.created:
            return f"{self.name} ({self.run_id[:8]}): {count}, nothing new"
        return f"{self.name} ({self.run_id[:8]}): {count}, {self.created} created, {self.items} items written"


def find_families(source: StoreReader, runs: Iterable[Run]) -> list[list[Run]]:
    """Return each run with its parents and all its descendants, parents first; runs of one tree share a family.

    Args:
        source: The store of the runs.
        runs: Runs of any level. The siblings of a child are not included.
    """
    families: dict[str, dict[str, Run]] = {}
    for run in runs:
        ancestors = [run]
        while parent := ancestors[0].data.tags.get(PARENT):
            found = source.get_run(parent)
            if found is None or found.info.lifecycle_stage == "deleted":
                break
            ancestors.insert(0, found)
        family = families.setdefault(ancestors[0].info.run_id, {})
        for member in (*ancestors, *_descendants(source, run)):
            family[member.info.run_id] = member
    return [list(family.values()) for family in families.values()]


def _descendants(source: StoreReader, run: Run) -> Iterator[Run]:
    kind, tags = run.data.tags.get(Tag.KIND), run.data.tags
    if kind == Kind.SEED or (kind == Kind.TRIAL and Tag.SEEDS not in tags):  # they have no children
        return
    for child in reversed(source.children(run.info.run_id)):  # oldest first, as they were created
        yield child
        yield from _descendants(source, child)


def copy_family(source: StoreReader, target: Store, family: Sequence[Run]) -> Copied:
    """Copy runs of one family, parents first, into another store.

    Args:
        source: The store of the runs.
        target: Another store.
        family: Runs, as `find_families` returns them.

    Raises:
        RefusedCopyError: A run has no `harness.id`, is deleted in the target, or exists there with other params or
            was trained further there. Nothing is written.
        HarnessError: A store fails. Copying again continues.
    """
    existing = plan_family(target, family)
    ids: dict[str, str] = {}
    for run in family:
        ids[run.info.run_id] = (existing.get(run.info.run_id) or _create(source, target, run, ids)).info.run_id
    items = 0
    for run in reversed(family):  # a parent ends after its children
        with store_errors(f"{source.redacted_uri} or {target.redacted_uri}"):
            items += Contents(source, target, run, ids, existing.get(run.info.run_id)).copy()
    top = family[0]
    return Copied(str(top.info.run_name), ids[top.info.run_id], len(family), len(family) - len(existing), items)


def plan_family(target: Store, family: Sequence[Run]) -> dict[str, Run]:
    """Return the runs of a family that the target has, by their id in the source. Writes nothing.

    Raises:
        RefusedCopyError: See `copy_family`.
    """
    existing = {}
    for run in family:
        name, harness_id = run.info.run_name, run.data.tags.get(Tag.ID)
        if not harness_id:
            raise RefusedCopyError(f"run {name} ({run.info.run_id[:8]}) was not logged by harness and cannot be copied")
        found = target.tagged({Tag.ID: harness_id})
        if not found:
            if deleted := target.tagged({Tag.ID: harness_id}, deleted=True):
                how = find_runs.how_to_restore(target.client, deleted[0])
                raise RefusedCopyError(f"run {name} is deleted in {target.redacted_uri}; {how}")
            continue
        _check_same(run, found[0], target.redacted_uri)
        existing[run.info.run_id] = found[0]
    return existing


def _check_same(run: Run, other: Run, where: str) -> None:
    name = f"run {run.info.run_name} ({run.info.run_id[:8]})"
    theirs = other.data.params
    for key, value in run.data.params.items():
        if theirs.get(key, value) != value:
            raise RefusedCopyError(
                f"{name} exists in {where} as {other.info.run_id[:8]} with other params ({key} is {theirs[key]} "
                f"there, {value} here): nothing was copied"
            )
    if _epoch(other) > _epoch(run):
        raise RefusedCopyError(
            f"{name} was trained further in {where}, to epoch {_epoch(other)}: nothing was copied; it is at epoch "
            f"{_epoch(run)} here"
        )


def _epoch(run: Run) -> int:
    """The last epoch that a run has ended with; 0 while it is unknown."""
    epoch = run.data.tags.get(Tag.EPOCH, "")
    return int(epoch) if epoch.isdecimal() else 0


def _create(source: StoreReader, target: Store, run: Run, ids: Mapping[str, str]) -> Run:
    """Create a run in the target, with the tags that say what it is. Its contents follow."""
    with store_errors(source.redacted_uri):
        experiment = target.experiment_id(source.client.get_experiment(run.info.experiment_id).name)
    tags = {key: value for key, value in run.data.tags.items() if key.startswith(("mlflow.user", "mlflow.source"))}
    tags |= {key: run.data.tags[key] for key in (Tag.ID, Tag.KIND) if key in run.data.tags}
    if (parent := run.data.tags.get(PARENT)) in ids:
        tags[PARENT] = ids[str(parent)]
    with store_errors(target.redacted_uri):
        create = partial(
            target.client.create_run,
            experiment,
            start_time=run.info.start_time,
            tags=tags,
            run_name=run.info.run_name,
        )
        return create_once(create, lambda: find_runs.with_tags(target.client, {Tag.ID: tags[Tag.ID]}))
