"""Continue a stored run: one that is named by the user, or that of the same name (`--resume auto`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness import formatting
from harness.errors import HarnessError, UnreachableError, redact
from harness.experiment.tags import Kind, Tag

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.runs.display import Display
    from harness.runs.options import RunOptions, RunResult
    from harness.runs.seeds import Replicates
    from harness.tracking import Run, Store

_KINDS = (Kind.RUN, Kind.REPLICATES)
_NOT_COMPARED = ("train.epochs", "description")


@dataclass(frozen=True)
class EndedRun:
    """A run that has nothing left to train."""

    name: str
    run_id: str


def continue_run(
    stored: Run, store: Store, values: Mapping[str, Any], options: RunOptions, display: Display
) -> RunResult | Replicates:
    """Continue a run from its last checkpoint, or a run with seeds with the seeds that are missing.

    Args:
        stored: The run.
        store: Its MLflow store.
        values: Values to change, by dotted path: `train.epochs`.
        options: How it is tracked from now on, and when it ends.
        display: Shows the progress.

    Raises:
        HarnessError: The run cannot be resumed. It stays as it was.
    """
    from harness.runs import seeds
    from harness.runs.resumable import find_resumable
    from harness.runs.train import resume_session, train

    kind = stored.data.tags.get(Tag.KIND)
    if kind == Kind.STUDY:
        command = _tune_command(store, stored.data.tags)
        raise HarnessError(f"{stored.info.run_name} is a study: resume it with `{command}`")
    if kind == Kind.REPLICATES and values:
        raise HarnessError("a run with --seeds is resumed as it was started; leave out --set, --epochs and the like")
    if kind == Kind.REPLICATES:
        return seeds.resume(stored, store, options, display)
    resumable = find_resumable(store, stored.info.run_id)
    if kind == Kind.TRIAL:  # trials are compared on validation images, so the test split stays unseen
        options = replace(options, final="validation")
    with resume_session(resumable, store, values, options, display) as session:
        return train(session)


def continue_named_run(
    store: Store, experiment: Experiment, seeds: int | None, options: RunOptions, display: Display
) -> RunResult | Replicates | EndedRun | None:
    """Continue the run with the name in `options`.

    Args:
        store: The MLflow store.
        experiment: What the run must have been started with. More epochs extend it.
        seeds: Number of seeds; None for a run of one seed.
        options: Options of the run, with its name.
        display: Shows the progress.

    Returns:
        How it ended; `EndedRun` if nothing was left to train; None if there is no such run, or if it had no
        checkpoint and was set aside under another name.

    Raises:
        HarnessError: Several runs have this name, the run was started with other values, or it cannot be resumed.
    """
    assert options.name is not None
    found = find_named_run(store, options.name, experiment, seeds)
    if found is None:
        return None
    if has_ended(found, experiment.train.epochs):
        return EndedRun(str(found.info.run_name), found.info.run_id)
    epochs = experiment.train.epochs
    values = {"train.epochs": epochs} if seeds is None and epochs != _planned(found) else {}
    if seeds is None and not _has_checkpoint(store, found, display):
        return None
    again = replace(options, name=None, note=None, tags={})
    return continue_run(found, store, values, again, display)


def _has_checkpoint(store: Store, run: Run, display: Display) -> bool:
    """Whether a run can be resumed. One that was killed before its first checkpoint was stored is set aside."""
    from harness.runs.resumable import find_resumable

    try:
        find_resumable(store, run.info.run_id)
    except UnreachableError:
        raise
    except HarnessError as error:
        name = f"{run.info.run_name}-{run.info.run_id[:8]}"
        store.rename(run.info.run_id, name)
        display.message(redact(f"run {run.info.run_name} is started again, the old one is {name} now: {error}"))
        return False
    return True


def find_named_run(store: Store, name: str, experiment: Experiment, seeds: int | None) -> Run | None:
    """Return the run with this name in the experiment's MLflow experiment, finished or not; None if there is none.

    Args:
        store: The MLflow store.
        name: Name of the run.
        experiment: What the run must have been started with. It may have another number of epochs.
        seeds: Number of seeds; None for a run of one seed.

    Raises:
        HarnessError: Several runs have this name, or the run was started with other values.
    """
    runs = [run for run in store.named(name, project=experiment.project) if run.data.tags.get(Tag.KIND) in _KINDS]
    if not runs:
        return None
    if len(runs) > 1:
        ids = ", ".join(run.info.run_id[:8] for run in runs)
        raise HarnessError(
            f"--resume auto: {len(runs)} runs are named {name} ({ids}); give another --name, or resume one by its id"
        )
    (run,) = runs
    if changes := _changes(run, experiment, seeds):
        raise HarnessError(
            f"--resume auto: run {name} ({run.info.run_id[:8]}) was started with {'; '.join(changes[:3])}: "
            f"give another --name for other values, or continue it with --resume {run.info.run_id[:8]}"
        )
    return run


def _changes(run: Run, experiment: Experiment, seeds: int | None) -> list[str]:
    """What differs, in words: `optimizer.lr 0.001 instead of 0.002`. The run stores what `auto` stood for."""
    stored, given = run.data.params, {key: redact(str(value)) for key, value in experiment.flatten().items()}
    changes = [
        f"{path} {stored[path]} instead of {value}"
        for path, value in given.items()
        if stored.get(path, value) != value and path not in _NOT_COMPARED and value != "auto"
    ]
    before = run.data.tags.get(Tag.SEEDS)
    if before != (None if seeds is None else str(seeds)):
        changes.append(f"{before or 'no'} seeds instead of {seeds or 'none'}")
    return changes


def has_ended(run: Run, epochs: int) -> bool:
    """Whether nothing is left to train: the run is FINISHED with as many epochs, or has diverged."""
    if Tag.DIVERGED in run.data.tags:
        return True
    return bool(run.info.status == "FINISHED" and epochs <= _planned(run))


def _planned(run: Run) -> int:
    """The number of epochs that a run was to have when it was last resumed."""
    return int(run.data.tags.get(Tag.EPOCHS, run.data.params.get("train.epochs", 0)))


def _tune_command(store: Store, tags: Mapping[str, str]) -> str:
    """The command that resumes the study with these tags."""
    storage = tags.get(Tag.STORAGE, "")  # a database, or the path of the default journal
    return formatting.harness_command(
        "tune", study=tags[Tag.STUDY], store=store.uri, storage=storage if "://" in storage else None
    )
