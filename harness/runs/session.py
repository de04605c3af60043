"""A run under way: what happens to it when an epoch has ended, and at its end; what of it is kept."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch

from harness.errors import HarnessError, redact
from harness.experiment import Experiment
from harness.gan import Report, Training, checkpoints
from harness.gan.checkpoints import Checkpoint
from harness.interrupts import Deadline, stopped_by
from harness.media import pictures
from harness.quality import ScoreSet
from harness.quality.scoring import Scoring, Split
from harness.results import load as recall
from harness.results.export import NoModelError, save_models
from harness.runs import provenance
from harness.tracking import RunLog

GRID = 100  # images in a sample grid

Status = Literal["FINISHED", "FAILED", "KILLED"]
# Work beside training: after an epoch, or (the last two) at the end of a run.
Stage = Literal["scoring", "drawing", "saving", "exporting", "final scoring", "finishing"]


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out and kept; nothing here changes its numbers.

    deadline: when the command has to have ended; the run ends at an epoch boundary before it.
    pruned_at: the epoch after which this run was to end already, before its process died.
    pruned: asked after every scored epoch, with the run's id, the epoch and its metrics, whether the run is to end.
    final: the split that its best generator is scored on at its end. A run that others are chosen by stays off `test`.
    allow_changes: a run is resumed although its images, its judge or the source of its networks have changed.
    progressed: called when the first epoch of this command has been trained.
    """

    name: str | None = None
    kind: str = "run"
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    deadline: Deadline = field(default_factory=Deadline)
    system_metrics: bool = True
    pruned: Callable[[str, int, Mapping[str, float]], bool] | None = None
    pruned_at: int | None = None
    final: Split = "test"
    allow_changes: bool = False
    progressed: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    reason: why it did not reach its last epoch, for people; stopped: the same for scripts: SIGINT, SIGTERM, max-time
    or pruned.
    unshipped: what keeps a part of its tracking on this machine, until `harness sync`.
    first: epochs that were trained by earlier commands.
    metrics: of the last epoch. scores: of the best generator at the end, on the split that Options.final names, which
    is their prefix; empty where not scored. scored: the epoch of that generator, None where not scored.
    seconds: that this command has trained, scored, drawn and saved the run; what came before is not counted.
    """

    run_id: str
    name: str
    experiment: Experiment
    status: Status
    epoch: int
    metrics: Mapping[str, float]
    scores: Mapping[str, float] = field(default_factory=dict)
    judge: str | None = None
    grid: pictures.Picture | None = None
    reason: str | None = None
    stopped: str | None = None
    unshipped: str | None = None
    first: int = 0
    scored: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class EpochReport(Report):
    """A report with the scores of the epoch among its metrics, where it was scored.

    best: whether it is the best of all scored epochs so far.
    """

    best: bool = False


class Display(Protocol):
    """What a run tells whoever watches.

    notice: one line. A text that ends in `...` says what begins now; the next call says that it has ended.
    epoch: an EpochReport where the run is one of its own, else the mean of several runs.
    stage: what the run does from now on beside training (one of Stage), or None when it trains again.
    """

    def message(self, text: str) -> None: ...

    def started(self, training: Training, name: str) -> None: ...

    def epoch(self, report: Report) -> None: ...

    def stage(self, stage: Stage | None) -> None: ...

    def grid(self, picture: pictures.Picture, epoch: int) -> None: ...

    def ended(self) -> None: ...


class NullDisplay:
    """A display that shows nothing."""

    def message(self, text: str) -> None: ...

    def started(self, training: Training, name: str) -> None: ...

    def epoch(self, report: Report) -> None: ...

    def stage(self, stage: Stage | None) -> None: ...

    def grid(self, picture: pictures.Picture, epoch: int) -> None: ...

    def ended(self) -> None: ...


@contextmanager
def staged(display: Display, stage: Stage) -> Iterator[None]:
    """Tell the display that the run is in this stage while the block lasts."""
    display.stage(stage)
    try:
        yield
    finally:
        display.stage(None)


@dataclass
class BestEpoch:
    """The best epoch so far: the score that ranks and its generator's weights; None where nothing was scored."""

    score: float | None = None
    epoch: int = 0
    weights: Mapping[str, torch.Tensor] | None = None

    def offer(self, score: float, epoch: int, generator: torch.nn.Module) -> bool:
        """Whether this epoch is the new best, the lowest; a score that is not a number never is."""
        if math.isnan(score) or (self.score is not None and score >= self.score):
            return False
        weights = {name: value.detach().cpu().clone() for name, value in generator.state_dict().items()}
        self.score, self.epoch, self.weights = score, epoch, weights
        return True


