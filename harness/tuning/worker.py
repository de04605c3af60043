"""One process at work on a study: it claims trials, trains them as `harness run` does, and records how they ended."""

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
from harness.tuning.trials import Claim, Trials, experiment_of

if TYPE_CHECKING:
    from harness.tracking import Run

PAUSE = 0.5  # seconds between looks at what other processes are doing


class Monitor(Protocol):
    """What is told how a study advances."""

    def update(self) -> object:
        """Trials were claimed, or have ended."""

    def on_progress(self) -> None:
        """A trial was trained its first epoch by this command."""


class NullMonitor:
    """A monitor for processes whose parent watches the study."""

    def update(self) -> None:
        """Do nothing."""

    def on_progress(self) -> None:
        """Do nothing."""


@dataclass
class TrialPruner:
    """Ends the run of a trial where the study's pruner says so: `harness.runs.options.Pruner`."""

    trials: Trials
    claim: Claim
    epochs: int
    run_id: str = ""
    epoch: int = 0
    pruned: bool = False

    def attach(self, run_id: str, epoch: int) -> None:
        """Take note of the trial's MLflow run, and of the epochs that it was trained so far."""
        self.run_id, self.epoch = run_id, epoch

    def report(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Report the study's metric to Optuna, unless a process that died has done so and was told to prune."""
        self.epoch = epoch
        if epoch != self.claim.pruned:
            value = scores[f"quality/{self.trials.settings.metric}"]
            last = epoch == self.epochs
            self.pruned = self.trials.report(self.claim, self.run_id, epoch, value, last=last)

    def should_prune(self) -> bool:
        """Return whether the run ends with the epoch that was attached or reported last."""
        return self.pruned or self.epoch == self.claim.pruned


@dataclass
class Worker:
    """Trains trials of a study until it has `request.trials` of them.

    Attributes:
        scoring: images and judge, which all trials share that can.
        monitor: told how the study advances.
    """

    trials: Trials
    store: Store
    request: TuneRequest
    scoring: Scoring
    display: Display
    monitor: Monitor

    @property
    def total(self) -> int:
        """How many trials the study is to have."""
        assert self.request.trials is not None
        return self.request.trials

    @property
    def parent(self) -> str:
        """Id of the study's MLflow run."""
        assert self.trials.parent is not None
        return self.trials.parent

    def work(self) -> str | None:
        """Train until the study has all its trials. Returns what stopped it before: SIGINT, SIGTERM or max-time.

        Raises:
            HarnessError: if tracking or storage fail. The trials that were being trained can be resumed.
        """
        with handle_signals() as stop:
            started = False
            while True:
                if stopped := self._stopped(stop, started=started):
                    return stopped if self.trials.open(self.total) else None
                claims = self.trials.claim(self.total, self.trials.settings.batch_runs)
                started = started or bool(claims)
                try:
                    if claims:
                        self.monitor.update()
                    for group in self._alike(claims):
                        self._train(group)
                        if self._stopped(stop):
                            break
                finally:
                    for claim in claims:  # those that have ended are no longer held
                        self.trials.release(claim)
                if not claims:
                    if not self.trials.open(self.total):
                        return None
                    time.sleep(PAUSE)  # others are at work; one that dies leaves its trial to us

    def _stopped(self, stop: StopRequest, *, started: bool = True) -> str | None:
        """Why no other trial starts. The first of a command always does, while there is any time: all must advance."""
        deadline = self.request.deadline
        late = deadline.near("epoch", *STOP) if started else deadline.passed
        return stop.signal or ("max-time" if late else None)

    def _train(self, group: Sequence[Claim]) -> None:
        specs = [(claim, spec) for claim in group if (spec := self._run_spec(claim))]
        try:
            if len(specs) == 1:
                self._train_single(*specs[0])
            elif specs:
                self._train_batched(specs)
        except NotBatchableError:  # one by one, so that the trial whose values cannot be is the one that fails
            for claim, _ in specs:
                self._train([claim])
        except HarnessError:
            raise
        except Exception as error:  # a trial's failure is a result; the others are still trained
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
            except HarnessError as error:  # values that do not go together; trying again would change nothing
                self._fail(claim, str(error), again=False)
                return
            opened = RunSession.start(training, scoring, self.store, spec.options, self.display)
        with handle_signals(), opened as session:
            result = train(session)
        self._record(claim, result)

    def _run_spec(self, claim: Claim) -> RunSpec | None:
        """What to train; None where the trial has ended by now: its values cannot be, or its run had just ended."""
        try:
            experiment = experiment_of(self.trials.settings, claim.values)
        except HarnessError as error:
            self._fail(claim, str(error), again=False)
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
            if claim.pruned is not None:  # what is missing cannot be made any more
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
            parent=self.parent,
            tags={**request.tags, **tags},
            deadline=request.deadline,
            system_metrics=request.system_metrics,
            pruner=TrialPruner(self.trials, claim, experiment.train.epochs),
            final="validation",
            allow_changes=bool(changed),  # the user has allowed them
            on_progress=self.monitor.on_progress,
        )

    def _earlier_run(self, claim: Claim) -> Run | None:
        """The run of a trial that another process has started before us."""
        if not claim.again:
            return None
        runs = self.store.children(self.parent, {Tag.TRIAL: str(claim.number)})
        return runs[0] if runs else None

    def _record_ended(self, claim: Claim, run: Run) -> bool:
        """End a trial whose process died after its run had ended. Returns False for a run that can be resumed."""
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
        """Tell Optuna how a trial's run has ended; one that was stopped is released instead, to be resumed."""
        if result.pruned:
            self._record_pruned(claim, result.run_id)
        elif not result.stopped:
            score = result.scores[f"validation/{self.trials.settings.metric}"]
            diverged = result.reason if result.status == "FAILED" else None
            self.trials.complete(claim, result.run_id, score, diverged=diverged)
            self.monitor.update()

    def _fail(self, claim: Claim, error: str, *, again: bool = True) -> None:
        self.display.message(redact(f"trial {claim.number} failed: {error}")[:300])
        self.trials.fail(claim, error, again=again)
        self.monitor.update()

    def _alike(self, claims: Sequence[Claim]) -> list[list[Claim]]:
        """Group the trials that can share one program; one that was tried before is trained alone."""
        groups: dict[object, list[Claim]] = {}
        for claim in claims:
            key: object = claim.number
            with contextlib.suppress(HarnessError):  # values that cannot be fail when their turn comes
                experiment = experiment_of(self.trials.settings, claim.values)
                if claim.attempt == 1 and claim.pruned is None and self.scoring.matches(experiment):
                    key = batch_key(experiment)
            groups.setdefault(key, []).append(claim)
        return list(groups.values())
