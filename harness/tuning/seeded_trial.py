"""A trial that is trained under several seeds: a run of its own, with the runs of its seeds below it.

with SeededTrial.open(claim, experiment, ...) as trial:
while runs := trial.next_runs(3):
...  # train them; trial.record(seed, result) as they end
trial.end()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import HarnessError, UnreachableError
from harness.experiment import Experiment
from harness.experiment.tags import Kind, Tag
from harness.formatting import format_count
from harness.runs import provenance
from harness.runs.batched import RunSpec
from harness.runs.display import Display
from harness.runs.options import RunOptions, RunResult
from harness.runs.resumable import find_resumable
from harness.runs.seed_summary import log_summary, result_of
from harness.runs.seed_workers import has_ended, seed_children
from harness.tracking import RunLog, Store, ensure_final_status
from harness.tuning.held_trials import Claim
from harness.tuning.pruning import SeedsPruner
from harness.tuning.trial_grids import store_grid
from harness.tuning.trials import Trials

if TYPE_CHECKING:
    from harness.tracking import Run


# Of a seed: experiment, id of its run, its metrics and epochs -> metrics of the study by name.
Measure = Callable[[Experiment, str, Mapping[str, float], int], dict[str, float]]


class SeedRun(NamedTuple):
    """A run of one seed, to be trained: its result is for `trial.record(seed, result)`."""

    trial: SeededTrial
    seed: int
    spec: RunSpec


@dataclass(eq=False)
class SeededTrial:
    """A trial with several seeds, while a process trains it.

    Attributes:
        claim: The trial.
        experiment: Its experiment, with the first seed.
        log: The log of its MLflow run.
        trials: The trials of the study.
        store: The MLflow store.
        options: Options of the runs of its seeds, without name and pruner.
        measure: Returns the metrics of a seed: see `goals.measure`.
        display: Receives messages.
        stopped: What stopped it: SIGINT, SIGTERM or max-time; else None.
        error: Why it cannot be trained; else None.
    """

    claim: Claim
    experiment: Experiment
    log: RunLog
    trials: Trials
    store: Store
    options: RunOptions
    measure: Measure
    display: Display
    stopped: str | None = None
    error: str | None = None
    _known: dict[int, Run] = field(default_factory=dict)  # runs of the seeds, from before this process
    _results: dict[int, RunResult] = field(default_factory=dict)
    _pruner: SeedsPruner | None = None
    _pruned_at: int | None = None  # the epoch

    @classmethod
    @contextmanager
    def open(
        cls,
        claim: Claim,
        experiment: Experiment,
        earlier: Run | None,
        trials: Trials,
        store: Store,
        options: RunOptions,
        measure: Measure,
        display: Display,
    ) -> Iterator[SeededTrial]:
        """Create or resume the MLflow run of a trial. Its status is true, whatever ends the block.

        Args:
            claim: The trial.
            experiment: Its experiment.
            earlier: The run that an earlier process started for it, if any.
            trials: The trials of the study.
            store: The MLflow store.
            options: Options of the run.
            measure: Returns the metrics of a seed.
            display: Receives messages.
        """
        if earlier is None:
            log = store.start_run(
                project=experiment.project,
                name=str(options.name),
                kind=Kind.TRIAL,
                params=experiment.flatten(),
                tags={Tag.EXPERIMENT: experiment.name, **trials.identity, **options.tags},
                parent=options.parent,
                note=None,
            )
        else:
            log = store.resume_run(earlier.info.run_id, claimed=True)
        with ensure_final_status(log):
            if earlier is None:
                log.text(experiment.to_yaml(), "experiment.yaml")
                provenance.log_sources(log, experiment)
            else:
                log.mark_changed()
            log.tags({Tag.SEEDS: str(claim.seeds)})
            trial = cls(claim, experiment, log, trials, store, options, measure, display)
            if earlier is not None:
                trial._known = seed_children(store, log.run_id)
                trial._record_ended()
            yield trial

    @property
    def seeds(self) -> list[int]:
        """The seeds that it needs."""
        return self.trials.settings.seed_list[: self.claim.seeds]

    @property
    def decided(self) -> bool:
        """Whether nothing of it is trained any more: it has its scores, was pruned or given up, or was stopped."""
        ended_early = self.stopped is not None or self.error is not None or self._is_given_up
        return ended_early or len(self.claim.scores) >= self.claim.seeds

    @property
    def _is_given_up(self) -> bool:
        return self._pruned_at is not None or self.claim.given_up

    def next_runs(self, count: int) -> list[SeedRun]:
        """Return the runs to train next, at most `count`; none if the trial is decided, or is given up now."""
        if self.decided or (self.claim.scores and self.trials.should_give_up(self.claim)):
            return []
        if self._pruner is None:
            first = self.seeds[: 1 if self.trials.settings.race else count]
            run_ids = {seed: run.info.run_id for seed, run in self._known.items()}
            epochs = self.experiment.train.epochs
            self._pruner = SeedsPruner(
                self.trials, self.claim, self.log.run_id, epochs, first, self.store, run_ids=run_ids
            )
        todo = [seed for seed in self.seeds if seed not in self.claim.scores][:count]
        return [SeedRun(self, seed, self._run(seed)) for seed in todo]

    def record(self, seed: int, result: RunResult) -> None:
        """Record the result of one seed. A stopped run is not recorded: it can be resumed."""
        if result.pruned:
            self._pruned_at = result.epoch
        elif result.stopped:
            self.stopped = result.stopped
        else:
            self._results[seed] = result
            measured = self.measure(result.experiment, result.run_id, result.scores, result.epoch)
            if result.grid is not None:
                store_grid(self.claim.trial, self.store.root, f"seed-{seed}-epoch-{result.epoch:04d}.png", result.grid)
            self.trials.record_seed(self.claim, self.log.run_id, seed, measured)
            self.log.tags({Tag.SEEDS_ENDED: str(len(self.claim.scores))})

    def end(self) -> None:
        """End the trial in Optuna, and its MLflow run, as far as it is trained. A stopped trial can be resumed."""
        claim, log = self.claim, self.log
        if self.error is not None:
            log.tags({Tag.ERROR: self.error})
            log.finish("FAILED")
            return
        if not self.decided:  # the command ends between two seeds
            self.stopped = "max-time"
        if self.stopped and not self._is_given_up and len(claim.scores) < claim.seeds:
            log.finish("KILLED")
            return
        results = [self._result(seed) for seed in self.seeds if seed in claim.scores]
        if results:
            log_summary(self.store, log, self.experiment, results, self.display, split="validation", replace=True)
        if self._is_given_up:
            epoch = self.experiment.train.epochs if self._pruned_at is None else self._pruned_at
            log.tags({Tag.PRUNED: str(epoch)})
            log.finish("KILLED")
            self.trials.prune(claim, log.run_id)
            return
        log.finish("FINISHED")
        diverged = [seed for seed, result in self._results.items() if result.status == "FAILED"]
        remark = f"{format_count(len(diverged), 'seed')} diverged" if diverged else None
        self.trials.complete_seeds(claim, log.run_id, diverged=remark)

    def _run(self, seed: int) -> RunSpec:
        pruner = self._pruner
        assert pruner is not None
        experiment = self._experiment(seed)
        options = replace(
            self.options,
            name=f"{self.options.name}-seed{seed}",
            kind=Kind.SEED,
            parent=self.log.run_id,
            pruner=pruner.of(seed) if seed in pruner.seeds and len(self.trials.settings.metrics) == 1 else None,
        )
        known = self._known.get(seed)
        if known is None:
            return RunSpec(experiment, options)
        try:
            return RunSpec(experiment, options, replace(find_resumable(self.store, known.info.run_id), claimed=True))
        except UnreachableError:
            raise
        except HarnessError as error:
            self.display.message(f"trial {self.claim.number}, seed {seed} is trained from the start: {error}")
            return RunSpec(experiment, options)

    def _experiment(self, seed: int) -> Experiment:
        return self.experiment.with_values({"train.seed": seed})

    def _record_ended(self) -> None:
        """Record the scores of seeds that ended before their process died."""
        metric = f"validation/{self.trials.settings.metric}"
        for seed, run in self._known.items():
            if seed in self.claim.scores or seed not in self.seeds or not has_ended(run):
                continue
            if metric in run.data.metrics:
                epoch = int(run.data.tags[Tag.EPOCH])
                measured = self.measure(self._experiment(seed), run.info.run_id, run.data.metrics, epoch)
                self.trials.record_seed(self.claim, self.log.run_id, seed, measured)

    def _result(self, seed: int) -> RunResult:
        if seed not in self._results:
            self._results[seed] = result_of(self._experiment(seed), self._known[seed], self.store, "validation")
        return self._results[seed]
