"""A study by population-based training: its trials are trained side by side, and learn from each other between epochs.

    PopulationWorker.work: claim all trials -> run_batched -> record the results
    between epochs:        Population.evolve copies weights and changes values, Population.save stores all members

All checkpoints of an epoch are linked into one folder, which is renamed when it is complete. A study that was killed
resumes all its members from there, at the same epoch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.experiment.dimensions import Value
from harness.experiment.tags import TrialAttribute
from harness.gan import Training, checkpoints
from harness.interrupts import handle_signals
from harness.quality import ScoreSet
from harness.runs.artifacts import BestEpoch
from harness.runs.batched import NotBatchableError, Reports, RunSpec, Sessions, run_batched
from harness.runs.options import RunResult
from harness.runs.resumable import ResumableRun, find_resumable
from harness.tuning import pbt
from harness.tuning.held_trials import Claim
from harness.tuning.pruning import TrialPruner
from harness.tuning.shared_study import study_folder
from harness.tuning.trial_values import is_counted, trial_experiment
from harness.tuning.trials import Trials
from harness.tuning.worker import Worker


@dataclass
class Population:
    """The members of a population while they are trained. See `harness.runs.batched.Population`.

    Attributes:
        trials: The trials of the study.
        claims: The trials that are members, in the order of the runs.
        folder: Where the checkpoints of all members are linked.
        lineages: By number of the member, the epochs after which it copied, each with the member that it copied.
        values: By number of the member, the values that it was trained with itself, by path and first epoch.
    """

    trials: Trials
    claims: Sequence[Claim]
    folder: Path
    lineages: dict[int, pbt.Lineage] = field(default_factory=dict)
    values: dict[int, dict[str, dict[int, float]]] = field(default_factory=dict)
    _members: dict[Training, Claim] = field(default_factory=dict)

    @property
    def batch_runs(self) -> int:
        """Number of members that are trained as one batch."""
        return self.trials.settings.batch_runs

    def start(self, sessions: Sessions) -> None:
        """Set the first values of new members."""
        self._members = dict(zip(sessions, self.claims, strict=True))
        epochs = {training.epoch for training in sessions}
        if len(epochs) > 1:
            raise HarnessError(
                f"study {self.trials.name}: its members are at different epochs, and {self.folder} is missing: "
                "start a new study with --study NEW"
            )
        for training, claim in self._members.items():
            self._restore(claim, training.epoch)
            if training.epoch == 0:
                self._set_values(training, claim, claim.values)
        if epochs == {0}:
            self._link(sessions, 0)

    def evolve(self, sessions: Sessions, reports: Reports, scores: Mapping[Training, ScoreSet]) -> bool:
        """Let members copy better ones and change their values. Returns whether weights were copied."""
        settings, epoch = self.trials.settings, reports[0][1].epoch
        last = epoch >= reports[0][0].experiment.train.epochs
        broken = {self._members[training].number for training, report in reports if report.diverged}
        if scores and epoch % settings.perturb_every == 0 and not last:
            named = {
                self._members[training].number: each.metrics("quality")[f"quality/{settings.metric}"]
                for training, each in scores.items()
            }
            parents = pbt.choose_parents(named, broken, settings.direction, settings.seed, epoch)
        else:
            healthy = {self._members[training].number for training, _ in reports} - broken
            parents = pbt.any_parents(healthy, broken, settings.seed, epoch)
        of_number = {claim.number: training for training, claim in self._members.items()}
        for number, parent in parents.items():
            training = of_number[number]
            sessions[training].copy_from(sessions[of_number[parent]])
            self.lineages[number].append((epoch, parent))
            if not last:
                values = training.schedule.values(epoch)
                near = pbt.explore(values, settings.search.space, settings.seed, epoch, number)
                self._set_values(training, self._members[training], near)
            self._members[training].trial.set_user_attr(TrialAttribute.PARENTS, self.lineages[number])
        for training, claim in self._members.items():
            parent = parents.get(claim.number, claim.number)
            sessions[training].run_log.metrics(epoch, {"population/parent": parent})
        return bool(parents)

    def _set_values(self, training: Training, claim: Claim, values: Mapping[str, Value]) -> None:
        """Let a member use these values from the next epoch on, if they are valid together."""
        numbers = {path: float(value) for path, value in values.items() if isinstance(value, int | float)}
        with contextlib.suppress(HarnessError):
            training.experiment.with_values({"schedule": {}, **numbers})
            training.schedule.set_from(training.epoch + 1, numbers)
        own = self.values[claim.number]
        for path, value in training.schedule.values(training.epoch + 1).items():
            own.setdefault(path, {})[training.epoch + 1] = value
        claim.trial.set_user_attr(TrialAttribute.SCHEDULE, _with_text_keys(training.schedule.changes))
        claim.trial.set_user_attr(TrialAttribute.VALUES, _with_text_keys(own))

    def _restore(self, claim: Claim, trained: int) -> None:
        """Read what an earlier process has stored about a member, up to its last epoch."""
        stored = claim.trial.user_attrs
        parents = stored.get(TrialAttribute.PARENTS, [])
        self.lineages[claim.number] = [(int(epoch), int(parent)) for epoch, parent in parents if int(epoch) <= trained]
        self.values[claim.number] = {
            path: {int(epoch): value for epoch, value in each.items() if int(epoch) <= trained + 1}
            for path, each in stored.get(TrialAttribute.VALUES, {}).items()
        }

    # Checkpoints -------------------------------------------------------------------------------------------------

    def save(self, sessions: Sessions) -> None:
        """Link the checkpoints of all members into the folder, if all are saved at the same epoch."""
        epoch = next(iter(sessions)).epoch
        if all(session.checkpoints.has_saved(epoch) for session in sessions.values()):
            self._link(sessions, epoch)

    def _link(self, sessions: Sessions, epoch: int) -> None:
        complete = self.folder / f"epoch-{epoch:06d}"
        if complete.exists():
            return
        fresh = self.folder / "incomplete"
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            for training, session in sessions.items():
                for name in ("last", "best"):
                    file = session.run_log.folder / "checkpoints" / f"{name}.pt"
                    if file.exists():
                        _link_or_copy(file, fresh / f"{self._members[training].number}-{name}.pt")
            fresh.replace(complete)
        except OSError as error:
            raise HarnessError(f"cannot write {fresh}: {error.strerror or error}") from error
        for older in self.folder.glob("epoch-*"):
            if older != complete:
                shutil.rmtree(older, ignore_errors=True)

    def stored(self, resumable: ResumableRun, number: int) -> ResumableRun:
        """Return a run to resume from the last epoch that all members have saved."""
        saved = max(self.folder.glob("epoch-*"), default=None)
        if saved is None:
            return resumable
        checkpoint = checkpoints.load(saved / f"{number}-last.pt")
        best = None if checkpoint.score is None else checkpoints.load(saved / f"{number}-best.pt")
        return replace(resumable, checkpoint=checkpoint, best=BestEpoch.of(best), best_checkpoint=best)


class PopulationWorker(Worker):
    """Trains all trials of a study as one population."""

    def _claim(self) -> list[Claim]:
        """Claim all members that have not ended; none while another process holds one of them."""
        claims: list[Claim] = []
        while more := self.trials.claim(self.total, self.total):
            claims += more
        ended = sum(is_counted(trial) for trial in self.trials.all() if trial.state.is_finished())
        if len(claims) + ended < self.total:
            for claim in claims:
                self.trials.release(claim)
            return []
        return claims

    def _groups(self, claims: Sequence[Claim]) -> list[list[Claim]]:
        return [list(claims)]

    def _train(self, group: Sequence[Claim]) -> None:
        """Train all members, from the last epoch that all of them have saved."""
        folder = study_folder(self.store.root, self.trials.name) / "population"
        specs: list[tuple[Claim, RunSpec]] = []
        population = Population(self.trials, (), folder)
        for claim in group:
            if spec := self._member_spec(claim, population):
                specs.append((claim, spec))
        population.claims = [claim for claim, _ in specs]
        if not specs:
            return

        def on_result(index: int, result: RunResult) -> None:
            self._record(specs[index][0], result)

        splits = self.scoring.splits
        with handle_signals():
            try:
                run_batched(
                    [spec for _, spec in specs],
                    splits.train,
                    splits.validation,
                    self.scoring,
                    self.store,
                    self.display,
                    on_result,
                    population,
                )
            except NotBatchableError as error:
                raise HarnessError(f"{error}: add --batch-runs 1, in a new study") from error
        if not self.trials.is_incomplete(self.total):
            shutil.rmtree(folder, ignore_errors=True)

    def _member_spec(self, claim: Claim, population: Population) -> RunSpec | None:
        """Return what to train; None if the values are invalid, or if the member's earlier run has ended."""
        try:
            experiment = trial_experiment(self.trials.settings, claim.values)
        except HarnessError as error:
            self._fail(claim, str(error), retry=False)
            return None
        options = replace(self._run_options(claim), pruner=TrialPruner(self.trials, claim, experiment.train.epochs))
        run = self._earlier_run(claim)
        if run is None:
            return RunSpec(experiment, options)
        if self._record_ended(claim, run):
            return None
        resumable = population.stored(find_resumable(self.store, run.info.run_id), claim.number)
        return RunSpec(experiment, options, replace(resumable, claimed=True))


def _with_text_keys(changes: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float]]:
    """Return a schedule as JSON has it."""
    return {path: {str(epoch): value for epoch, value in each.items()} for path, each in changes.items()}


def _link_or_copy(source: Path, target: Path) -> None:
    """Link a file that is only ever replaced, never changed; copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
