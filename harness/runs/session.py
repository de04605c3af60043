"""One run of an experiment: started new or resumed, fed epoch after epoch by `runs.train.train`, and finished.

A resumed run differs from a new one in its starting state alone: the result so far, the best epoch so far, and what is
logged with its first new epoch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from harness.experiment.tags import Tag
from harness.formatting import format_count
from harness.gan import Report, Training
from harness.interrupts import stop_message
from harness.quality import ScoreSet
from harness.quality.scoring import Scoring
from harness.results.changes import RecordedInputs
from harness.runs import provenance
from harness.runs.artifacts import BestEpoch, copy_checkpoint, log_grids, save_checkpoint, write_checkpoint
from harness.runs.checkpointing import Checkpointing
from harness.runs.display import Display, EpochReport, show_stage
from harness.runs.final import evaluate_best, final_description
from harness.runs.options import RunOptions, RunResult
from harness.runs.resumable import ResumableRun
from harness.tracking import RunLog, Store, ensure_final_status

STOP = ("save", "draw", "finish")  # the work of a run that ends early, by the names of `Deadline`


class RunSession:
    """A run while it is trained.

    Attributes:
        training: what is trained.
        run_log: its MLflow run.
        result: how it stands.
    """

    def __init__(
        self,
        run_log: RunLog,
        training: Training,
        scoring: Scoring | None,
        options: RunOptions,
        display: Display,
        *,
        result: RunResult | None = None,
        best: BestEpoch | None = None,
    ) -> None:
        """Use `start` or `resume`."""
        self.run_log, self.training, self.scoring = run_log, training, scoring
        self.options, self.display = options, display
        self.result = result or RunResult(run_log.run_id, run_log.name, training.experiment, "FINISHED", 0, {})
        self._best = best or BestEpoch()
        self._log_changes: Callable[[], None] | None = None  # once, before a resumed run logs its first new epoch
        self._has_progressed = False
        self._is_best = False  # the epoch that was logged last
        self._started = time.monotonic()
        self.checkpoints = Checkpointing(run_log, training, self._best, options.deadline, display)

    @classmethod
    @contextmanager
    def start(
        cls, training: Training, scoring: Scoring | None, store: Store, options: RunOptions, display: Display
    ) -> Iterator[RunSession]:
        """Create the MLflow run of a training that starts now. Its status is true, whatever ends the block."""
        run_log = provenance.start_run(training, scoring, store, options)
        with ensure_final_status(run_log):
            provenance.log_provenance(run_log, training)
            save_checkpoint(
                run_log, training, BestEpoch(), ship=options.upload_first_checkpoint
            )  # a run killed in epoch 1 can be resumed too
            if options.pruner:
                options.pruner.attach(run_log.run_id, 0)
            yield cls(run_log, training, scoring, options, display)

    @classmethod
    @contextmanager
    def resume(
        cls,
        resumable: ResumableRun,
        recorded: RecordedInputs,
        training: Training,
        scoring: Scoring | None,
        store: Store,
        options: RunOptions,
        display: Display,
    ) -> Iterator[RunSession]:
        """Reopen the MLflow run of a training that `ResumableRun.restore` has put where its checkpoint left it.

        What fails before the first new epoch puts the run back to how it stood.
        """
        run_log = store.resume_run(resumable.run_id, claimed=resumable.claimed)
        with ensure_final_status(run_log):
            # Who wrote these files may have been killed before they were logged, or have been on another machine.
            write_checkpoint(run_log, "last", resumable.checkpoint)
            if resumable.best_checkpoint:
                write_checkpoint(run_log, "best", resumable.best_checkpoint)
            resumable.announce(training.experiment, display)
            result = resumable.result(training)
            session = cls(run_log, training, scoring, options, display, result=result, best=resumable.best)
            session._log_changes = partial(resumable.log_changes, run_log, training, scoring, recorded)
            session._catch_up()
            yield session

    def _catch_up(self) -> None:
        """Do what a crash after the checkpoint that the run resumes from has left out."""
        epoch, pruner = self.result.epoch, self.options.pruner
        if pruner:
            pruner.attach(self.run_log.run_id, epoch)
        if epoch == 0 or self.training.steps_in_epoch:
            return
        if pruner and pruner.should_prune():
            self._prune()
        if self.ended or self._grid_is_due(epoch):
            self._draw()
        elif epoch == self._best.epoch:
            self._draw(neighbours=False)

    # One epoch -------------------------------------------------------------------------------------------------------

    def score_is_due(self, report: Report) -> bool:
        """Whether this epoch is scored. By the schedule alone, so that a stop does not change which epochs compete."""
        experiment = self.training.experiment
        every, last = experiment.track.score_every, report.epoch == experiment.train.epochs
        return bool(self.scoring and every and not report.diverged and (last or report.epoch % every == 0))

    def score(self, report: Report) -> ScoreSet | None:
        """Score this epoch's generator on the validation split; None where no score is due."""
        if self.scoring is None or not self.score_is_due(report):
            return None
        with show_stage(self.display, "scoring"):
            (scores,) = self.scoring.score_during_training([self.training.experiment], [self.training.generator_ema])
        return scores

    def report(self, report: Report, scores: ScoreSet | None) -> None:
        """Report the scores of an epoch to the pruner. Of a batch, all runs report before the first one is logged."""
        if self.options.pruner is not None and scores is not None:
            self.options.pruner.report(report.epoch, scores.metrics("quality"))

    def log(self, report: Report, scores: ScoreSet | None) -> None:
        """Log an epoch's numbers, ask the pruner, and keep the weights of the best epoch."""
        epoch, metrics = report.epoch, dict(report.metrics)
        pruned = False
        if scores is not None:
            # First in the store, they are what MLflow's comparison page colours its lines by.
            metrics = {**scores.metrics("quality"), **metrics}
            last = epoch >= self.training.experiment.train.epochs
            pruned = self.options.pruner is not None and not last and self.options.pruner.should_prune()
        if scores is not None and self._best.update(scores.primary_score, epoch, self.training.generator_ema):
            self.checkpoints.save("best")
        # True as well where a crash made the best epoch train again.
        self._is_best = scores is not None and self._best.epoch == epoch
        self._apply_changes()
        self.run_log.metrics(epoch, metrics)  # not twice where an epoch is trained again after a crash
        self._note_progress()
        self.result = replace(self.result, epoch=epoch, metrics=metrics)
        self.display.epoch(EpochReport(epoch, metrics, report.seconds, report.diverged, self._is_best))
        if report.diverged:
            self.checkpoints.save("diverged")
            self.run_log.tags({Tag.DIVERGED: report.diverged})
            reason = f"diverged in epoch {epoch}: {report.diverged}"
            self.result = replace(self.result, status="FAILED", reason=reason)
        elif pruned:
            self._prune()

    def copy_from(self, other: RunSession) -> None:
        """Continue with the weights, the moments, the scheduled values and the best epoch of another run."""
        self.training.load_state_dict(copy.deepcopy(other.training.state_dict()))
        self._best.copy_from(other._best)
        copy_checkpoint(other.run_log, self.run_log, "best")
        self._is_best = self._best.epoch == self.result.epoch

    def save(self) -> None:
        """Save a checkpoint where one is due: by the schedule, and at the end of the run."""
        diverged = self.result.status == "FAILED"  # which has a checkpoint of its own
        if not diverged and (self.ended or self.checkpoints.is_due(self.result.epoch)):
            self.checkpoints.save_end_of(self.result.epoch)

    def draw(self) -> None:
        """Log a sample grid where one is due: by the schedule, of a new best epoch, and at the end of the run."""
        if self.ended or self._grid_is_due(self.result.epoch):
            self._draw()
        elif self._is_best:
            self._draw(neighbours=False)

    def pause(self, signal: str | None = None) -> bool:
        """In the middle of a long epoch: save if that is due; at a signal or the deadline, save and end the run.

        Returns:
            Whether the run has ended.
        """
        reason = signal or ("max-time" if self.out_of_time() else None)
        if reason or self.checkpoints.is_due_in_epoch():
            self._apply_changes()
            self.checkpoints.save()
            self._note_progress()
        if reason:
            self._end_early(reason, f", and {format_count(self.training.steps_in_epoch, 'step')} of the next")
        return self.ended

    def should_stop(self, signal: str | None = None) -> bool:
        """Whether the run ends with the epoch that was logged last.

        It does when it is complete, has diverged or was pruned; when a signal asks for it; and when there is no time
        for another epoch. What ends early is saved and drawn.
        """
        if not self.ended:
            self.options.deadline.end_epoch()
            if reason := signal or ("max-time" if self.out_of_time() else None):
                self.stop(reason)
            self.options.deadline.start_epoch()
        return self.ended

    @property
    def ended(self) -> bool:
        """Whether the run is trained no further."""
        return self.complete or self.result.status != "FINISHED"

    @property
    def complete(self) -> bool:
        """Whether its last epoch is trained."""
        return self.result.epoch >= self.training.experiment.train.epochs

    def out_of_time(self, runs: int = 1) -> bool:
        """Whether another epoch, with what has to follow it, would not end before the deadline.

        Args:
            runs: how many are trained at once, and end one after the other.
        """
        if self.checkpoints.pauses_epochs:  # an epoch need not end
            return self.options.deadline.too_late_for("save", "finish")
        last = self.result.epoch + 1 >= self.training.experiment.train.epochs
        return self.options.deadline.too_late_for("epoch", *runs * (("conclude", "finish") if last else STOP))

    def stop(self, reason: str) -> None:
        """End the run with the epoch that was trained last: save and draw it. reason: SIGINT, SIGTERM or max-time."""
        epoch, deadline = self.result.epoch, self.options.deadline
        self.checkpoints.save_end_of(self.result.epoch)
        if not self._grid_is_due(epoch) and not self.training.steps_in_epoch:
            # The first neighbours take long, and are worth no delay.
            self._draw(neighbours=reason != "max-time" or deadline.has_measured("draw"))
        self._end_early(reason)

    def _end_early(self, reason: str, more: str = "") -> None:
        why = stop_message(reason, f"{self._saved_text()}{more}")
        self.result = replace(self.result, status="KILLED", reason=why, stopped=reason)

    def _prune(self) -> None:
        self.run_log.tags({Tag.PRUNED: str(self.result.epoch)})
        self.result = replace(self.result, status="KILLED", reason=f"pruned; {self._saved_text()}", pruned=True)

    def _saved_text(self) -> str:
        return f"epoch {self.result.epoch} of {self.training.experiment.train.epochs} is saved"

    def _apply_changes(self) -> None:
        if self._log_changes is not None:
            self._log_changes()
            self._log_changes = None

    def _note_progress(self) -> None:
        """From now on the run is another one than it was when it was resumed."""
        self._apply_changes()
        if not self._has_progressed:
            self._has_progressed = True
            self.run_log.mark_changed()
            self.options.on_progress()

    def _grid_is_due(self, epoch: int) -> bool:
        return epoch % self.training.experiment.samples_every == 0

    def _draw(self, *, neighbours: bool = True) -> None:
        with self.options.deadline.measure("draw" if neighbours else "grid"), show_stage(self.display, "drawing"):
            epoch, scoring = self.result.epoch, self.scoring if neighbours else None
            grid = log_grids(self.run_log, self.training, scoring, epoch)
            self.result = replace(self.result, grid=grid)
            self.display.grid(grid, epoch)

    # The end ---------------------------------------------------------------------------------------------------------

    def finish(self) -> RunResult:
        """End a run that is trained as far as it will be: log its final scores, models, description and status."""
        self.run_log.tags({Tag.EPOCH: str(self.result.epoch)})
        deadline = self.options.deadline
        if self.result.status != "KILLED":
            with deadline.measure("conclude"):
                self.result = evaluate_best(
                    self.run_log, self.training, self.scoring, self._best, self.options.final, self.result, self.display
                )
        self._note_progress()
        self.run_log.describe(final_description(self.run_log, self._best, self.result))
        with deadline.measure("finish"), show_stage(self.display, "finishing"):
            shipped = self.run_log.finish(self.result.status)
        unshipped = None if shipped else self.run_log.shipping_error or "the tracking server did not take everything"
        return replace(self.result, unshipped=unshipped, seconds=time.monotonic() - self._started)
