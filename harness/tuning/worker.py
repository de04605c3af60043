"""The worker of a study: claims trials, trains them like `harness run`, and records their results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from harness.errors import HarnessError, UnreachableError, redact
from harness.experiment import Experiment
from harness.experiment.tags import Kind, Tag
from harness.gan.batched import batch_key
from harness.interrupts import StopRequest, handle_signals
from harness.quality.scoring import Scoring
from harness.runs.batched import NotBatchableError, RunSpec, run_batched
from harness.runs.display import Display
from harness.runs.options import RunOptions, RunResult
from harness.runs.prepare import prepare
from harness.runs.resumable import find_resumable
from harness.runs.session import STOP, RunSession
from harness.runs.train import resume_session, train
from harness.tracking import Store
from harness.tuning.request import TuneRequest
from harness.tuning.trials import Claim, Trials, trial_experiment

if TYPE_CHECKING:
    from harness.tracking import Run

POLL_INTERVAL = 0.5  # seconds between checks of the other processes


class Monitor(Protocol):
    """Receives the progress of a study."""

    def update(self) -> object:
        """Called after trials are claimed or end."""

    def on_progress(self) -> None:
        """Called after the first epoch that a trial trains."""


class NullMonitor:
    """A monitor for worker processes: their parent process shows the progress."""

    def update(self) -> None:
        """Do nothing."""

    def on_progress(self) -> None:
        """Do nothing."""


@dataclass
class TrialPruner:
    """Ends the run of a trial that the study's pruner prunes: a `harness.runs.options.Pruner`."""

    trials: Trials
    claim: Claim
    epochs: int
    run_id: str = ""
    epoch: int = 0
    pruned: bool = False

    def attach(self, run_id: str, epoch: int) -> None:
        """Receive the id of the trial's MLflow run, and the number of epochs trained so far."""
        self.run_id, self.epoch = run_id, epoch

    def report(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Report the study's metric to Optuna, unless an earlier process did and Optuna decided to prune."""
        self.epoch = epoch
        if epoch != self.claim.pruned:
            value = scores[f"quality/{self.trials.settings.metric}"]
            last = epoch == self.epochs
            self.pruned = self.trials.report(self.claim, self.run_id, epoch, value, last=last)

    def should_prune(self) -> bool:
        """Return whether the run ends after the epoch that was attached or reported last."""
        return self.pruned or self.epoch == self.claim.pruned


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
                claims = self.trials.claim(self.total, self.trials.settings.batch_runs)
                started = started or bool(claims)
                try:
                    if claims:
                        self.monitor.update()
                    for group in self._batchable_groups(claims):
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

    def _stop_reason(self, stop: StopRequest, *, started: bool = True) -> str | None:
        """Why no more trials start. Before the first one, only a signal or the end of the time stops a command."""
        deadline = self.request.deadline
        late = deadline.too_late_for("epoch", *STOP) if started else deadline.passed
        return stop.signal or ("max-time" if late else None)

    def _train(self, group: Sequence[Claim]) -> None:
        specs = [(claim, spec) for claim in group if (spec := self._run_spec(claim))]
        try:
            if len(specs) == 1:
                self._train_single(*specs[0])
            elif specs:
                self._train_batched(specs)
        except NotBatchableError:  # train one by one, so that only the invalid trial fails
            for claim, _ in specs:
                self._train([claim])
        except HarnessError:
            raise
        except Exception as error:  # a failed trial does not end the study
            for claim, _ in specs:
                if self.trials.holds(claim):
                    self._fail(claim, f"{type(error).__name__}: {error}")

    def _train_batched(self, specs: Sequence[tuple[Claim, RunSpec]]) -> None:
        def on_result(index: int, result: RunResult) -> None:
            self._record(specs[index][0], result)

        runs, splits = [spec for _, spec in specs], self.scoring.splits
        run_batched(runs, splits.train, splits.validation, self.scoring, self.store, self.display, on_result)

    def _train_single(self, claim: Claim, spec: RunSpec) -> None:
        if spec.resumable:
            opened = resume_session(spec.resumable, self.store, {}, spec.options, self.display, self.scoring)
        else:
            try:
                training, scoring = prepare(spec.experiment, self.display, self.scoring)
            except HarnessError as error:  # invalid values: a retry would fail, too
                self._fail(claim, str(error), retry=False)
                return
            opened = RunSession.start(training, scoring, self.store, spec.options, self.display)
        with handle_signals(), opened as session:
            result = train(session)
        self._record(claim, result)

    def _run_spec(self, claim: Claim) -> RunSpec | None:
        """Return what to train; None if the values are invalid, or if the trial's earlier run has ended."""
        try:
            experiment = trial_experiment(self.trials.settings, claim.values)
        except HarnessError as error:
            self._fail(claim, str(error), retry=False)
            return None
        options = self._run_options(claim, experiment)
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

    def _run_options(self, claim: Claim, experiment: Experiment) -> RunOptions:
        request, study, changed = self.request, self.trials.name, self.trials.changed
        tags = {Tag.STUDY: study, Tag.TRIAL: str(claim.number), **({Tag.CHANGED: changed} if changed else {})}
        return RunOptions(
            name=f"{study}-{claim.number}",
            kind=Kind.TRIAL,
            parent=self.study_run_id,
            tags={**request.tags, **tags},
            deadline=request.deadline,
            system_metrics=request.system_metrics,
            pruner=TrialPruner(self.trials, claim, experiment.train.epochs),
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
        score = run.data.metrics.get(f"validation/{self.trials.settings.metric}")
        # harness.epoch is the last thing that a run logs before its status.
        if status == "KILLED" and pruned is not None and tags.get(Tag.EPOCH) == str(pruned):
            self._record_pruned(claim, run.info.run_id)
            return True
        if score is not None and (status == "FINISHED" or (status == "FAILED" and Tag.DIVERGED in tags)):
            self.trials.complete(claim, run.info.run_id, score, diverged=tags.get(Tag.DIVERGED))
            self.monitor.update()
            return True
        return False

    def _record_pruned(self, claim: Claim, run_id: str) -> None:
        self.trials.prune(claim, run_id)
        self.monitor.update()

    def _record(self, claim: Claim, result: RunResult) -> None:
        """Record the result of a trial's run in Optuna. A stopped run is not recorded: its trial can be resumed."""
        if result.pruned:
            self._record_pruned(claim, result.run_id)
        elif not result.stopped:
            score = result.scores[f"validation/{self.trials.settings.metric}"]
            diverged = result.reason if result.status == "FAILED" else None
            self.trials.complete(claim, result.run_id, score, diverged=diverged)
            self.monitor.update()

    def _fail(self, claim: Claim, error: str, *, retry: bool = True) -> None:
        self.display.message(redact(f"trial {claim.number} failed: {error}")[:300])
        self.trials.fail(claim, error, retry=retry)
        self.monitor.update()

    def _batchable_groups(self, claims: Sequence[Claim]) -> list[list[Claim]]:
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
