"""`run`: one run from start to end: trains, scores, draws, saves and tracks, and sees that its status is true."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch

from harness import checkpoints, data, pictures, provenance, recall
from harness.checkpoints import Checkpoint
from harness.errors import HarnessError, redact
from harness.experiment import Experiment
from harness.gan import Report, Training, resolve, sample_inputs
from harness.scoring import Scoring
from harness.stopping import Deadline, interruptions
from harness.tracking import RunLog, Store, save_generator

GRID = 100  # images in a sample grid

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Options:
    """How a run is carried out and kept; nothing here changes its numbers.

    deadline: on the clock of `time.monotonic`; the run ends at the last epoch boundary before it.
    """

    name: str | None = None
    kind: str = "run"
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None
    deadline: float | None = None
    system_metrics: bool = True


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    reason: why it did not reach its last epoch, for people; stopped: the same for scripts: SIGINT, SIGTERM or max-time.
    unshipped: what keeps a part of its tracking on this machine, until `harness sync`.
    metrics: of the last epoch. scores: of the best generator on the test split, `test/...`; empty where not scored.
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


class Display(Protocol):
    """What a run tells whoever watches."""

    def notice(self, text: str) -> None: ...

    def started(self, training: Training, name: str) -> None: ...

    def epoch(self, report: Report) -> None: ...

    def grid(self, picture: pictures.Picture, epoch: int) -> None: ...

    def ended(self) -> None: ...


class Quiet:
    """A display that shows nothing."""

    def notice(self, text: str) -> None: ...

    def started(self, training: Training, name: str) -> None: ...

    def epoch(self, report: Report) -> None: ...

    def grid(self, picture: pictures.Picture, epoch: int) -> None: ...

    def ended(self) -> None: ...


def run(experiment: Experiment, store: Store, options: Options, display: Display) -> Outcome:
    """Train an experiment from its first epoch, as one new MLflow run.

    Raises HarnessError before the run is created when data, device or store are not as they should be.
    """
    training, scoring = prepare(experiment, display)
    experiment = training.experiment
    name = options.name or f"{experiment.name}-{secrets.token_hex(2)}"
    with interruptions():
        log = store.start_run(
            project=experiment.project,
            name=name,
            kind=options.kind,
            params=experiment.leaves(),
            tags={**provenance.tags(training, scoring), **options.tags},
            parent=options.parent,
            note=options.note,
        )
        with truthful(log):
            provenance.describe(log, training)
            _save(log, training, Best(), ship=False)  # a run killed in its first epoch can be resumed too
            begun = Outcome(log.run_id, name, experiment, "FINISHED", 0, {})
            return _train(begun, training, scoring, Best(), log, options, display)


def resume(wanted: str, store: Store, changes: Mapping[str, Any], options: Options, display: Display) -> Outcome:
    """Go on with a run where its last checkpoint left it, in the same MLflow run.

    `changes` are leaves by dotted path; only `train.epochs` may differ, to extend the run.
    Raises HarnessError for an unknown run, one that still runs, one without a checkpoint, or any other change.
    """
    found = recall.single(store, store.find(wanted))
    name = str(found.info.run_name)
    checkpoint = recall.checkpoint(store, found)
    experiment = _extended(checkpoint, changes)
    if checkpoint.epoch >= experiment.train.epochs and found.info.status == "FINISHED":
        raise HarnessError(
            f"run {name} is complete: {checkpoint.epoch} of {experiment.train.epochs} epochs; "
            f"give more with --epochs to extend it"
        )
    _use_threads(checkpoint.threads, display)
    training, scoring = prepare(experiment, display)
    training.load_state_dict(checkpoint.training)
    best = Best()
    if checkpoint.score is not None:
        chosen = recall.checkpoint(store, found, "best")
        best = Best(chosen.score, chosen.epoch, chosen.training["average"] or chosen.training["generator"])
    with interruptions():
        log = store.resume_run(found.info.run_id)
        with truthful(log):
            if experiment != checkpoint.experiment:
                before, after = checkpoint.experiment.train.epochs, experiment.train.epochs
                log.tags({"harness.epochs": str(after)})
                log.text(experiment.to_yaml(), "experiment.yaml")
                display.notice(f"extending from {before} to {after} epochs (tag harness.epochs; the param stays)")
            display.notice(f"resuming {name} after epoch {checkpoint.epoch}")
            # Where only the end is missing, this is what there is to report.
            grid = pictures.grid(training.sample(GRID))
            begun = Outcome(
                log.run_id, name, experiment, "FINISHED", checkpoint.epoch, dict(found.data.metrics), grid=grid
            )
            return _train(begun, training, scoring, best, log, options, display)


def prepare(experiment: Experiment, display: Display) -> tuple[Training, Scoring | None]:
    """Load the images, settle what `auto` stands for, build the networks, have the judge ready.

    Whatever can be wrong with an experiment is found here, before anything is tracked.
    """
    source = experiment.data
    splits = data.load(source.name, validation=source.validation, subset=source.subset, seed=source.seed)
    training = Training(resolve(experiment, splits.train), splits.train)
    if experiment.quality.judge is None:
        return training, None
    scoring = Scoring(training.experiment, splits, notice=display.notice)
    scoring.prepare()
    if not source.validation:
        display.notice("no validation images are held out (data.validation is 0): scored on the test split, at the end")
    return training, scoring


@dataclass
class Best:
    """The best epoch so far: its validation KID and its generator's weights; None where nothing was scored."""

    kid: float | None = None
    epoch: int = 0
    weights: Mapping[str, torch.Tensor] | None = None

    def offer(self, kid: float, epoch: int, generator: torch.nn.Module) -> bool:
        """Whether this epoch is the new best; a KID that is not a number never is."""
        if math.isnan(kid) or (self.kid is not None and kid >= self.kid):
            return False
        weights = {name: value.detach().cpu().clone() for name, value in generator.state_dict().items()}
        self.kid, self.epoch, self.weights = kid, epoch, weights
        return True


