"""Pruners of the runs of a trial: they report its scores to Optuna, and end it when Optuna prunes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.tracking import Store
from harness.tuning.held_trials import Claim
from harness.tuning.seed_scores import aggregate
from harness.tuning.trials import Trials


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
class SeedsPruner:
    """Prunes the first seeds of a trial together, by their aggregated score.

    Attributes:
        trials: The trials of the study.
        claim: The trial.
        run_id: Id of its MLflow run, which has no scores between epochs.
        epochs: Epochs of a run.
        seeds: The seeds that report: those that are trained first.
        store: The MLflow store. An epoch may have been trained by an earlier process for a part of the seeds.
        run_ids: Ids of the MLflow runs of the seeds, as far as they exist.
        pruned: Whether Optuna has pruned the trial.
    """

    trials: Trials
    claim: Claim
    run_id: str
    epochs: int
    seeds: Sequence[int]
    store: Store
    run_ids: dict[int, str] = field(default_factory=dict)
    pruned: bool = False
    _scores: dict[int, dict[int, float]] = field(default_factory=dict)  # by epoch and seed
    _stored: dict[int, Mapping[int, float]] = field(default_factory=dict)  # by seed and epoch

    def of(self, seed: int) -> SeedPruner:
        """Return the pruner of the run of one seed."""
        return SeedPruner(self, seed)

    def report(self, seed: int, epoch: int, score: float) -> None:
        """Receive the score of one seed. With that of the last seed, the epoch is reported to Optuna."""
        scores = self._scores.setdefault(epoch, {})
        scores[seed] = score
        for other in self.seeds:
            if other not in scores and epoch in (earlier := self._earlier_scores(other)):
                scores[other] = earlier[epoch]
        if len(scores) < len(self.seeds) or epoch == self.claim.pruned:
            return
        settings = self.trials.settings
        value = aggregate([scores[each] for each in self.seeds], settings.aggregate, settings.direction)
        last = epoch == self.epochs
        self.pruned = self.trials.report(self.claim, self.run_id, epoch, value, last=last)

    def _earlier_scores(self, seed: int) -> Mapping[int, float]:
        """Scores of a seed by epoch, from before this process."""
        if seed not in self.run_ids:
            return {}
        if seed not in self._stored:
            self._stored[seed] = self.store.history(self.run_ids[seed], f"quality/{self.trials.settings.metric}")
        return self._stored[seed]


@dataclass
class SeedPruner:
    """The pruner of one of these runs: a `harness.runs.options.Pruner`."""

    pruner: SeedsPruner
    seed: int
    epoch: int = 0

    def attach(self, run_id: str, epoch: int) -> None:
        """Receive the id of the MLflow run of the seed, and the number of epochs trained so far."""
        self.epoch = epoch

    def report(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Report the study's metric of this seed."""
        self.epoch = epoch
        self.pruner.report(self.seed, epoch, scores[f"quality/{self.pruner.trials.settings.metric}"])

    def should_prune(self) -> bool:
        """Return whether the trial is pruned after the epoch that was attached or reported last."""
        return self.pruner.pruned or self.epoch == self.pruner.claim.pruned
