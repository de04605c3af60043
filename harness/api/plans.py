"""Plan a run or a study without training: `harness run --dry-run` and `harness tune --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.context import api_context
from harness.api.options import Overrides, as_names, experiment_source, merge_overrides
from harness.api.progress import Progress, closing, study_display
from harness.api.search import load_search
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.experiment.scores import Direction


@dataclass(frozen=True)
class RunPlan:
    """The experiment and the size of a run that has not started.

    Attributes:
        experiment: The experiment with all its values. A precision that needs a timing stays `auto`.
        images: Number of training images.
        steps_per_epoch: Number of steps in an epoch.
        weights: Number of weights, by network.
        precision: Why `train.precision` has its value, where it was `auto`; else None.
        adjusted: Defaults that were adjusted to a small data set, in one line; else None.
    """

    experiment: Experiment
    images: int
    steps_per_epoch: int
    weights: Mapping[str, int]
    precision: str | None
    adjusted: str | None


def plan_run(
    experiment: str | Path | Experiment = "default",
    *,
    epochs: int | None = None,
    subset: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    set: Overrides | None = None,
) -> RunPlan:
    """Resolve an experiment as `harness.run` does, without training, timing or writing anything.

    The arguments are those of `harness.run`.

    Raises:
        HarnessError: The experiment cannot be trained.
    """
    with api_context(), experiment_source(experiment) as source:
        from harness.runs import small_data

        resolved, adjusted = small_data.load(
            source, merge_overrides(set, seed=seed, device=device, epochs=epochs, subset=subset)
        )
        from harness.gan import resolve_untimed
        from harness.gan.auto import resolve_device
        from harness.runs.display import NullDisplay
        from harness.runs.prepare import prepare

        resolve_device(resolved.train.device)
        training, _ = prepare(resolved, NullDisplay(), timed=False)
        networks = {"generator": training.generator, "discriminator": training.discriminator}
        return RunPlan(
            training.experiment,
            len(training.images),
            training.steps_per_epoch,
            {name: sum(weight.numel() for weight in network.parameters()) for name, network in networks.items()},
            resolve_untimed(resolved, training.images)[1],
            adjusted.description,
        )


def plan_study(
    experiment: str | Path | Experiment | None = None,
    *,
    trials: int | None = None,
    study: str | None = None,
    epochs: int | None = None,
    subset: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    set: Overrides | None = None,
    sampler: str | None = None,
    pruner: str | None = None,
    prune_from: int | None = None,
    metric: str | Sequence[str] | None = None,
    direction: Direction | None = None,
    workers: int = 1,
    batch_runs: int | None = None,
    seeds: int | None = None,
    aggregate: str | None = None,
    race: bool | None = None,
    method: str | None = None,
    perturb_every: int | None = None,
    constraint: str | Sequence[str] | None = None,
    progress: Progress = True,
) -> list[tuple[str, str]]:
    """Return what `harness.tune` would search, and what a trial costs: rows of a label and a text.

    Nothing is trained, timed or written. The arguments are those of `harness.tune`.

    Raises:
        HarnessError: `harness.tune` would refuse these arguments, or only a study is named.
    """
    display = study_display(progress)
    overrides = merge_overrides(set, seed=seed, device=device, epochs=epochs, subset=subset)
    if study is not None and experiment is None and not overrides:
        raise HarnessError("--dry-run shows a new study; name its experiment, and leave --study out or give a new name")
    with api_context(), closing(display):
        search = load_search(experiment, overrides, prune_from, workers, batch_runs, display)
        from harness.tuning.plan import plan
        from harness.tuning.request import TuneRequest, validate

        with experiment_source(experiment or "default") as source:
            search.check_images(source, overrides)
        request = TuneRequest(
            trials=trials,
            study=study,
            sampler=sampler,
            pruner=pruner,
            min_resource=search.prune_from,
            metrics=as_names(metric),
            constraints=as_names(constraint),
            direction=direction,
            batch_runs=batch_runs,
            seeds=seeds,
            aggregate=aggregate,
            race=race,
            method=method,
            perturb_every=perturb_every,
            workers=workers,
        )
        validate(request, "", search.experiment)
        return plan(search.experiment, search.search, request, search.images)