# The loop --------------------------------------------------------------------------------------------------------


def _train(
    outcome: Outcome,
    training: Training,
    scoring: Scoring | None,
    best: Best,
    log: RunLog,
    options: Options,
    display: Display,
) -> Outcome:
    """Train to the end, or until a signal, the deadline or a divergence; what was done is saved and logged."""
    experiment, every = training.experiment, training.experiment.track
    # After a crash some epochs are trained again, to the same numbers; what is logged already is not logged twice.
    logged = log.last_step("loss/generator") if log.resumed else 0
    drawn = log.image_steps("samples") if log.resumed else set()
    with interruptions() as stop, _shown(display, training, outcome.name), _watched(log, options.system_metrics):
        deadline = Deadline(options.deadline)
        for report in training:
            epoch, last = report.epoch, report.epoch == experiment.train.epochs
            stopped = None if last else stop.signal or ("max-time" if deadline.near() else None)
            ending = bool(stopped or last or report.diverged)
            metrics = dict(report.metrics)

            # Score on schedule alone, so that a run that was stopped chooses among the same epochs as one that was not.
            if scoring and every.score_every and not report.diverged and (last or epoch % every.score_every == 0):
                scores = scoring.between_epochs(training.sampler)
                metrics |= scores.metrics("quality")
                if best.offer(scores.kid, epoch, training.sampler):
                    _save(log, training, best, name="best")
            if epoch > logged:
                log.metrics(epoch, metrics)
            outcome = replace(outcome, epoch=epoch, metrics=metrics)
            display.epoch(replace(report, metrics=metrics))

            # Draw the same digits as ever, and beside them the training images that they are nearest to.
            if ending or epoch % every.samples_every == 0:
                samples = training.sample(GRID)
                grid = pictures.grid(samples)
                outcome = replace(outcome, grid=grid)
                if epoch not in drawn:
                    _log_picture(log, "samples", epoch, grid)
                    if scoring:
                        _log_picture(log, "neighbours", epoch, pictures.pairs(samples, scoring.neighbours(samples)))
                display.grid(grid, epoch)

            # Save, and see whether this is the end.
            if report.diverged:
                _save(log, training, best, name="diverged")
                log.tags({"harness.diverged": report.diverged})
                reason = f"diverged in epoch {epoch}: {report.diverged}"
                outcome = replace(outcome, status="FAILED", reason=reason)
                break
            if ending or epoch % every.checkpoint_every == 0:
                _save(log, training, best)
            if stopped:
                reason = f"stopped by {stopped}; epoch {epoch} of {experiment.train.epochs} is saved"
                outcome = replace(outcome, status="KILLED", reason=reason, stopped=stopped)
                break
    log.tags({"harness.epoch": str(outcome.epoch)})
    if outcome.status != "KILLED":
        outcome = _conclude(outcome, training, scoring, best, log, display)
    shipped = log.finish(outcome.status)
    return replace(outcome, unshipped=None if shipped else log.lost or "the tracking server did not take everything")