class RunSession:
    """A run under way: what happens to it when an epoch has ended, and at its end.

    outcome: how it stands. first: called when the first epoch has been logged, or the end reached without one: until
    then a resumed run can be put back to how it stood (`ensure_final_status`).
    """

    def __init__(
        self,
        outcome: RunResult,
        training: Training,
        scoring: Scoring | None,
        best: BestEpoch,
        log: RunLog,
        display: Display,
        options: RunOptions,
        first: Callable[[], None] = lambda: None,
    ) -> None:
        self.outcome, self.training, self.scoring, self.log, self.display = outcome, training, scoring, log, display
        self.options = options
        self._best = best
        self._first: Callable[[], None] | None = first
        self._has_progressed = False
        self._saved: int | None = None
        self._began = time.monotonic()

    def due(self, report: Report) -> bool:
        """Whether this epoch is scored: on schedule alone, so that a run that was stopped chooses among the same epochs
        as one that was not."""
        experiment = self.training.experiment
        every, last = experiment.track.score_every, report.epoch == experiment.train.epochs
        return bool(self.scoring and every and not report.diverged and (last or report.epoch % every == 0))

    def after(self, report: Report, scores: ScoreSet | None) -> bool:
        """Log, draw and save what an epoch has brought. True when the run ends with it.

        scores: where they were due.
        """
        training, log, experiment = self.training, self.log, self.training.experiment
        epoch, last = report.epoch, report.epoch == experiment.train.epochs
        metrics = dict(report.metrics)
        pruned = False
        if scores is not None:
            # First in the store, they are what MLflow's comparison page colours its lines by.
            metrics = {**scores.metrics("quality"), **metrics}
            ask = self.options.pruned
            pruned = epoch == self.options.pruned_at or (ask is not None and ask(log.run_id, epoch, metrics))
            pruned = pruned and not last
            if pruned:
                log.tags({"harness.pruned": str(epoch)})
        if scores is not None and self._best.offer(scores.primary_score, epoch, training.generator_ema):
            with staged(self.display, "saving"):
                save(log, training, self._best, name="best")
        best = scores is not None and self._best.epoch == epoch  # known already where a crash made it train again
        self._change()
        log.metrics(epoch, metrics)  # trained again after a crash, to the same numbers, it is not logged twice
        self._progressed()
        self.outcome = replace(self.outcome, epoch=epoch, metrics=metrics)
        self.display.epoch(EpochReport(epoch, metrics, report.seconds, report.diverged, best))

        if report.diverged:
            save(log, training, self._best, name="diverged")
            log.tags({"harness.diverged": report.diverged})
            reason = f"diverged in epoch {epoch}: {report.diverged}"
            self.outcome = replace(self.outcome, status="FAILED", reason=reason)
            self._draw(epoch)
            return True
        if last or epoch % experiment.track.checkpoint_every == 0:
            self._save(epoch)
        if last or self._draws(epoch):  # after it is saved: the first time, a judge looks at all training images
            self._draw(epoch)
        elif best:  # the picture of the epoch that will be scored and kept
            self._draw(epoch, neighbours=False)
        if pruned:
            self.stop("pruned")
        return pruned or last

    def stop(self, stopped: str) -> None:
        """End the run with the epoch that was trained last: save and draw it, where that is not done yet."""
        epoch, deadline = self.outcome.epoch, self.options.deadline
        with deadline.timed("stop"):
            self._save(epoch)
            if not self._draws(epoch):
                # The first neighbours take long, and are worth no delay.
                self._draw(epoch, neighbours=stopped != "max-time" or deadline.knows("draw"))
        self._stop(epoch, stopped)

    @property
    def complete(self) -> bool:
        """Whether its last epoch is trained."""
        return self.outcome.epoch >= self.training.experiment.train.epochs

    def out_of_time(self, runs: int = 1) -> bool:
        """Whether another epoch, with what has to follow it, would not end before the deadline.

        runs: how many are trained together, and end one after the other.
        """
        last = self.outcome.epoch + 1 >= self.training.experiment.train.epochs
        return self.options.deadline.near("epoch", *runs * ["conclude" if last else "stop", "finish"])

    def _save(self, epoch: int) -> None:
        if self._saved != epoch:
            with staged(self.display, "saving"):
                save(self.log, self.training, self._best)
            self._saved = epoch

    def _stop(self, epoch: int, stopped: str) -> None:
        saved = f"epoch {epoch} of {self.training.experiment.train.epochs} is saved"
        reason = f"pruned; {saved}" if stopped == "pruned" else stopped_by(stopped, saved)
        self.outcome = replace(self.outcome, status="KILLED", reason=reason, stopped=stopped)

    @property
    def stopped(self) -> bool:
        """Whether the run is to be trained no further."""
        return self.outcome.stopped is not None

    def _change(self) -> None:
        """Write what a resumed run has other than before."""
        if self._first is not None:
            self._first()
            self._first = None

    def _progressed(self) -> None:
        """From now on the run is another one than it was when it was resumed."""
        self._change()
        if not self._has_progressed:
            self._has_progressed = True
            self.log.keep()
            self.options.progressed()

    def catch_up(self, epoch: int) -> None:
        """Do what a crash after saving an epoch, the one that the run resumes from, has left out."""
        if epoch and epoch == self.options.pruned_at:
            self.log.tags({"harness.pruned": str(epoch)})
            self._draw(epoch)
            self._stop(epoch, "pruned")
        elif epoch and (self._draws(epoch) or epoch == self.training.experiment.train.epochs):
            self._draw(epoch)
        elif epoch and epoch == self._best.epoch:
            self._draw(epoch, neighbours=False)

    def _draws(self, epoch: int) -> bool:
        return epoch % self.training.experiment.samples_every == 0

    def _draw(self, epoch: int, *, neighbours: bool = True) -> None:
        """The same digits as ever, and beside them the training images that they are nearest to."""
        with self.options.deadline.timed("draw" if neighbours else "grid"), staged(self.display, "drawing"):
            self._draw_now(epoch, with_neighbours=neighbours)

    def _draw_now(self, epoch: int, *, with_neighbours: bool) -> None:
        samples = self.training.sample(GRID)
        grid = pictures.grid(samples)
        self.outcome = replace(self.outcome, grid=grid)
        _log_picture(self.log, "samples", epoch, grid)
        if self.scoring and with_neighbours and not _has_picture(self.log, "neighbours", epoch):
            neighbours = self.scoring.neighbours(samples)
            if neighbours is not None:
                _log_picture(self.log, "neighbours", epoch, pictures.pairs(samples, neighbours))
        self.display.grid(grid, epoch)

    def conclude(self) -> RunResult:
        """The end of a run that is trained as far as it will be: its test scores, its model, its status."""
        self.log.tags({"harness.epoch": str(self.outcome.epoch)})
        deadline = self.options.deadline
        if self.outcome.status != "KILLED":
            with deadline.timed("conclude"):
                self.outcome = _conclude(self, self._best)
        self._progressed()
        self.log.describe(self._description())
        with deadline.timed("finish"), staged(self.display, "finishing"):
            shipped = self.log.finish(self.outcome.status)
        unshipped = None if shipped else self.log.lost or "the tracking server did not take everything"
        return replace(self.outcome, unshipped=unshipped, seconds=time.monotonic() - self._began)

    def _description(self) -> str:
        """What the run's page in MLflow says first: its scores, or why it has none, and the grid of its best epoch."""
        outcome, experiment = self.outcome, self.training.experiment
        said = provenance.described(experiment, outcome.scores)
        epochs = f"{outcome.epoch} of {experiment.train.epochs} epochs"
        grid = provenance.newest_picture(self.log, *([self._best.epoch] if said else []), outcome.epoch)
        return provenance.description(experiment, outcome.reason, said, epochs, picture=grid)


