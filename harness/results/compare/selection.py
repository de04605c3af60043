"""Select the runs of a comparison, sort them by score, and find the params that differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import DeletedRunError, HarnessError, nearest
from harness.experiment.scores import PLACES, PRIMARY_SCORES, PrimaryScore, Score, primary_of_params
from harness.experiment.tags import Tag
from harness.formatting import format_count
from harness.results import summary
from harness.tracking import Store, seconds_of

if TYPE_CHECKING:
    from harness.tracking import Run

LABELS = ("name", "description")  # params that change nothing about a run


@dataclass(frozen=True)
class Row:
    """A run that is compared.

    Attributes:
        run: The run.
        picture_run: The run whose pictures and curves are shown: the run itself, or its best seed.
        on_front: Whether it is a trial on the Pareto front of its study.
    """

    run: Run
    picture_run: Run
    on_front: bool = False

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.run.info.run_name)

    @property
    def short_id(self) -> str:
        """The first 8 characters of the id."""
        return str(self.run.info.run_id[:8])

    @property
    def status(self) -> str:
        """The status in MLflow, or `pruned`, `diverged`, or `front` for a trial on the Pareto front of its study."""
        for tag in ("pruned", "diverged"):
            if f"harness.{tag}" in self.run.data.tags:
                return tag
        return "front" if self.on_front else str(self.run.info.status)

    @property
    def seconds(self) -> float:
        """The time that the run took, or has taken so far."""
        return seconds_of(self.run)

    @property
    def primary(self) -> PrimaryScore:
        """The primary score of the run."""
        return primary_of_params(self.run.data.params)

    @property
    def training_metric(self) -> str:
        """The metric of the primary score during training."""
        return f"quality/{self.primary.key}"

    def score(self, metric: str) -> float | None:
        """Return a primary score: the last value, or the best one during training. None: no finite value."""
        last = self._last(metric)
        if metric == self.training_metric and last:
            return float(self.run.data.tags.get(self.primary.tag, last))
        return last

    def spread(self, metric: str) -> float | None:
        """Return the standard deviation of the score over seeds, else its standard error. None: neither is known."""
        return self._of_same_epoch(metric, f"{metric}_std") or self._of_same_epoch(metric, f"{metric}_se")

    def secondary(self, metric: str, score: Score) -> float | None:
        """Return a secondary score on the split of the primary one. None: it is not known."""
        return self._of_same_epoch(metric, f"{metric.partition('/')[0]}/{score.key}")

    def _of_same_epoch(self, metric: str, other: str) -> float | None:
        # MLflow returns the last value of a metric, which may not belong to the best epoch.
        return self._last(other) if self.score(metric) == self._last(metric) else None

    def _last(self, metric: str) -> float | None:
        value = self.run.data.metrics.get(metric)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        rows: The runs. Runs with the same primary score form a group, sorted by it, the lowest first.
        scores: For each primary score, the metric that its group is sorted by. None: the runs have no metric in common
            and are not sorted.
        params: Dotted paths of the params that differ.
        notices: Limits of the comparison, one line each.
        searched: Dotted paths of the params that the studies of the runs search, and whether on a logarithmic scale.
    """

    rows: list[Row]
    scores: Mapping[PrimaryScore, str | None]
    params: list[str]
    notices: list[str] = field(default_factory=list)
    searched: Mapping[str, bool] = field(default_factory=dict)

    @property
    def score(self) -> str | None:
        """The metric that all runs are sorted by; None if there is no such metric."""
        return next(iter(self.scores.values())) if len(self.scores) == 1 else None

    def score_of(self, row: Row) -> str:
        """Return the metric of a row: the one that its group is sorted by, else its score during training."""
        return self.scores[row.primary] or row.training_metric


def compare(
    store: Store,
    names: Sequence[str] = (),
    *,
    study: str | None = None,
    experiment: str | None = None,
    best: int | None = None,
) -> Comparison:
    """Choose the runs to compare, sort them by their score, and find the params that differ.

    Args:
        store: The store.
        names: Runs, as on the command line; a study stands for its best trial. Deleted runs get a notice.
        study: Add the trials of this study.
        experiment: Add the runs of this experiment.
        best: Number of runs to keep, the best ones.

    Raises:
        HarnessError: There is no such run, study or experiment, or fewer than two runs remain.
    """
    notices: list[str] = []
    found: list[Run] = []
    for text in names:
        try:
            run = store.find(text)
        except DeletedRunError as error:
            notices.append(f"left out: {error}")
            continue
        found.append(summary.resolve_run(store, run) if run.data.tags.get(Tag.KIND) == "study" else run)
    if study is not None:
        found += _trials(store, study)
    if experiment is not None:
        found += _runs_of(store, experiment)
    runs = list({run.info.run_id: run for run in found}.values())
    if len(runs) < 2:
        left_out = "".join(f" ({message})" for message in notices)
        raise HarnessError(
            f"{format_count(len(runs), 'run')} to compare, expected two or more: name them, or give "
            f"--study NAME or --experiment NAME{left_out}"
        )
    front = set() if study is None else _front(store, study)
    unsorted = [Row(run, run, _trial_key(run) in front) for run in runs]
    groups = {primary: [row for row in unsorted if row.primary == primary] for primary in PRIMARY_SCORES}
    sorted_ = {primary: _sorted(primary, group) for primary, group in groups.items() if group}
    rows = [row for _, group in sorted_.values() for row in sorted(group, key=lambda row: not row.on_front)]
    if len(sorted_) > 1:
        labels = "; ".join(f"{by.label}: {', '.join(row.name for row in group)}" for by, (_, group) in sorted_.items())
        if best is not None:
            raise HarnessError(f"--best {best}: the runs have different scores ({labels}): select one of the groups")
        notices.append(
            f"the runs have different scores, which cannot be compared ({labels}): each group is sorted alone"
        )
    if best is not None:
        rows = rows[:best]
        if len(rows) < 2:
            raise HarnessError(f"--best {best} leaves one run; expected two or more")
    rows = [Row(row.run, _picture_run(store, row.run), row.on_front) for row in rows]
    scores = {primary: score for primary, (score, _) in sorted_.items()}
    return Comparison(rows, scores, _differing(rows), notices + _warnings(store, rows), _searched(store, rows))


