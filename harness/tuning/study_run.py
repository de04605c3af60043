"""The MLflow run of a study: its scores, best values, sample grids and plots."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from harness.errors import HarnessError, redact
from harness.experiment import Experiment
from harness.experiment.dimensions import Value
from harness.experiment.tags import Tag, TrialAttribute
from harness.formatting import join_words
from harness.media.pictures import Picture
from harness.results import summary
from harness.runs import provenance
from harness.runs.display import Display
from harness.runs.options import Status
from harness.tracking import RunLog, Store, run_description
from harness.tuning import plots
from harness.tuning.settings import Settings
from harness.tuning.trial_values import (
    baseline_trial,
    best_trial,
    is_counted,
    is_feasible,
    pareto_front,
    seed_scores,
    trial_value,
    verdict_text,
    with_schedule,
)
from harness.tuning.trials import Trials

SCORES = ("quality/", "validation/")  # what a trial is scored by
MAX_GRIDS = 50  # sample grids of the best trial that a study logs
CONFIRMED = "**Confirmed under fresh seeds:**"  # begins the last part of the description, which `confirm` adds


class StudyRun:
    """Logs a study to its MLflow run, as trials end. One process at a time writes it."""

    def __init__(self, log: RunLog, trials: Trials, store: Store, display: Display) -> None:
        self.log = log
        self._trials, self._store, self._display = trials, store, display
        self._metric = trials.settings.metric
        self._logged: set[int] = set()  # numbers of trials
        self._best: FrozenTrial | None = None
        self._drawn = self._scored = ""  # numbers of the trials whose grids and scores are logged
        self._verdict = ""  # the part of the description that `tune --confirm` has added
        if log.resumed:
            run = store.get_run(log.run_id)
            known = run.data.tags if run else {}
            self._drawn, self._scored = known.get(Tag.DRAWN_TRIAL, ""), known.get(Tag.SCORED_TRIAL, "")
            text = run_description.generated_text(known.get(run_description.TAG))
            self._verdict = "".join(text.partition(CONFIRMED)[1:])
            self._logged = log.steps("trial/ended")
            self._best = self._best_of([trial for trial in trials.all() if trial.number in self._logged])
            if self._best is not None and self._drawn != str(self._best.number):
                self._log_grids(self._best)  # the process was killed after the trial's metrics, before its grids

    def mark_changed(self) -> None:
        """Mark a resumed study as changed, so that an error does not restore its earlier status."""
        if self.log.before is not None:
            self.log.mark_changed()
            if self._trials.changed:
                self.log.tags(self._trials.identity)

    def log_ended_trials(self) -> list[FrozenTrial]:
        """Log the trials that have ended since the last call; return them, in the order of their end."""
        ended = [
            trial for trial in self._trials.all() if trial.state.is_finished() and trial.number not in self._logged
        ]
        ended.sort(key=lambda trial: (trial.datetime_complete is None, trial.datetime_complete, trial.number))
        if ended:
            self.mark_changed()
        for trial in ended:
            self._logged.add(trial.number)
            previous, self._best = self._best, self._best_of([trial, *([self._best] if self._best else [])])
            self.log.metrics(trial.number, self._trial_metrics(trial))
            if self._best is not None and self._best is not previous:
                self._log_grids(self._best)
        return ended

    def close(self, status: Status) -> bool:
        """Log the summary, and end the run. Returns whether the store has everything."""
        self.log_summary()
        return self.log.finish(status)

    def log_summary(self) -> None:
        """Log the best trial, `best.yaml`, the counts of trials and the plots."""
        found = best_trial(self._trials.study)
        all_trials = self._trials.all()
        counted = sum(is_counted(trial) and trial.state.is_finished() for trial in all_trials)
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
            number = sum(trial.state == state and is_counted(trial) for trial in all_trials)
            self.log.tags({f"{Tag.TRIALS_}{state.name.lower()}": str(number)})
        verdict = verdict_text(self._trials.study, self._trials.settings)
        if found is not None:
            self.log.tags({Tag.BEST_TRIAL: str(found.number), Tag.BEST_VALUE: repr(trial_value(found))})
            self.log.tags({f"{Tag.BEST_VALUE_OF_}{path}": str(value) for path, value in found.params.items()})
            # MLflow params cannot change, so the best of 20 and of 40 trials are different params.
            self.log.params({f"best_of_{counted}.{path}": value for path, value in found.params.items()})
            if verdict:
                self.log.tags({Tag.VERDICT: verdict})
            self._log_front()
            self._log_best(found, counted, verdict)
            try:
                self.log.text(best_experiment(self._trials.settings, found, self._trials.name).to_yaml(), "best.yaml")
            except HarnessError as error:
                self._display.message(f"no best.yaml: the best values are invalid in the full budget: {error}")
        with tempfile.TemporaryDirectory(prefix="harness-plots-") as scratch:
            folder = self.log.folder / "plots"
            try:
                study, metrics = self._trials.study, self._trials.settings.metrics
                drawn = plots.write(study, Path(scratch), metrics, verdict, self._compared_grids())
                folder.mkdir(parents=True, exist_ok=True)
                for path in drawn:
                    shutil.copy(path, folder / path.name)
                    self.log.artifact(folder / path.name, "plots")
            except OSError as error:
                raise HarnessError(f"cannot write the plots: {error.strerror or error}") from error

    def _compared_grids(self) -> dict[str, Picture]:
        """The last sample grids of the best trial and of the baseline, by their captions."""
        best, baseline = best_trial(self._trials.study), baseline_trial(self._trials.study)
        found: dict[str, Picture] = {}
        for what, trial in {"best": best, "baseline": baseline}.items():
            run_id = None if trial is None else trial.user_attrs.get(TrialAttribute.RUN_ID)
            if trial is None or run_id is None or (what == "baseline" and best and trial.number == best.number):
                continue
            with contextlib.suppress(
                HarnessError, OSError, KeyError, IndexError
            ):  # a page without pictures is one, too
                if run := self._store.get_run(run_id):
                    grid = summary.load_grids(self._store, summary.resolve_run(self._store, run))[-1]
                    value = "" if not trial.values else f", {self._metric} {trial_value(trial):.4g}"
                    found[f"trial {trial.number} ({what}){value}, epoch {grid.epoch}"] = grid.picture
        return found

    def _log_front(self) -> None:
        """Log the numbers of the trials on the Pareto front, and the experiment of each."""
        front = pareto_front(self._trials.study)
        if front:
            self.log.tags({Tag.FRONT: ",".join(str(trial.number) for trial in front)})
        for trial in front:
            try:
                experiment = best_experiment(self._trials.settings, trial, self._trials.name)
                self.log.text(experiment.to_yaml(), f"front/trial-{trial.number}.yaml")
            except HarnessError as error:
                self._display.message(f"no front/trial-{trial.number}.yaml: the values are invalid in full: {error}")

    def _trial_metrics(self, trial: FrozenTrial) -> dict[str, float]:
        metrics: dict[str, float] = {
            f"trial/{path}": float(value)
            for path, value in trial.params.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        if trial.datetime_start and trial.datetime_complete:
            metrics["trial/seconds"] = (trial.datetime_complete - trial.datetime_start).total_seconds()
        if scores := list(seed_scores(trial).values()):
            metrics["trial/seeds"] = len(scores)
            if len(scores) > 1:
                metrics[f"trial/{self._metric}_std"] = statistics.stdev(scores)
        if trial.state == TrialState.COMPLETE:
            metrics[f"trial/{self._metric}"] = trial_value(trial)
        elif trial.state == TrialState.PRUNED and trial.intermediate_values:
            metrics[f"trial/{self._metric}_when_pruned"] = trial.intermediate_values[max(trial.intermediate_values)]
        for name, value in trial.user_attrs.get(TrialAttribute.MEASURED, {}).items():
            metrics[f"trial/{name}"] = value
        if self._best is not None:
            metrics[f"best/{self._metric}"] = trial_value(self._best)
        metrics["trial/ended"] = sum(trial.number in self._logged and is_counted(trial) for trial in self._trials.all())
        return metrics

    def _best_of(self, trials: list[FrozenTrial]) -> FrozenTrial | None:
        sign = 1 if self._trials.settings.direction == "minimize" else -1
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and is_feasible(trial)]
        return min(complete, key=lambda trial: (sign * trial_value(trial), trial.number), default=None)

    def _log_grids(self, trial: FrozenTrial) -> None:
        """Log the sample grids of the best trial at its epochs.

        Its last grid is repeated at the later epochs of the full experiment, so that charts of several runs have no
        gap.
        """
        run_id = trial.user_attrs.get(TrialAttribute.RUN_ID)
        if run_id is None:
            return
        try:
            run = self._store.get_run(run_id)
            drawn = summary.load_grids(self._store, summary.resolve_run(self._store, run)) if run else []
            grids = {grid.epoch: grid.picture for grid in drawn}
            last = max(grids, default=0)
            for epoch in (
                *grids,
                *(epoch for epoch in _grid_epochs(self._trials.settings.experiment) if epoch > last),
            ):
                self.log.image("samples", epoch, grids.get(epoch, grids[last]), replace=True)
        except (HarnessError, OSError, KeyError) as error:  # missing grids do not end a study
            self._display.message(f"no pictures of trial {trial.number}: {redact(str(error))[:200]}")
        else:
            self._drawn = str(trial.number)
            self.log.tags({Tag.DRAWN_TRIAL: self._drawn})

    def _log_best(self, trial: FrozenTrial, counted: int, verdict: str | None) -> None:
        """Log the best trial's scores under the metric names of other runs, and the description of the study."""
        settings, run_id = self._trials.settings, trial.user_attrs.get(TrialAttribute.RUN_ID)
        picture = None
        try:
            if run_id is not None and (run := self._store.get_run(run_id)):
                if self._scored != str(trial.number):
                    scores = {name: value for name, value in run.data.metrics.items() if name.startswith(SCORES)}
                    step = int(run.data.tags.get(Tag.EPOCH, "0"))
                    self.log.metrics(step, scores, replace=True)
                    self.log.tags({Tag.SCORED_TRIAL: str(trial.number)})
                    self._scored = str(trial.number)
                drawn = summary.resolve_run(self._store, run)  # the best seed, if the trial has several
                newest = summary.load_grids(self._store, drawn)[-1]
                path = f"samples/epoch-{newest.epoch:04d}.png"
                picture = run_description.picture(
                    drawn.info.run_id, path, f"samples of trial {trial.number}, epoch {newest.epoch}"
                )
        except HarnessError as error:
            self._display.message(f"no scores or pictures of trial {trial.number}: {redact(str(error))[:200]}")
        headline = (
            f"best of {counted} trials: trial {trial.number}, validation {settings.metric} {trial_value(trial):.4g}"
        )
        if verdict:
            headline += f"; {verdict}"
        if front := pareto_front(self._trials.study):
            numbers = join_words([str(each.number) for each in front], "and")
            headline += f"; the Pareto front of {join_words(settings.metrics, 'and')}: trials {numbers}"
        values = ", ".join(f"{path} {_format_value(value)}" for path, value in trial.params.items())
        text = provenance.format_description(settings.experiment, headline, values, picture=picture)
        self.log.describe("\n\n".join(part for part in (text, self._verdict) if part))


