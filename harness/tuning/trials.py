"""The trials of a study, shared by several processes: claimed, reported to Optuna, and requeued when a process dies.

A trial that is being trained is RUNNING and names its process in an attribute. When that process has stopped or died,
the trial becomes WAITING again, and the next process that claims it resumes from its checkpoint. In a race, a trial
that has the scores of its seeds stays RUNNING, without a process, until it drops out or the race ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, Trial, TrialState

from harness.errors import HarnessError, redact
from harness.experiment.scores import Direction
from harness.experiment.tags import Tag, TrialAttribute
from harness.tracking.process_tags import this_process
from harness.tuning.goals import direction_of
from harness.tuning.held_trials import MAX_ATTEMPTS, Claim, HeldTrials
from harness.tuning.race import race_state
from harness.tuning.sampler import ask
from harness.tuning.seed_scores import aggregate, can_no_longer_win
from harness.tuning.settings import baseline_values
from harness.tuning.storage import storage_errors
from harness.tuning.trial_values import best_trial, is_counted, is_racing, seed_scores

RETRY_DELAYS = (1.0, 3.0)  # seconds between tries of a storage that fails


class Trials(HeldTrials):
    """The trials of one study, from `Trials.create` or `Trials.find`.

    All methods raise HarnessError if the storage fails, or if another process has taken over a trial.
    """

    # Claims ------------------------------------------------------------------------------------------------------

    def claim(self, total: int, at_most: int = 1) -> list[Claim]:
        """Claim trials to train, while fewer than `total` have ended or are being trained.

        Requeued trials come first, and are not claimed together with new ones.

        Args:
            total: Requested number of trials.
            at_most: Number of trials to claim at most.
        """
        claims: list[Claim] = []
        with self.locked(), storage_errors():
            trials = self.all()
            if not trials:
                self.study.enqueue_trial(baseline_values(self.settings), user_attrs={TrialAttribute.CUSTOM: True})
            if self._reap_stale_trials(trials) or (self.settings.race and self._advance_race(trials, total)):
                trials = self.all()
            requeued = {trial.number for trial in trials if _is_requeued(trial)}
            only_requeued = bool(requeued)
            taken = sum(is_counted(trial) for trial in trials if trial.state != TrialState.WAITING)
            while len(claims) < at_most and taken < total and (requeued or not only_requeued):
                trial = ask(self.study, self.settings.search)
                taken += 1
                requeued.discard(trial.number)
                found = self._storage.get_trial(self._id(trial.number))
                if self._is_surplus(found, total):
                    trial.set_user_attr(TrialAttribute.SURPLUS, True)
                    self.study.tell(trial, state=TrialState.FAIL)
                    break
                if changed := self.changed:
                    trial.set_user_attr(Tag.CHANGED, changed)
                trial.set_user_attr(TrialAttribute.PROCESS, {**this_process(), "beat": time.time()})
                claims.append(self._hold(trial, found))
        return claims

    def _hold(self, trial: Trial, found: FrozenTrial) -> Claim:
        attributes, settings = found.user_attrs, self.settings
        claim = Claim(
            trial,
            trial.params,
            attempt=int(attributes.get(TrialAttribute.ATTEMPT, 1)),
            requeued=TrialAttribute.AGAIN in attributes,
            pruned=attributes.get(TrialAttribute.PRUNED),
            seeds=int(attributes.get(TrialAttribute.NEEDED_SEEDS, 1)) if settings.race else settings.seeds,
            scores=seed_scores(found),
            measured={int(seed): each for seed, each in attributes.get(TrialAttribute.SEED_MEASURED, {}).items()},
            given_up=TrialAttribute.GIVEN_UP in attributes,
        )
        self._held[trial.number] = claim
        return claim

    def is_incomplete(self, total: int) -> bool:
        """Whether fewer than `total` trials have ended."""
        return sum(is_counted(trial) for trial in self.all() if trial.state.is_finished()) < total

    def _is_surplus(self, trial: FrozenTrial, total: int) -> bool:
        """Whether processes of other hosts have claimed the last trials at the same moment."""
        if "fixed_params" in trial.system_attrs or TrialAttribute.AGAIN in trial.user_attrs:
            return False
        busy = [other.number for other in self.all() if is_counted(other) and other.state != TrialState.WAITING]
        return len([number for number in busy if number < trial.number]) >= total

    # Results -----------------------------------------------------------------------------------------------------

    def report(self, claim: Claim, run_id: str, epoch: int, value: float, *, last: bool = False) -> bool:
        """Report an intermediate score; return whether to prune the trial. A storage that fails is tried again.

        Args:
            claim: The trial.
            run_id: Id of its MLflow run.
            epoch: The epoch.
            value: The score.
            last: Whether this is the last epoch, after which a trial is not pruned.
        """
        for delay in RETRY_DELAYS:
            try:
                return self._report(claim, run_id, epoch, value, last)
            except HarnessError:
                time.sleep(delay)
        return self._report(claim, run_id, epoch, value, last)

    def _report(self, claim: Claim, run_id: str, epoch: int, value: float, last: bool) -> bool:
        with storage_errors():
            found = self._storage.get_trial(self._id(claim.number))
            if found.user_attrs.get(TrialAttribute.RUN_ID) != run_id:
                claim.trial.set_user_attr(TrialAttribute.RUN_ID, run_id)
            if epoch not in found.intermediate_values:  # it is there if the epoch is repeated after a crash
                claim.trial.report(value, epoch)
            if last or not claim.trial.should_prune():
                return False
            claim.trial.set_user_attr(TrialAttribute.PRUNED, epoch)  # a repeated report would not be pruned
            return True

    def complete(
        self, claim: Claim, run_id: str, value: float | Mapping[str, float], *, diverged: str | None = None
    ) -> None:
        """End a trial.

        Args:
            claim: The trial.
            run_id: Id of its MLflow run.
            value: Its score, or its metrics by name, with those of the constraints.
            diverged: Why it diverged, if it did.
        """
        settings = self.settings
        measured = value if isinstance(value, Mapping) else {settings.metric: value}
        with storage_errors():
            if diverged:
                claim.trial.set_user_attr(TrialAttribute.DIVERGED, diverged)
            if len(settings.measured) > 1:
                claim.trial.set_user_attr(TrialAttribute.MEASURED, dict(measured))
            known = self._storage.get_trial(self._id(claim.number)).constraints if settings.constraints else {}
            for limit in settings.limits:
                if str(limit) not in known:  # a process that died may have set it
                    claim.trial.set_constraint(str(limit), limit.violation(measured[limit.metric]))
            self._tell(claim, run_id, TrialState.COMPLETE, [measured[metric] for metric in settings.metrics])

    def prune(self, claim: Claim, run_id: str) -> None:
        """End a pruned trial."""
        with storage_errors():
            self._tell(claim, run_id, TrialState.PRUNED)

    def fail(self, claim: Claim, error: str, *, retry: bool) -> None:
        """End a failed trial. retry: enqueue its values as a new trial, unless this was the last attempt."""
        with self.locked(), storage_errors():
            claim.trial.set_user_attr(TrialAttribute.ERROR, redact(error)[:500])
            if retry and claim.attempt < MAX_ATTEMPTS:
                attributes = {TrialAttribute.RETRY_OF: claim.number, TrialAttribute.ATTEMPT: claim.attempt + 1}
                if self.settings.race:
                    attributes[TrialAttribute.NEEDED_SEEDS] = claim.seeds
                self.study.enqueue_trial(dict(claim.values), user_attrs=attributes)
                claim.trial.set_user_attr(TrialAttribute.RETRIED, True)
            self._tell(claim, None, TrialState.FAIL)

    # Seeds -------------------------------------------------------------------------------------------------------

    def record_seed(self, claim: Claim, run_id: str, seed: int, measured: Mapping[str, float]) -> None:
        """Record the metrics of one seed of a trial, by name. run_id: id of the trial's MLflow run."""
        claim.scores[seed] = measured[self.settings.metric]
        claim.measured[seed] = dict(measured)
        with storage_errors():
            if len(self.settings.measured) > 1:
                by_seed = {str(each): values for each, values in claim.measured.items()}
                claim.trial.set_user_attr(TrialAttribute.SEED_MEASURED, by_seed)
            claim.trial.set_user_attr(TrialAttribute.RUN_ID, run_id)
            stored = {str(seed): claim.scores[seed] for seed in sorted(claim.scores)}
            claim.trial.set_user_attr(TrialAttribute.SEED_SCORES, stored)

    def should_give_up(self, claim: Claim) -> bool:
        """Whether to give a trial up between seeds: see `seed_scores.can_no_longer_win`."""
        if claim.given_up:
            return True
        best = best_trial(self.study)
        several = len(self.settings.metrics) > 1
        if self.settings.pruner == "none" or self.settings.race or several or best is None or len(claim.scores) < 2:
            return False
        of_best = {seed: score for seed, score in seed_scores(best).items() if seed in claim.scores}
        if can_no_longer_win(claim.scores, of_best, self.settings.direction):
            with storage_errors():  # the best trial may be another one after a crash
                claim.trial.set_user_attr(TrialAttribute.GIVEN_UP, len(claim.scores))
            claim.given_up = True
        return claim.given_up

    def complete_seeds(self, claim: Claim, run_id: str, *, diverged: str | None = None) -> None:
        """End a trial that has the scores of its seeds; in a race, keep it until the race ends."""
        if not self.settings.race:
            names = self.settings.measured
            by_name = {name: {seed: values[name] for seed, values in claim.measured.items()} for name in names[1:]}
            first = {self.settings.metric: self._value(claim.scores)}
            others = {name: self._value(scores, direction_of(name)) for name, scores in by_name.items()}
            self.complete(claim, run_id, {**first, **others}, diverged=diverged)
            return
        with storage_errors():
            if diverged:
                claim.trial.set_user_attr(TrialAttribute.DIVERGED, diverged)
            claim.trial.set_user_attr(TrialAttribute.RUN_ID, run_id)
            claim.trial.set_user_attr(TrialAttribute.RACING, self._value(claim.scores))
            claim.trial.set_user_attr(TrialAttribute.PROCESS, None)
        self._held.pop(claim.number, None)

    def _value(self, scores: Mapping[int, float], direction: Direction | None = None) -> float:
        """The value of a trial with these scores by seed."""
        ordered = [scores[seed] for seed in sorted(scores)]
        return aggregate(ordered, self.settings.aggregate, direction or self.settings.direction)

    def _advance_race(self, trials: Sequence[FrozenTrial], total: int) -> bool:
        """If all trials have the scores of their seeds, prune those that drop out, and requeue those that stay.

        Returns:
            Whether it did.
        """
        counted = [trial for trial in trials if is_counted(trial)]
        racing = {trial.number: trial for trial in counted if is_racing(trial)}
        busy = any(not trial.state.is_finished() and trial.number not in racing for trial in trials)
        if not racing or busy or len(counted) < total:
            return False
        settings = self.settings
        scores = {trial.number: list(seed_scores(trial).values()) for trial in counted if seed_scores(trial)}
        finished = {trial.number for trial in counted if trial.state.is_finished()}
        now = race_state(scores, finished, settings.seeds, settings.aggregate, settings.direction)
        for number, trial in racing.items():
            if number not in now.survivors:
                self.study.tell(number, state=TrialState.PRUNED)
            elif now.ended:
                self.study.tell(number, self._value(seed_scores(trial)))
            elif len(scores[number]) < now.seeds:
                self._set(number, TrialAttribute.NEEDED_SEEDS, now.seeds)
                self._set(number, TrialAttribute.RACING, None)
                self._requeue(number)
        return True

    # Stops -------------------------------------------------------------------------------------------------------

    def release(self, claim: Claim) -> None:
        """Requeue a trial that was stopped. If the storage fails, the next `claim` of any process does it."""
        if self._held.pop(claim.number, None):
            with contextlib.suppress(HarnessError), storage_errors():
                self._requeue(claim.number)

    def _tell(self, claim: Claim, run_id: str | None, state: TrialState, values: Sequence[float] | None = None) -> None:
        if run_id:
            claim.trial.set_user_attr(TrialAttribute.RUN_ID, run_id)
        self.study.tell(claim.trial, values, state=state)
        self._held.pop(claim.number, None)


def _is_requeued(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.WAITING and TrialAttribute.AGAIN in trial.user_attrs