def _conclude(course: RunSession, best: BestEpoch) -> RunResult:
    """Score the best generator once more, on the split for that, and keep it as a model.

    A run that diverged gets the score of what it became: whoever compares or searches must see how bad that is.
    """
    outcome, training, scoring, log = course.outcome, course.training, course.scoring, course.log
    generator, epoch = training.generator_ema, training.epoch
    if best.weights is not None and outcome.status == "FINISHED":
        generator, epoch = recall.network(training.experiment, training.images, best.weights), best.epoch
        generator = generator.to(training.device)
    if outcome.status == "FINISHED":
        with staged(course.display, "exporting"):
            _log_models(log, training, generator, epoch, course.display)
    if scoring is None:
        return outcome
    samples, split = training.experiment.quality.samples, course.options.final
    primary = training.experiment.primary
    where = f" on the {split} split" if primary.against_real else ""
    course.display.message(f"scoring epoch {epoch}{where} ({samples:,} samples, judge {scoring.identity})")
    # Once, and never on the test split where something is yet to be chosen by it.
    with staged(course.display, "final scoring"):
        scores = scoring.of(training.experiment, generator, split).metrics(split)
    log.metrics(epoch, scores)
    log.tags({"harness.best_epoch": str(epoch), **({} if best.score is None else {primary.tag: str(best.score)})})
    return replace(outcome, scores=scores, judge=scoring.identity, scored=epoch)


