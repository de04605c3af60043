"""Create or open a study: its settings, its images and judge, and its MLflow run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from harness import formatting
from harness.errors import HarnessError, nearest
from harness.experiment import Experiment, trust
from harness.experiment.custom import SourceCode
from harness.experiment.search import Search
from harness.experiment.tags import Kind, Tag
from harness.quality.scoring import Scoring
from harness.results import changes, load
from harness.results.changes import RecordedInputs
from harness.runs import provenance
from harness.runs.display import Display
from harness.runs.prepare import prepare
from harness.tracking import RunLog, Store, run_description
from harness.tuning.custom_sampler import build_sampler, is_custom
from harness.tuning.earlier_trials import earlier_trials
from harness.tuning.goals import Constraint, direction_of
from harness.tuning.list_studies import summaries
from harness.tuning.new_study import require_scoring, resolve_settings
from harness.tuning.request import TuneRequest
from harness.tuning.settings import Settings, resolve_metrics, with_resolved_auto
from harness.tuning.storage import lock_dir, storage_name
from harness.tuning.study_run import StudyRun, study_params
from harness.tuning.trials import Trials


def open_or_create_study(
    storage: BaseStorage,
    name: str,
    experiment: Experiment | None,
    search: Search | None,
    request: TuneRequest,
    store: Store,
    display: Display,
    code: ExitStack,
) -> tuple[Trials, Scoring, bool]:
    """Open the study `name`, or create it.

    Args:
        storage: Optuna's storage.
        name: Name of the study.
        experiment: The experiment to search; None for the one of an existing study.
        search: The search; None likewise.
        request: The options of the command.
        store: The MLflow store.
        display: Receives messages.
        code: Receives `stored_code`, which is active until this stack is closed.

    Returns:
        The trials, the images and judge, and whether the study is new.

    Raises:
        HarnessError: There is no such study, it has other settings, or the search cannot be used.
    """
    folder = lock_dir(request.storage, store.root)
    trials = Trials.find(storage, name, folder)
    if trials is None and experiment is None:
        raise HarnessError(f"there is no study {name!r} to resume{_known_studies(storage, name)}")
    new = False
    if trials is None:
        assert experiment is not None
        assert search is not None
        settings, scoring = resolve_settings(experiment, search, request, display)
        identity = scoring_identity(settings.base, scoring)
        earlier = _earlier_trials(storage, settings, identity, request, folder, display)
        trials = Trials.create(storage, name, settings, folder, identity, earlier)
        new = trials is not None
        if trials is None:
            trials = Trials.find(storage, name, folder)
            assert trials is not None
    if is_custom(trials.settings.sampler):
        build_sampler(trials.settings.sampler, 0)  # refused before a trial is claimed
    if not new:
        _check_same(trials, experiment, search, request, store)
        _check_labels(trials, request, store)
        code.enter_context(stored_code(trials, store))
        scoring = load_scoring(trials, store, display, allowed=request.allow_changes)
    return trials, scoring, new


def _known_studies(storage: BaseStorage, name: str) -> str:
    """Return the end of a message that there is no study `name`: the nearest names, or all of them."""
    known = sorted(summary.study_name for summary in summaries(storage))
    return nearest(name, known) or f"; there are {', '.join(known) or 'none yet'}"


def _earlier_trials(
    storage: BaseStorage,
    settings: Settings,
    identity: Mapping[str, str],
    request: TuneRequest,
    folder: Path,
    display: Display,
) -> Sequence[FrozenTrial]:
    """The trials that a new study takes over from the study that `--from` names."""
    if request.from_study is None:
        return ()
    source = Trials.find(storage, request.from_study, folder)
    if source is None:
        known = _known_studies(storage, request.from_study)
        raise HarnessError(f"--from {request.from_study}: there is no such study{known}")
    if source.identity != identity:
        raise HarnessError(
            f"--from {request.from_study}: its images, judge or networks are others than those of the new study"
        )
    found = earlier_trials(source, settings)
    display.message(found.text)
    return found.taken


def scoring_identity(base: Experiment, scoring: Scoring) -> dict[str, str]:
    """Return tags that identify what trials are trained on and scored with: images, judge and custom code."""
    return {**changes.image_tags(scoring.splits), Tag.JUDGE: scoring.identity, **changes.code_tags(base)}


def load_scoring(trials: Trials, store: Store, display: Display, *, allowed: bool = False) -> Scoring:
    """Load the images and the judge of an existing study. A study of an older version is not checked.

    Args:
        trials: The study.
        store: The MLflow store.
        display: Receives messages.
        allowed: Tag the study, and its later trials, instead of an error if something has changed.

    Raises:
        HarnessError: The images, the judge or the source of networks have changed since the study was created.
    """
    base, before = trials.settings.base, trials.identity
    recorded = RecordedInputs(f"study {trials.name}", before, cache(lambda: _stored_sources(trials, store)), allowed)
    scoring = require_scoring(prepare(base, display, recorded=recorded if before else None)[1], base)
    if before:
        now = scoring_identity(base, scoring)
        if tags := recorded.changed_tags(base, now, f"from trial {len(trials.all())} on"):
            trials.identity = tags
    return scoring


def _stored_sources(trials: Trials, store: Store) -> dict[str, SourceCode]:
    """The source code of custom classes that is stored in the study's run."""
    if trials.run_id is None:
        return {}
    return load.stored_sources(store, store.find(trials.run_id), trials.settings.base)


