"""A study as it is found or made: its settings, its images and judge, and the run in MLflow that keeps its record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from harness import formatting
from harness.errors import HarnessError, nearest
from harness.experiment import Experiment, trust
from harness.experiment.custom import SourceCode
from harness.experiment.scores import SCORES
from harness.experiment.search_space import Search
from harness.experiment.tags import Kind, Tag
from harness.gan import resolve_batch_runs
from harness.quality.scoring import Scoring
from harness.results import changes
from harness.results import load as recall
from harness.results.changes import RecordedInputs
from harness.runs import provenance
from harness.runs.display import Display
from harness.runs.prepare import prepare
from harness.tracking import RunLog, Store, run_description
from harness.tuning import storage as storages
from harness.tuning import study_run as parents
from harness.tuning.list_studies import summaries
from harness.tuning.request import TuneRequest
from harness.tuning.settings import Settings, metric_of, resolved_like, trial_base
from harness.tuning.study_run import StudyRun
from harness.tuning.trials import Trials

TRIALS = 20  # where nobody has said how many
MAX_BATCH_RUNS = 20  # trials at most that are trained as one program where that pays
REDUCTION_FACTOR = 3
NEED_ENDS = ("gp", "cmaes")  # samplers that take no notice of pruned trials, and would propose them again


def open_or_create_study(
    storage: Any,
    name: str,
    experiment: Experiment | None,
    search: Search | None,
    request: TuneRequest,
    store: Store,
    display: Display,
    code: ExitStack,
) -> tuple[Trials, Scoring, bool]:
    """The study, its images and judge, and whether it is new. code: what `code_of` stays entered in."""
    folder = storages.lock_dir(request.storage, store.root)
    trials = Trials.find(storage, name, folder)
    if trials is None and experiment is None:
        known = sorted(summary.study_name for summary in summaries(storage))
        near = nearest(name, known) or f"; there are {', '.join(known) or 'none yet'}"
        raise HarnessError(f"there is no study {name!r} to resume{near}")
    new = False
    if trials is None:
        assert experiment is not None
        assert search is not None
        settings, scoring = _resolve_settings(experiment, search, request, display)
        trials = Trials.create(storage, name, settings, folder, identity_of(settings.base, scoring))
        new = trials is not None
        if trials is None:
            trials = Trials.find(storage, name, folder)
            assert trials is not None
    if not new:
        _check_same(trials, experiment, search, request, store)
        _check_labels(trials, request, store)
        code.enter_context(code_of(trials, store))
        scoring = scoring_of(trials, store, display, allowed=request.allow_changes)
    return trials, scoring, new


def identity_of(base: Experiment, scoring: Scoring) -> dict[str, str]:
    """What trials are trained on and scored with: the tags of images, judge, and code of the user's own."""
    return {**changes.image_tags(scoring.splits), Tag.JUDGE: scoring.identity, **changes.code_tags(base)}