@contextmanager
def ensure_final_status(log: RunLog) -> Iterator[None]:
    """Whatever ends a run, its status says so. A resumed one that has not changed yet is put back to how it stood."""
    try:
        yield
    except KeyboardInterrupt:
        if log.before is not None:
            log.restore(timeout=5)
        log.finish("KILLED", timeout=5)
        raise
    except BaseException as error:
        if log.before is not None:
            log.restore()
            raise
        with contextlib.suppress(HarnessError):  # a full disk, or a log that has ended, must not hide what happened
            log.tags({"harness.error": redact(f"{type(error).__name__}: {error}")[:500]})
        log.finish("FAILED", timeout=10)
        raise


# What is kept ---------------------------------------------------------------------------------------------------------


def save(log: RunLog, training: Training, best: BestEpoch, *, name: str = "last", ship: bool = True) -> None:
    threads, like = torch.get_num_threads(), training.images.like
    keep(log, name, Checkpoint(training.experiment, training.state_dict(), threads, best.score, like), ship=ship)


def keep(log: RunLog, name: str, state: Checkpoint, *, ship: bool = True) -> None:
    """Write a checkpoint of the run, and log it.

    A resumed run starts from it and does not repeat what came before: so that has to be on the disk first.
    """
    path = log.folder / "checkpoints" / f"{name}.pt"
    log.sync_to_disk()
    checkpoints.save(path, state)
    if ship:
        log.artifact(path, "checkpoints")


def _picture_path(key: str, epoch: int) -> str:
    return f"{key}/epoch-{epoch:04d}.png"


def _has_picture(log: RunLog, key: str, epoch: int) -> bool:
    return log.has_image(key, epoch) and log.has_file(_picture_path(key, epoch))


def _log_picture(log: RunLog, key: str, epoch: int, picture: pictures.Picture) -> None:
    """As an image with a step, for the UI's charts, and as a file with a plain name, for people; each once."""
    log.image(key, epoch, picture)
    name = _picture_path(key, epoch)
    if not log.has_file(name):
        pictures.save_png(log.folder / name, picture)
        log.artifact(log.folder / name, key)


MODELS = ("generator", "sampler")


def _log_models(log: RunLog, training: Training, generator: torch.nn.Module, epoch: int, display: Display) -> None:
    # A run that is extended logs new models when it ends again; one that is killed in its end, the same.
    keys = {name: f"{log.harness_id}/{name}/{training.experiment.train.epochs}" for name in MODELS}
    if all(map(log.has_model, keys.values())):
        return
    folder = log.folder / "models"
    try:
        save_models(training.experiment, training.images, generator, folder)
    except NoModelError as error:
        display.message(f"no models are logged, the checkpoints hold what was trained: {error}")
        return
    for name, key in keys.items():
        log.model(name, folder / name, epoch, key)
