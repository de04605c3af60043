"""`run --seeds N`: the same experiment under several seeds, nested below one parent that carries mean and deviation."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UnreachableError
from harness.experiment import Experiment
from harness.experiment.tags import Kind, Tag
from harness.gan import resolve_batch_runs
from harness.interrupts import handle_signals
from harness.results import changes, load
from harness.results.changes import RecordedInputs
from harness.runs import provenance
from harness.runs.batched import RunSpec, run_batched
from harness.runs.display import Display
from harness.runs.options import RunOptions, RunResult, Status
from harness.runs.prepare import prepare
from harness.runs.resumable import find_resumable
from harness.runs.seed_summary import log_summary, result_of
from harness.runs.seed_workers import has_ended, seed_children, train_seeds
from harness.runs.session import STOP
from harness.runs.train import resume_session, start_session, train
from harness.tracking import RunLog, Store, ensure_final_status

if TYPE_CHECKING:
    from harness.tracking import Run


@dataclass(frozen=True)
class Replicates:
    """How the seeds ended.

    means, deviations: of every test score, over all seeds, collapsed and diverged ones too. seconds: that this command
    has worked on them.
    """

    run_id: str
    name: str
    seeds: int
    outcomes: Mapping[int, RunResult]
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    status: Status
    stopped: str | None = None
    unshipped: str | None = None
    seconds: float = 0.0


def replicate(
    experiment: Experiment,
    seeds: int,
    store: Store,
    options: RunOptions,
    display: Display,
    *,
    batch_runs: int | None = None,
) -> Replicates:
    """Run an experiment under `seeds` seeds, counted up from its own. Raises HarnessError as `start_session` does.

    batch_runs: number of seeds to train at once as one program; None times it on this machine, and takes one or all.
    """
    if seeds < 2:
        raise HarnessError(f"--seeds is {seeds}; expected 2 or more (a single seed is a plain run, --seed N)")
    training, scoring = prepare(experiment, display)
    identity = provenance.identity_tags(training, scoring)
    experiment = training.experiment  # every seed is trained with what `auto` meant at the start
    if options.workers is not None:
        batch_runs = 1
    if batch_runs is None:
        batch_runs = resolve_batch_runs(experiment, training.images, seeds, display.message)
    tags = provenance.run_tags(training, scoring)  # what they share: data, judge, device
    del training, scoring  # their memory is for the seeds
    name = options.name or f"{experiment.name}-x{seeds}-{secrets.token_hex(2)}"
    with handle_signals():
        log = store.start_run(
            project=experiment.project,
            name=name,
            kind=Kind.REPLICATES,
            params=experiment.flatten(),
            tags={
                **tags,
                Tag.SEEDS: str(seeds),
                Tag.BATCH_RUNS: str(batch_runs),
                **identity,
                **changes.code_tags(experiment),
                **options.tags,
            },
            parent=options.parent,
            note=options.note,
        )
        with ensure_final_status(log):
            provenance.log_sources(log, experiment)
            return _replicate(experiment, seeds, batch_runs, name, {}, store, log, options, display)


def resume(parent: Run, store: Store, options: RunOptions, display: Display) -> Replicates:
    """Go on with replicates that were stopped: finish the seed that was running, then train those that are missing.

    Raises HarnessError, before any run is RUNNING again, where images, judge or code have changed since.
    """
    experiment = load.experiment(store, parent)
    seeds, batch_runs = int(parent.data.tags[Tag.SEEDS]), int(parent.data.tags.get(Tag.BATCH_RUNS, 1))
    children = seed_children(store, parent.info.run_id)
    with handle_signals(), load.use_stored_code(store, next(iter(children.values()), parent), experiment):
        recorded = load.recorded(store, parent, experiment, allow_changes=options.allow_changes)
        tags = _recheck(experiment, recorded, [*children.values()], store, options, display)
        log = store.resume_run(parent.info.run_id)

        def progressed() -> None:
            log.mark_changed()
            log.tags(tags)

        marked = {Tag.CHANGED: tags[Tag.CHANGED]} if tags else {}  # of the seeds that begin now
        options = replace(options, tags={**options.tags, **marked}, on_progress=progressed)
        with ensure_final_status(log):
            return _replicate(
                experiment, seeds, batch_runs, str(parent.info.run_name), children, store, log, options, display
            )


def _recheck(
    experiment: Experiment,
    parent: RecordedInputs,
    children: list[Run],
    store: Store,
    options: RunOptions,
    display: Display,
) -> dict[str, str]:
    """Compare what parent and seeds were trained on and with to what is here; the tags that mark what has changed."""
    training, scoring = prepare(experiment, display, recorded=parent)
    now = provenance.identity_tags(training, scoring)
    for child in children:
        known = load.recorded(store, child, experiment, allow_changes=options.allow_changes)
        if not options.allow_changes:
            known.check_data(now, display.message)
            known.check_code(experiment, display.message)
    return parent.changed_tags(experiment, now, f"after {len(children)} seeds were begun")


def _replicate(
    experiment: Experiment,
    seeds: int,
    batch_runs: int,
    name: str,
    known: Mapping[int, Run],
    store: Store,
    log: RunLog,
    options: RunOptions,
    display: Display,
) -> Replicates:
    outcomes: dict[int, RunResult] = {}
    stopped = None
    means: dict[str, float] = {}
    deviations: dict[str, float] = {}
    began = time.monotonic()
    options.deadline.reserve("seeds")
    wanted = range(experiment.train.seed, experiment.train.seed + seeds)
    with handle_signals() as stop:
        if not log.resumed:
            log.text(experiment.to_yaml(), "experiment.yaml")
        seeds_here: Iterable[int] = wanted
        if options.workers is not None:
            known, stopped = train_seeds(wanted, known, store, log, options, display)
            seeds_here = [seed for seed in wanted if seed in known and has_ended(known[seed])]  # all, unless stopped
        for group in batched(seeds_here, batch_runs):
            plans = {
                seed: RunSpec(
                    experiment.with_values({"train.seed": seed}),
                    replace(options, name=f"{name}-seed{seed}", parent=log.run_id, note=None),
                )
                for seed in group
            }
            outcomes |= _some(plans, known, seeds, store, display)
            if log.before is None:  # else nothing was trained yet, and the parent stands as it did
                log.tags(_ended_tag(outcomes))
            # A signal in the last epoch lets what is trained finish, and nobody else start.
            stopped = (
                stopped
                or next((outcomes[seed].stopped for seed in group if outcomes[seed].stopped), None)
                or stop.signal
            )
            if options.workers is not None:
                continue
            if stopped is None and options.deadline.too_late_for("prepare", "epoch", *batch_runs * STOP):
                stopped = "max-time"
            if stopped:
                break
        complete = len(outcomes) == seeds and not any(outcome.stopped for outcome in outcomes.values())
        if complete:
            stopped = None
        log.tags(_ended_tag(outcomes))
        with options.deadline.measure("seeds"):
            if complete:
                means, deviations = log_summary(store, log, experiment, list(outcomes.values()), display)
            status: Status = "FINISHED" if complete else "KILLED"
            shipped = log.finish(status)
    unshipped = None if shipped else log.shipping_error or "the tracking server did not take everything"
    seconds = time.monotonic() - began
    return Replicates(log.run_id, name, seeds, outcomes, means, deviations, status, stopped, unshipped, seconds)


def _ended_tag(outcomes: Mapping[int, RunResult]) -> dict[str, str]:
    return {Tag.SEEDS_ENDED: str(sum(outcome.stopped is None for outcome in outcomes.values()))}


def _some(
    plans: Mapping[int, RunSpec], known: Mapping[int, Run], seeds: int, store: Store, display: Display
) -> dict[int, RunResult]:
    """Start or resume a few seeds as a batch, or return their results if they have ended."""
    outcomes = {}
    todo: dict[int, RunSpec] = {}
    for seed, plan in plans.items():
        found = known.get(seed)
        if found is not None and has_ended(found):
            outcomes[seed] = result_of(plan.experiment, found, store, "test")
            continue
        if found is not None:
            try:
                plan = replace(plan, resumable=find_resumable(store, found.info.run_id))
            except UnreachableError:
                raise
            except HarnessError as error:
                display.message(f"seed {seed} is trained again from the start: {error}")
        todo[seed] = plan
    if len(todo) > 1:
        display.message(f"seeds {', '.join(map(str, todo))} of {seeds}, together")
        training, scoring = prepare(next(iter(todo.values())).experiment, display)
        trained_on = training.images, training.validation
        batch_runs = run_batched(list(todo.values()), *trained_on, scoring, store, display)
        return outcomes | dict(zip(todo, batch_runs, strict=True))
    for seed, plan in todo.items():
        display.message(f"seed {seed} (of {seeds})")
        if plan.resumable:
            opened = resume_session(plan.resumable, store, {}, plan.options, display)
        else:
            opened = start_session(plan.experiment, store, plan.options, display)
        with opened as session:
            outcomes[seed] = train(session)
    return outcomes


def batched(seeds: Iterable[int], size: int) -> Iterator[list[int]]:
    """The seeds, at most `size` at a time."""
    rest = iter(seeds)
    while group := list(islice(rest, size)):
        yield group
