"""The worker of a study: claims trials, trains them like `harness run`, and records their results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UnreachableError, redact
from harness.experiment import Experiment
from harness.experiment.tags import Kind, Tag
from harness.gan.batched import batch_key
from harness.interrupts import StopRequest, handle_signals
from harness.quality.scoring import Scoring
from harness.runs.batched import NotBatchableError, RunSpec
from harness.runs.display import Display
from harness.runs.options import RunOptions, RunResult
from harness.runs.resumable import find_resumable
from harness.runs.session import STOP
from harness.tracking import Store, seconds_of
from harness.tuning.goals import measure
from harness.tuning.held_trials import Claim
from harness.tuning.monitor import Monitor
from harness.tuning.pruning import TrialPruner
from harness.tuning.request import TuneRequest
from harness.tuning.seeded_trial import SeededTrial, SeedRun
from harness.tuning.train_runs import InvalidRunError, train_runs
from harness.tuning.trial_grids import store_grid
from harness.tuning.trial_values import trial_experiment
from harness.tuning.trials import Trials

if TYPE_CHECKING:
    from harness.tracking import Run

POLL_INTERVAL = 0.5  # seconds between checks of the other processes


@dataclass
class Worker:
    """Trains trials of a study until it has `request.trials` of them.

    Attributes:
        scoring: Images and judge, shared by all trials that can use them.
        monitor: Receives the progress of the study.
    """

    trials: Trials
    store: Store
    request: TuneRequest
    scoring: Scoring
    display: Display
    monitor: Monitor

    @property
    def total(self) -> int:
        """Requested number of trials."""
        assert self.request.trials is not None
        return self.request.trials

    @property
    def study_run_id(self) -> str:
        """Id of the study's MLflow run."""
        assert self.trials.run_id is not None
        return self.trials.run_id

    def work(self) -> str | None:
        """Train until the study has all its trials.

        Returns:
            What stopped the study early: SIGINT, SIGTERM or max-time; else None.

        Raises:
            HarnessError: The tracking or the storage fails. The running trials can be resumed.
        """
        with handle_signals() as stop:
            started = False
            while True:
                if stopped := self._stop_reason(stop, started=started):
                    return stopped if self.trials.is_incomplete(self.total) else None
                claims = self._claim()
                started = started or bool(claims)
                try:
                    if claims:
                        self.monitor.update()
                    for group in self._groups(claims):
                        self._train(group)
                        if self._stop_reason(stop):
                            break
                finally:
                    for claim in claims:  # trials that have ended are not affected
                        self.trials.release(claim)
                if not claims:
                    if not self.trials.is_incomplete(self.total):
                        return None
                    time.sleep(POLL_INTERVAL)  # other processes train; the trial of one that dies can be claimed

    def _claim(self) -> list[Claim]:
        """Claim the trials that are trained next."""
        return self.trials.claim(self.total, self.trials.settings.batch_trials)

    def _stop_reason(self, stop: StopRequest, *, started: bool = True) -> str | None:
        """Why no more trials start. Before the first one, only a signal or the end of the time stops a command."""
        deadline = self.request.deadline
        late = deadline.too_late_for("epoch", *STOP) if started else deadline.passed
        return stop.signal or ("max-time" if late else None)

    def _train(self, group: Sequence[Claim]) -> None:
        try:
            if self.trials.settings.seeds > 1:
                self._train_seeded(group)
            else:
                self._train_once(group)
        except NotBatchableError:  # train one by one, so that only the invalid trial fails
            for claim in group:
                self._train([claim])
        except InvalidRunError as error:
            self._fail(group[0], str(error), retry=False)
        except HarnessError:
            raise
        except Exception as error:  # a failed trial does not end the study
            for claim in group:
                if self.trials.holds(claim):
                    self._fail(claim, f"{type(error).__name__}: {error}")

    def _train_once(self, group: Sequence[Claim]) -> None:
        """Train trials with one seed each."""
        specs = [(claim, spec) for claim in group if (spec := self._run_spec(claim))]

        def on_result(index: int, result: RunResult) -> None:
            self._record(specs[index][0], result)

        if specs:
            train_runs([spec for _, spec in specs], self.scoring, self.store, self.display, on_result)

    def _train_seeded(self, group: Sequence[Claim]) -> None:
        """Train trials with several seeds each: as many runs at once as one batch has, in the order of the seeds."""
        with contextlib.ExitStack() as stack, handle_signals() as stop:
            opened = [context for claim in group if (context := self._open_seeded(claim))]
            trials = [stack.enter_context(context) for context in opened]
            share = max(1, self.trials.settings.batch_runs // max(1, len(trials)))  # runs of each trial
            while runs := [run for trial in trials for run in trial.next_runs(share)]:
                self._train_seeds(runs)
                if self._stop_reason(stop):
                    break
            for trial in trials:
                trial.end()
                if trial.error:
                    self._fail(trial.claim, trial.error, retry=False)
        self.monitor.update()

    def _train_seeds(self, runs: Sequence[SeedRun]) -> None:
        def train(some: Sequence[SeedRun]) -> None:
            specs = [run.spec for run in some]
            train_runs(
                specs,
                self.scoring,
                self.store,
                self.display,
                lambda index, result: some[index].trial.record(some[index].seed, result),
            )

        try:
            train(runs)
        except (NotBatchableError, InvalidRunError):  # one by one, so that only the invalid trial fails
            for run in runs:
                if not run.trial.decided:
                    try:
                        train([run])
                    except InvalidRunError as error:
                        run.trial.error = str(error)

    def _open_seeded(self, claim: Claim) -> contextlib.AbstractContextManager[SeededTrial] | None:
        """Open a trial with several seeds; None if its values are invalid."""
        try:
            experiment = trial_experiment(self.trials.settings, claim.values)
        except HarnessError as error:
            self._fail(claim, str(error), retry=False)
            return None
        options, earlier = self._run_options(claim), self._earlier_run(claim)
        return SeededTrial.open(
            claim, experiment, earlier, self.trials, self.store, options, self._measured, self.display
        )

    def _run_spec(self, claim: Claim) -> RunSpec | None:
        """Return what to train; None if the values are invalid, or if the trial's earlier run has ended."""
        try:
            experiment = trial_experiment(self.trials.settings, claim.values)
        except HarnessError as error:
            self._fail(claim, str(error), retry=False)
            return None
        options = self._run_options(claim)
        if len(self.trials.settings.metrics) == 1:  # Optuna prunes by one metric
            options = replace(options, pruner=TrialPruner(self.trials, claim, experiment.train.epochs))
        run = self._earlier_run(claim)
        if run is None:
            return RunSpec(experiment, options)
        if self._record_ended(claim, run):
            return None
        try:
            resumable = find_resumable(self.store, run.info.run_id)
            return RunSpec(experiment, options, replace(resumable, claimed=True))
        except UnreachableError:
            raise
        except HarnessError as error:
            if claim.pruned is not None:  # the trial is pruned, so it needs no checkpoint
                self.store.add(run.info.run_id, claim.pruned, {}, {Tag.PRUNED: str(claim.pruned)})
                self._record_pruned(claim, run.info.run_id)
                return None
            self.display.message(f"trial {claim.number} is trained from the start: {error}")
            self.store.add(run.info.run_id, 0, {}, {Tag.TRIAL: f"{claim.number}, abandoned"})
            return RunSpec(experiment, options)

    def _run_options(self, claim: Claim) -> RunOptions:
        request, study, changed = self.request, self.trials.name, self.trials.changed
        tags = {Tag.STUDY: study, Tag.TRIAL: str(claim.number), **({Tag.CHANGED: changed} if changed else {})}
        return RunOptions(
            name=f"{study}-{claim.number}",
            kind=Kind.TRIAL,
            parent=self.study_run_id,
            tags={**request.tags, **tags},
            deadline=request.deadline,
            system_metrics=request.system_metrics,
            final="validation",
            allow_changes=bool(changed),  # the user has allowed them
            on_progress=self.monitor.on_progress,
        )

    def _earlier_run(self, claim: Claim) -> Run | None:
        """Return the run that an earlier process started for this trial, if any."""
        if not claim.requeued:
            return None
        runs = self.store.children(self.study_run_id, {Tag.TRIAL: str(claim.number)})
        return runs[0] if runs else None

    def _record_ended(self, claim: Claim, run: Run) -> bool:
        """Record the result of a run that ended before its process died. Returns False if the run can be resumed."""
        tags, status, pruned = run.data.tags, run.info.status, claim.pruned
        scored = f"validation/{self.trials.settings.metric}" in run.data.metrics
        # harness.epoch is the last thing that a run logs before its status.
        if status == "KILLED" and pruned is not None and tags.get(Tag.EPOCH) == str(pruned):
            self._record_pruned(claim, run.info.run_id)
            return True
        if scored and (status == "FINISHED" or (status == "FAILED" and Tag.DIVERGED in tags)):
            experiment = trial_experiment(self.trials.settings, claim.values)
            measured = self._measured(experiment, run.info.run_id, run.data.metrics, int(tags[Tag.EPOCH]))
            self.trials.complete(claim, run.info.run_id, measured, diverged=tags.get(Tag.DIVERGED))
            self.monitor.update()
            return True
        return False

    def _record_pruned(self, claim: Claim, run_id: str) -> None:
        self.trials.prune(claim, run_id)
        self.monitor.update()

    def _record(self, claim: Claim, result: RunResult) -> None:
        """Record the result of a trial's run in Optuna. A stopped run is not recorded: its trial can be resumed."""
        if not result.stopped and result.grid is not None:
            store_grid(claim.trial, self.store.root, f"epoch-{result.epoch:04d}.png", result.grid)
        if result.pruned:
            self._record_pruned(claim, result.run_id)
        elif not result.stopped:
            measured = self._measured(result.experiment, result.run_id, result.scores, result.epoch)
            diverged = result.reason if result.status == "FAILED" else None
            self.trials.complete(claim, result.run_id, measured, diverged=diverged)
            self.monitor.update()

    def _measured(
        self, experiment: Experiment, run_id: str, scores: Mapping[str, float], epochs: int
    ) -> dict[str, float]:
        """Return what the study measures of a trial that has ended."""
        return measure(
            self.trials.settings.measured,
            experiment,
            scores,
            images=self.scoring.splits.train,
            epochs=epochs,
            seconds=lambda: seconds_of(self.store.client.get_run(run_id)),
        )

    def _fail(self, claim: Claim, error: str, *, retry: bool = True) -> None:
        self.display.message(redact(f"trial {claim.number} failed: {error}")[:300])
        self.trials.fail(claim, error, retry=retry)
        self.monitor.update()

    def _groups(self, claims: Sequence[Claim]) -> list[list[Claim]]:
        """Group the trials that can be trained as one batch. A retried or resumed trial is trained alone."""
        groups: dict[object, list[Claim]] = {}
        for claim in claims:
            key: object = claim.number
            with contextlib.suppress(HarnessError):  # invalid values fail in `_run_spec`
                experiment = trial_experiment(self.trials.settings, claim.values)
                if claim.attempt == 1 and claim.pruned is None and self.scoring.matches(experiment):
                    key = batch_key(experiment)
            groups.setdefault(key, []).append(claim)
        return list(groups.values())