@contextmanager
def stored_code(trials: Trials, store: Store) -> Iterator[None]:
    """With `--stored-code`, create custom classes from the source in the study's run while the block lasts."""
    if trials.run_id is None or not trust.get_policy().stored_code:
        yield
        return
    with load.use_stored_code(store, store.find(trials.run_id), trials.settings.base):
        yield


def _check_same(
    trials: Trials, experiment: Experiment | None, search: Search | None, request: TuneRequest, store: Store
) -> None:
    """Raise HarnessError if the settings of the existing study differ from those of the command."""
    known = trials.settings
    metrics = resolve_metrics(known.experiment, request.metrics) if request.metrics else known.metrics
    given = Settings(
        known.experiment if experiment is None else with_resolved_auto(experiment, known.experiment),
        search or known.search,
        metrics[0],
        request.direction or (direction_of(metrics[0]) if request.metrics else known.direction),
        request.sampler or known.sampler,
        request.pruner or known.pruner,
        request.min_resource or known.min_resource,
        known.reduction_factor,
        request.batch_runs or known.batch_runs,
        known.planned,
        request.seeds or (search and search.seeds) or known.seeds,
        request.aggregate or (search and search.aggregate) or known.aggregate,
        known.race if request.race is None else request.race,
        metrics[1:],
        tuple(str(Constraint.parse(text)) for text in request.constraints) or known.constraints,
        request.method or known.method,
        request.perturb_every or known.perturb_every,
    )
    if differences := known.differences(given):
        resume = formatting.harness_command("tune", study=trials.name, store=store.uri, storage=request.storage)
        raise HarnessError(
            f"study {trials.name} exists and differs: {'; '.join(differences)}. Start a new study with "
            f"--study NEW, or resume this one as it is: `{resume}`"
        )


def _check_labels(trials: Trials, request: TuneRequest, store: Store) -> None:
    """Raise HarnessError if the name or the note differs from that of the study's run: it cannot be changed."""
    if trials.run_id is None or (request.name is None and request.note is None):
        return
    try:
        run = store.client.get_run(trials.run_id)
    except Exception:  # `reopen_study_run` reports the error
        return
    known = {"--name": run.info.run_name, "--note": run_description.user_text(run.data.tags.get(run_description.TAG))}
    for option, value in {"--name": request.name, "--note": request.note}.items():
        if value is not None and value != known[option]:
            has = f"has {known[option]!r}" if known[option] else "has none"
            raise HarnessError(
                f"{option} {value!r}: study {trials.name} exists, and its run {has}; leave {option} out, or "
                "start a new study with --study NEW"
            )


def open_study_run(
    trials: Trials, request: TuneRequest, store: Store, display: Display, *, new: bool
) -> StudyRun | None:
    """Create or resume the study's MLflow run, to be written by this process; None if another process writes it."""
    settings = trials.settings
    if not new:
        _wait_for(lambda: trials.run_id is not None, seconds=30)
    with trials.locked():
        if trials.run_id is None:
            log = store.start_run(
                project=settings.experiment.project,
                name=request.name or trials.name,
                kind=Kind.STUDY,
                params=study_params(settings),
                tags={
                    Tag.EXPERIMENT: settings.experiment.name,
                    Tag.STUDY: trials.name,
                    Tag.STORAGE: storage_name(request.storage, store.root),
                    **trials.identity,
                    **request.tags,
                },
                note=request.note,
            )
            log.text(settings.experiment.to_yaml(), "experiment.yaml")
            log.describe(settings.experiment.description)
            provenance.log_sources(log, settings.base)
            trials.run_id = log.run_id
            return StudyRun(log, trials, store, display)
        resumed = reopen_study_run(trials, store)
    if resumed is None:
        display.message(
            f"another process writes the MLflow run of study {trials.name}; this process only trains trials"
        )
        return None
    return StudyRun(resumed, trials, store, display)


def reopen_study_run(trials: Trials, store: Store) -> RunLog | None:
    """Resume the study's MLflow run; None if another process writes it."""
    assert trials.run_id is not None
    run = store.get_run(trials.run_id)
    if run is None:
        raise HarnessError(
            f"study {trials.name} belongs to the run {trials.run_id}, which is not in {store.redacted_uri}: "
            "give its store with --tracking-uri, or start a new study with --study NEW"
        )
    if run.info.status == "RUNNING" and trials.owner_alive(run.data.tags):
        return None
    return store.resume_run(trials.run_id, claimed=True)


def _wait_for(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
