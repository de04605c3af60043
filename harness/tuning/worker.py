"""One process at work on a study: it takes trials, trains them as `run` does, and tells how they ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UnreachableError, redact
from harness.experiment.tags import Kind, Tag
from harness.gan.batched import shape
from harness.interrupts import Deadline, StopRequest, handle_signals
from harness.quality.scoring import Scoring
from harness.runs import train
from harness.runs.batched import NotBatchableError, RunSpec, run_batched
from harness.runs.session import Display, RunOptions, RunResult
from harness.tracking import Store
from harness.tuning.trials import Claim, Trials, experiment_of

if TYPE_CHECKING:
    from harness.tracking import Run

PAUSE = 0.5  # seconds between looks at what others are doing


@dataclass
class Worker:
    """total: how many trials the study is to have. deadline: when the command has to have ended.

    scoring: images and judge, which all trials share that can. ended: called after every trial that was told.
    claimed: called when trials were taken, before they are trained.
    progressed: called when a trial has been trained an epoch.
    """

    trials: Trials
    store: Store
    parent: str
    display: Display
    total: int
    scoring: Scoring
    batch_runs: int = 1
    deadline: Deadline = field(default_factory=Deadline)
    tags: Mapping[str, str] = field(default_factory=dict)
    system_metrics: bool = True
    ended: Callable[[], object] = lambda: None
    progressed: Callable[[], None] = lambda: None
    claimed: Callable[[], object] = lambda: None

    def work(self) -> str | None:
        """Train until the study has all its trials; returns what stopped it before: SIGINT, SIGTERM or max-time.

        Raises HarnessError where tracking or storage fail; what was being trained then waits to be gone on with.
        """
        with handle_signals() as stop:
            begun = False
            while True:
                if stopped := self._stopped(stop, begun=begun):
                    return stopped if self.trials.open(self.total) else None
                claims = self.trials.claim(self.total, self.batch_runs)
                begun = begun or bool(claims)
                try:
                    if claims:
                        self.claimed()
                    for group in self._alike(claims):
                        self._train(group)
                        if self._stopped(stop):
                            break
                finally:
                    for claim in claims:  # those that were told are no longer held
                        self.trials.release(claim)
                if not claims:
                    if not self.trials.open(self.total):
                        return None
                    time.sleep(PAUSE)  # others are at work; one that dies leaves its trial to us

    def _stopped(self, stop: StopRequest, *, begun: bool = True) -> str | None:
        """Why no other trial is begun. The first of a command always is, while there is any time: all must advance."""
        late = self.deadline.near("epoch", "stop", "finish") if begun else self.deadline.passed
        return stop.signal or ("max-time" if late else None)

    def _train(self, group: Sequence[Claim]) -> None:
        plans = [(claim, plan) for claim in group if (plan := self._plan(claim))]
        try:
            if len(plans) == 1:
                self._train_single(*plans[0])
            elif plans:
                self._train_batched(plans)
        except NotBatchableError:  # whichever of them cannot be at all is told so alone
            for claim, _ in plans:
                self._train([claim])
        except HarnessError:
            raise
        except Exception as error:  # a trial's failure is a result; the others are still trained
            for claim, _ in plans:
                if self.trials.holds(claim):
                    self._failed(claim, f"{type(error).__name__}: {error}")

    def _train_batched(self, plans: Sequence[tuple[Claim, RunSpec]]) -> None:
        def concluded(index: int, outcome: RunResult) -> None:
            self._settle(plans[index][0], outcome)

        members, splits = [plan for _, plan in plans], self.scoring.splits
        run_batched(members, splits.train, splits.validation, self.scoring, self.store, self.display, concluded)

    def _train_single(self, claim: Claim, plan: RunSpec) -> None:
        if plan.known:
            outcome = train.go_on(plan.known, self.store, {}, plan.options, self.display, self.scoring)
        else:
            try:
                training, scoring = train.prepare(plan.experiment, self.display, self.scoring)
            except HarnessError as error:  # values that do not go together; trying again would change nothing
                self._failed(claim, str(error), again=False)
                return
            outcome = train.carry_out(training, scoring, self.store, plan.options, self.display)
        self._settle(claim, outcome)

    def _plan(self, claim: Claim) -> RunSpec | None:
        """What to train; None where the trial is told already: its values cannot be, or its run had just ended."""
        number = claim.number
        try:
            experiment = experiment_of(self.trials.settings, claim.values)
        except HarnessError as error:
            self._failed(claim, str(error), again=False)
            return None
        metric = f"quality/{self.trials.settings.metric}"

        def pruned(run_id: str, epoch: int, metrics: Mapping[str, float]) -> bool:
            last = epoch == experiment.train.epochs
            return self.trials.report(claim, run_id, epoch, metrics[metric], last=last)

        changed = self.trials.changed  # which the user has allowed
        marked = {Tag.CHANGED: changed} if changed else {}
        options = RunOptions(
            name=f"{self.trials.name}-{number}",
            kind=Kind.TRIAL,
            parent=self.parent,
            tags={**self.tags, Tag.STUDY: self.trials.name, Tag.TRIAL: str(number), **marked},
            deadline=self.deadline,
            system_metrics=self.system_metrics,
            pruned=pruned,
            final="validation",
            allow_changes=bool(changed),
            progressed=self.progressed,
        )
        run = self._begun(claim)
        if run is None:
            return RunSpec(experiment, options)
        if self._settled(claim, run):
            return None
        options = replace(options, pruned_at=claim.pruned)
        try:
            known = train.find_resumable(self.store, run.info.run_id)
            return RunSpec(experiment, options, replace(known, claimed=True))
        except UnreachableError:
            raise
        except HarnessError as error:
            if claim.pruned is not None:  # what is missing cannot be made any more
                self.store.add(run.info.run_id, claim.pruned, {}, {Tag.PRUNED: str(claim.pruned)})
                self._settle_pruned(claim, run.info.run_id)
                return None
            self.display.message(f"trial {number} is trained anew: {error}")
            self.store.add(run.info.run_id, 0, {}, {Tag.TRIAL: f"{number}, abandoned"})
            return RunSpec(experiment, options)

    def _begun(self, claim: Claim) -> Run | None:
        """The run of a trial that somebody has begun before us."""
        if not claim.again:
            return None
        runs = self.store.children(self.parent, {Tag.TRIAL: str(claim.number)})
        return runs[0] if runs else None

    def _settled(self, claim: Claim, run: Run) -> bool:
        """Tell a trial whose process died between the end of its run and telling. One that died before is resumed."""
        tags, status, number = run.data.tags, run.info.status, claim.pruned
        score = run.data.metrics.get(f"validation/{self.trials.settings.metric}")
        # Tag.EPOCH is the last thing that a run logs before its status.
        if status == "KILLED" and number is not None and tags.get(Tag.EPOCH) == str(number):
            self._settle_pruned(claim, run.info.run_id)
            return True
        if score is not None and (status == "FINISHED" or (status == "FAILED" and Tag.DIVERGED in tags)):
            self.trials.complete(claim, run.info.run_id, score, diverged=tags.get(Tag.DIVERGED))
            self.ended()
            return True
        return False

    def _settle_pruned(self, claim: Claim, run_id: str) -> None:
        self.trials.prune(claim, run_id)
        self.ended()

    def _settle(self, claim: Claim, outcome: RunResult) -> None:
        if outcome.stopped == "pruned":
            self.trials.prune(claim, outcome.run_id)
        elif outcome.stopped:
            return  # it is released
        else:
            score = outcome.scores[f"validation/{self.trials.settings.metric}"]
            diverged = outcome.reason if outcome.status == "FAILED" else None
            self.trials.complete(claim, outcome.run_id, score, diverged=diverged)
        self.ended()

    def _failed(self, claim: Claim, error: str, *, again: bool = True) -> None:
        self.display.message(redact(f"trial {claim.number} failed: {error}")[:300])
        self.trials.fail(claim, error, again=again)
        self.ended()

    def _alike(self, claims: Sequence[Claim]) -> list[list[Claim]]:
        """Those that can share one program, together; one that was tried before goes alone."""
        groups: dict[object, list[Claim]] = {}
        for claim in claims:
            key: object = claim.number
            with contextlib.suppress(HarnessError):  # values that cannot be are told so when their turn comes
                experiment = experiment_of(self.trials.settings, claim.values)
                if claim.attempt == 1 and claim.pruned is None and self.scoring.serves(experiment):
                    key = shape(experiment)
            groups.setdefault(key, []).append(claim)
        return list(groups.values())