def _conclude(
    outcome: Outcome, training: Training, scoring: Scoring | None, best: Best, log: RunLog, display: Display
) -> Outcome:
    """Score the best generator on the test split, once, and keep it as a model.

    A run that diverged gets the score of what it became: whoever compares or searches must see how bad that is.
    """
    generator, epoch = training.sampler, training.epoch
    if best.weights is not None and outcome.status == "FINISHED":
        generator, epoch = recall.network(training.experiment, training.images, best.weights), best.epoch
        generator = generator.to(training.device)
    if outcome.status == "FINISHED":
        _log_generator(log, training, generator)
    if scoring is None:
        return outcome
    samples = training.experiment.quality.samples
    display.notice(f"scoring epoch {epoch} on the test split ({samples:,} samples, judge {scoring.identity})")
    scores = scoring.final(generator).metrics("test")
    log.metrics(epoch, scores)
    log.tags({"harness.best_epoch": str(epoch), **({} if best.kid is None else {"harness.best_kid": str(best.kid)})})
    return replace(outcome, scores=scores, judge=scoring.identity)


@contextmanager
def truthful(log: RunLog) -> Iterator[None]:
    """Whatever ends a run, its status says so."""
    try:
        yield
    except KeyboardInterrupt:
        log.finish("KILLED", timeout=5)
        raise
    except BaseException as error:
        with contextlib.suppress(HarnessError):  # a full disk, or a log that has ended, must not hide what happened
            log.tags({"harness.error": redact(f"{type(error).__name__}: {error}")[:500]})
        log.finish("FAILED", timeout=10)
        raise


@contextmanager
def _shown(display: Display, training: Training, name: str) -> Iterator[None]:
    display.started(training, name)
    try:
        yield
    finally:
        display.ended()


@contextmanager
def _watched(log: RunLog, wanted: bool) -> Iterator[None]:
    with log.watch_system() if wanted else contextlib.nullcontext():
        yield


# What is kept ----------------------------------------------------------------------------------------------------


def _save(log: RunLog, training: Training, best: Best, *, name: str = "last", ship: bool = True) -> None:
    path = log.folder / "checkpoints" / f"{name}.pt"
    state = Checkpoint(training.experiment, training.state_dict(), torch.get_num_threads(), best.kid)
    checkpoints.save(path, state)
    if ship:
        log.artifact(path, "checkpoints")


def _log_picture(log: RunLog, key: str, epoch: int, picture: pictures.Picture) -> None:
    """As an image with a step, for the UI's charts, and as a file with a plain name, for people."""
    log.image(key, epoch, picture)
    path = log.folder / key / f"epoch-{epoch:04d}.png"
    pictures.save_png(path, picture)
    log.artifact(path, key)


def _log_generator(log: RunLog, training: Training, generator: torch.nn.Module) -> None:
    folder = log.folder / "models" / "generator"
    example = sample_inputs(training.experiment, training.images, 2).numpy()
    save_generator(generator, example, folder)
    log.model("generator", folder)


# Going on --------------------------------------------------------------------------------------------------------


def _extended(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> Experiment:
    """The checkpoint's experiment with more epochs, if that is all that was asked for."""
    stored = checkpoint.experiment
    wanted = stored.with_values(changes)
    others = {path: pair for path, pair in stored.differences(wanted).items() if path != "train.epochs"}
    if others:
        shown = ", ".join(f"{path} {before} -> {after}" for path, (before, after) in others.items())
        raise HarnessError(
            f"a run is resumed as it was started; only train.epochs may change, not {shown}: start a new run for that"
        )
    if wanted.train.epochs != stored.train.epochs and stored.optimizer.schedule != "constant":
        raise HarnessError(
            f"optimizer.schedule {stored.optimizer.schedule} depends on the number of epochs, which was "
            f"{stored.train.epochs} from the start: start a new run with --epochs {wanted.train.epochs}"
        )
    if wanted.train.epochs < checkpoint.epoch:
        raise HarnessError(
            f"train.epochs {wanted.train.epochs} is less than the {checkpoint.epoch} epochs already trained"
        )
    return wanted


def _use_threads(threads: int, display: Display) -> None:
    """Train with as many threads as before: sums are ordered by them, so the same bits follow only then."""
    if threads == torch.get_num_threads():
        return
    if threads <= torch.multiprocessing.cpu_count():
        torch.set_num_threads(threads)
    else:
        display.notice(
            f"the run was started with {threads} threads, this machine has {torch.get_num_threads()}: "
            "it goes on, but not to the same bits"
        )