def _trials(store: Store, name: str) -> list[Run]:
    studies = store.tagged({Tag.KIND: "study", Tag.STUDY: name})
    if not studies:
        known = sorted({run.data.tags.get(Tag.STUDY, "") for run in store.tagged({Tag.KIND: "study"})})
        near = nearest(name, known) or f"; there are {', '.join(known[:20]) or 'none yet'}"
        raise HarnessError(f"--study {name!r}: there is no such study in {store.redacted_uri}{near}")
    trials = [
        trial
        for parent in studies
        for trial in store.children(parent.info.run_id, {Tag.KIND: "trial"})
        if trial.data.metrics and trial.info.status != "RUNNING"
    ]
    if not trials:
        raise HarnessError(f"no trial of study {name} has ended yet")
    return list(reversed(trials))


def _front(store: Store, name: str) -> set[tuple[str | None, str | None]]:
    """Keys of the trials on the Pareto front of a study; empty if it has one metric."""
    return {
        (parent.info.run_id, number)
        for parent in store.tagged({Tag.KIND: "study", Tag.STUDY: name})
        for number in parent.data.tags.get(Tag.FRONT, "").split(",")
    }


def _trial_key(run: Run) -> tuple[str | None, str | None]:
    """Id of the study's run, and number of the trial."""
    return run.data.tags.get("mlflow.parentRunId"), run.data.tags.get(Tag.TRIAL)


def _runs_of(store: Store, name: str) -> list[Run]:
    kinds = ("run", "replicates")
    runs = [run for run in store.tagged({Tag.EXPERIMENT: name}) if run.data.tags.get(Tag.KIND) in kinds]
    runs = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    if not runs:
        known = {run.data.tags.get(Tag.EXPERIMENT, "") for run in store.recent()}
        near = nearest(name, sorted(known)) or f"; there are runs of {', '.join(sorted(known)) or 'nothing yet'}"
        raise HarnessError(f"--experiment {name!r}: no run of it is here{near}")
    return list(reversed(runs))


def _sorted(primary: PrimaryScore, rows: list[Row]) -> tuple[str | None, list[Row]]:
    """Return the score that all finished runs have, and the rows sorted by it. Rows without it come last."""
    finished = [row for row in rows if row.run.info.status == "FINISHED"] or rows
    scores = (f"{place}/{primary.key}" for place in PLACES)
    score = next((score for score in scores if all(row.score(score) is not None for row in finished)), None)
    if score is None:
        return None, rows

    def rank(row: Row) -> tuple[bool, float]:
        final, training = row.score(score), row.score(row.training_metric)
        return final is None, final if final is not None else math.inf if training is None else training

    return score, sorted(rows, key=rank)


def _picture_run(store: Store, run: Run) -> Run:
    try:
        return summary.resolve_run(store, run)
    except HarnessError:  # no seed has finished
        return run


def _differing(rows: Sequence[Row]) -> list[str]:
    paths = dict.fromkeys(path for row in rows for path in row.run.data.params)
    params = [row.run.data.params for row in rows]
    return [path for path in paths if path not in LABELS and len({each.get(path) for each in params}) > 1]


def _searched(store: Store, rows: Sequence[Row]) -> dict[str, bool]:
    """Return the params that the studies of these runs search, and whether on a logarithmic scale."""
    trials = [row.run for row in rows if row.run.data.tags.get(Tag.KIND) == "trial"]
    parents = dict.fromkeys(trial.data.tags.get("mlflow.parentRunId", "") for trial in trials)
    studies = [study for parent in parents if parent and (study := store.get_run(parent))]
    found: dict[str, bool] = {}
    for study in studies:
        for param, text in study.data.params.items():
            if param.startswith("search."):
                found[param.removeprefix("search.")] = '"log": true' in text
    return found


def _warnings(store: Store, rows: Sequence[Row]) -> list[str]:
    notices = []
    for row in rows:
        if row.run.info.status == "RUNNING":
            notices.append(f"{row.name} is still running: the table shows its latest values")
        if changed := row.run.data.tags.get(Tag.CHANGED):
            notices.append(
                f"{row.name} continues with other images, judge or code {changed}: its scores before and after "
                "cannot be compared"
            )
    projects = {row.run.info.experiment_id for row in rows}
    if len(projects) > 1:
        names = sorted(store.client.get_experiment(project).name for project in projects)
        notices.append(f"the runs are in different projects: {', '.join(names)}")
    for what, values in (
        ("trained on different data", {_tag(row, Tag.DATASET) for row in rows}),
        ("scored by different judges", {_tag(row, Tag.JUDGE) for row in rows} - {""}),
        ("scored with different numbers of samples", {row.run.data.params.get("quality.samples", "") for row in rows}),
    ):
        if len(values) > 1:
            notices.append(f"the runs were {what} ({'; '.join(sorted(values))}): their scores cannot be compared")
    return notices


def _tag(row: Row, key: str) -> str:
    """Return a tag of a run. Parents of `seeds` of older versions lack some tags: then it is the tag of a seed."""
    return str(row.run.data.tags.get(key) or row.picture_run.data.tags.get(key, ""))