def _grid_epochs(experiment: Experiment) -> list[int]:
    """The last epochs, at most MAX_GRIDS, at which runs of the experiment log sample grids."""
    every, last = experiment.samples_every, experiment.train.epochs
    return sorted({*range(every, last + 1, every), last})[-MAX_GRIDS:]


def _format_value(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def study_params(settings: Settings) -> dict[str, object]:
    """Return the MLflow params of a study: all of its settings."""
    space = {f"search.{path}": json.dumps(text) for path, text in settings.search.describe()["search"].items()}
    budget = {f"search_budget.{path}": value for path, value in settings.search.budget.items()}
    names = ["metric", "direction", "sampler", "startup", "pruner", "min_resource", "reduction_factor", "batch_runs"]
    if settings.seeds > 1:
        names += ["seeds", "aggregate", "race"]
    if settings.method == "pbt":
        names += ["method", "perturb_every"]
    if settings.more_metrics:
        names += ["more_metrics"]
    if settings.constraints:
        names += ["constraints"]
    return {**settings.experiment.flatten(), **space, **budget, **{f"study.{n}": getattr(settings, n) for n in names}}


def best_experiment(settings: Settings, trial: FrozenTrial, study: str) -> Experiment:
    """Return the experiment with the values of a trial and the full budget."""
    experiment = with_schedule(settings.search.experiment(settings.experiment, trial.params), settings, trial)
    description = (
        f"Trial {trial.number} of study {study}: validation {settings.metric} {trial_value(trial):.4g} as a trial."
    )
    return experiment.with_values({"name": f"{settings.experiment.name}-best"[:100], "description": description})