def _resolve_settings(
    experiment: Experiment, search: Search, request: TuneRequest, display: Display
) -> tuple[Settings, Scoring]:
    """The settings of a new study, with what `auto` stands for."""
    metric = metric_of(experiment, request.metric)
    base = trial_base(experiment, search)
    training, scoring = prepare(base, display)
    scoring = _needed(scoring, base)
    needs_classes = base.primary.against_real and SCORES[metric].needs_classes
    if needs_classes and scoring.judge.features_and_classes(scoring.splits.train.pixels[:2])[1] is None:
        without = [key for key in base.primary.searchable if not SCORES[key].needs_classes]
        raise HarnessError(
            f"--metric {metric}: judge {scoring.judge.name} returns features alone, and no logits to tell classes by; "
            f"search by {formatting.join_words(without, 'or')}"
        )
    if base.data.validation != experiment.with_values(search.budget).data.validation:
        display.message(
            f"experiment {experiment.name} holds out no validation images: {base.data.validation:,} of its training "
            "images are held out for this study"
        )
    base = training.experiment
    settled = {path: base.flatten()[path] for path in ("train.device", "train.precision")}
    batch_runs, planned = request.batch_runs, request.trials or TRIALS
    if batch_runs is None:
        share = -(-planned // request.workers)  # no process is to claim what the others are waiting for
        batch_runs = resolve_batch_runs(base, training.images, min(MAX_BATCH_RUNS, share), display.message)
    sampler, pruner, min_resource = how(search, request, base.train.epochs)
    settings = Settings(
        experiment.with_values(settled),
        search,
        metric,
        request.direction or SCORES[metric].direction,
        sampler,
        pruner,
        min_resource,
        REDUCTION_FACTOR,
        batch_runs,
        planned,
    )
    for path, value in search.baseline(base).items():
        if search.decode(path, value) != base.flatten()[path]:
            display.message(f"{path} is {base.flatten()[path]}, outside of its search; the first trial takes {value}")
    return settings, scoring


def how(search: Search, request: TuneRequest, epochs: int) -> tuple[str, str, int]:
    """Sampler, pruner, and the epoch of the first comparison in a new study. epochs: of a trial.

    Raises HarnessError where they do not go together.
    """
    sampler = request.sampler or "tpe"
    pruner = request.pruner or ("none" if sampler in NEED_ENDS else "halving")
    if sampler in NEED_ENDS and pruner != "none":
        raise HarnessError(f"--sampler {sampler} learns only from trials that reach their end: leave --pruner out")
    if sampler == "cmaes" and len(search.space) < 2:
        raise HarnessError("--sampler cmaes needs a search of two leaves or more; take tpe or gp for one")
    return sampler, pruner, request.min_resource or search.prune_from or first_pruning_epoch(epochs)


def first_pruning_epoch(epochs: int) -> int:
    """The epoch at which trials of so many epochs are first compared, where the experiment does not say.

    Three quarters: GANs that are to be the best may look the worst for long (docs/tuning.md).
    """
    return max(1, round(0.75 * epochs))


def scoring_of(trials: Trials, store: Store, display: Display, *, allowed: bool = False) -> Scoring:
    """The images and the judge that the trials of an existing study are scored with.

    Raises HarnessError where they, or the source of networks, have changed since it was created, unless that is
    allowed: then the study, and its trials from now on, are marked. A study of an older version is not checked.
    """
    base, before = trials.settings.base, trials.identity
    recorded = RecordedInputs(f"study {trials.name}", before, cache(lambda: _kept(trials, store)), allowed)
    scoring = _needed(prepare(base, display, recorded=recorded if before else None)[1], base)
    if before:
        now = identity_of(base, scoring)
        if tags := recorded.changed_tags(base, now, f"from trial {len(trials.all())} on"):
            trials.identity = tags
    return scoring


def _kept(trials: Trials, store: Store) -> dict[str, SourceCode]:
    """The sources that the study's run has kept."""
    if trials.parent is None:
        return {}
    return recall.stored_sources(store, store.find(trials.parent), trials.settings.base)


@contextmanager
def code_of(trials: Trials, store: Store) -> Iterator[None]:
    """With `--stored-code`: meanwhile, classes of the user's own are made of what the study's run has kept."""
    if trials.parent is None or not trust.get_policy().stored_code:
        yield
        return
    with recall.use_stored_code(store, store.find(trials.parent), trials.settings.base):
        yield


def _needed(scoring: Scoring | None, base: Experiment) -> Scoring:
    if scoring is None:
        raise HarnessError(
            f"a search goes by scores, and there is no judge for the images of {base.name}, which have no labels: set "
            "quality.judge to a feature network of your own, package.module:Class"
        )
    return scoring


def _check_same(
    trials: Trials, experiment: Experiment | None, search: Search | None, request: TuneRequest, store: Store
) -> None:
    """Raise HarnessError where the study that exists is another one than what was asked for."""
    known = trials.settings
    given = Settings(
        known.experiment if experiment is None else resolved_like(experiment, known.experiment),
        search or known.search,
        request.metric or known.metric,
        request.direction or (SCORES[request.metric].direction if request.metric else known.direction),
        request.sampler or known.sampler,
        request.pruner or known.pruner,
        request.min_resource or known.min_resource,
        known.reduction_factor,
        request.batch_runs or known.batch_runs,
        known.planned,
    )
    if differences := known.differences(given):
        resume = formatting.harness_command("tune", study=trials.name, store=store.uri, storage=request.storage)
        raise HarnessError(
            f"study {trials.name} exists and differs: {'; '.join(differences)}. Search anew with --study NEW, "
            f"or resume the old one as it is: `{resume}`"
        )


def _check_labels(trials: Trials, request: TuneRequest, store: Store) -> None:
    """Raise HarnessError where the name or the note is not that of the study's run, which keeps what it has."""
    if trials.parent is None or (request.name is None and request.note is None):
        return
    try:
        run = store.client.get_run(trials.parent)
    except Exception:  # `reopened` says what is wrong with it
        return
    known = {"--name": run.info.run_name, "--note": run_description.user_text(run.data.tags.get(run_description.TAG))}
    for option, value in {"--name": request.name, "--note": request.note}.items():
        if value is not None and value != known[option]:
            has = f"has {known[option]!r}" if known[option] else "has none"
            raise HarnessError(
                f"{option} {value!r}: study {trials.name} exists, and its run {has}; leave {option} out, or search "
                "anew with --study NEW"
            )


def parent_of(trials: Trials, request: TuneRequest, store: Store, display: Display, *, new: bool) -> StudyRun | None:
    """The study's own run, to be written by this process; None where another one is doing so."""
    settings = trials.settings
    if not new:
        _wait_for(lambda: trials.parent is not None, seconds=30)
    with trials.deciding():
        if trials.parent is None:
            log = store.start_run(
                project=settings.experiment.project,
                name=request.name or trials.name,
                kind=Kind.STUDY,
                params=parents.params(settings),
                tags={
                    Tag.EXPERIMENT: settings.experiment.name,
                    Tag.STUDY: trials.name,
                    Tag.STORAGE: storages.shown(request.storage, store.root),
                    **trials.identity,
                    **request.tags,
                },
                note=request.note,
            )
            log.text(settings.experiment.to_yaml(), "experiment.yaml")
            log.describe(settings.experiment.description)
            provenance.log_sources(log, settings.base)
            trials.parent = log.run_id
            return StudyRun(log, trials, store, display)
        kept = reopened(trials, store)
    if kept is None:
        display.message(f"another process keeps the record of study {trials.name}; this one trains with it")
        return None
    return StudyRun(kept, trials, store, display)


def reopened(trials: Trials, store: Store) -> RunLog | None:
    """The study's own run, to go on with; None where somebody else is writing it."""
    assert trials.parent is not None
    run = store.get_run(trials.parent)
    if run is None:
        raise HarnessError(
            f"study {trials.name} belongs to the run {trials.parent}, which is not in {store.redacted_uri}: "
            "give its store with --tracking-uri, or search anew with --study NEW"
        )
    if run.info.status == "RUNNING" and trials.kept(run.data.tags):
        return None
    return store.resume_run(trials.parent, claimed=True)


def _wait_for(condition: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
