"""Which runs are compared, by which score, and which params tell them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import DeletedRunError, HarnessError, nearest
from harness.experiment.scores import PLACES, PRIMARY_SCORES, PrimaryScore, Score, primary_of_params
from harness.experiment.tags import Tag
from harness.results import summary
from harness.tracking import Store, seconds_of

if TYPE_CHECKING:
    from harness.tracking import Run

NAMES = ("name", "description")  # say what a run is called, not what it is


@dataclass(frozen=True)
class Row:
    """A run that is compared.

    Attributes:
        run: The run.
        drawn: The run whose pictures and curves are shown: itself, or the best one of replicates.
    """

    run: Run
    drawn: Run

    @property
    def name(self) -> str:
        """The name of the run."""
        return str(self.run.info.run_name)

    @property
    def short_id(self) -> str:
        """The first 8 characters of its id."""
        return str(self.run.info.run_id[:8])

    @property
    def status(self) -> str:
        """The status in MLflow, or why it is not what was hoped for: `pruned`, `diverged`."""
        for tag in ("pruned", "diverged"):
            if f"harness.{tag}" in self.run.data.tags:
                return tag
        return str(self.run.info.status)

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far, in seconds."""
        return seconds_of(self.run)

    @property
    def primary(self) -> PrimaryScore:
        """Its primary score."""
        return primary_of_params(self.run.data.params)

    @property
    def on_the_way(self) -> str:
        """The metric of the primary score while training."""
        return f"quality/{self.primary.key}"

    def score(self, metric: str) -> float | None:
        """A primary score: the last, of those while training the best. None for none, or what is not a number."""
        last = self._last(metric)
        return float(self.run.data.tags.get(self.primary.tag, last)) if metric == self.on_the_way and last else last

    def spread(self, metric: str) -> float | None:
        """The deviation of that score over the seeds of replicates, else its standard error; None for neither."""
        return self._of_same_epoch(metric, f"{metric}_std") or self._of_same_epoch(metric, f"{metric}_se")

    def secondary(self, metric: str, score: Score) -> float | None:
        """A secondary score of the same place as that primary one; None where it is not known."""
        return self._of_same_epoch(metric, f"{metric.partition('/')[0]}/{score.key}")

    def _of_same_epoch(self, metric: str, other: str) -> float | None:
        # MLflow tells the last value of a metric, which need not be of the epoch that was best.
        return self._last(other) if self.score(metric) == self._last(metric) else None

    def _last(self, metric: str) -> float | None:
        value = self.run.data.metrics.get(metric)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    scores: the metric that the runs of each primary score are sorted by, lowest first; None where they share none and
    stand as they were given. Runs of several primary scores stand one group after the other.
    params: the dotted paths of those that differ. searched: those that the runs' studies search, which need not differ
    among these runs, and whether each is searched on a logarithmic scale.
    notices: what is to be known about comparing these, a line each.
    """

    rows: list[Row]
    scores: Mapping[PrimaryScore, str | None]
    params: list[str]
    notices: list[str] = field(default_factory=list)
    searched: Mapping[str, bool] = field(default_factory=dict)

    @property
    def score(self) -> str | None:
        """The metric that all are sorted by; None where there is no such one."""
        return next(iter(self.scores.values())) if len(self.scores) == 1 else None

    def score_of(self, row: Row) -> str:
        """The metric that stands for a row: what its like are sorted by, else its own score while training."""
        return self.scores[row.primary] or row.on_the_way


def compare(
    store: Store,
    wanted: Sequence[str] = (),
    *,
    study: str | None = None,
    experiment: str | None = None,
    best: int | None = None,
) -> Comparison:
    """Choose the runs to compare, sort them by their score, and find the params that differ.

    Args:
        store: The store.
        wanted: Runs, as on the command line; a study means its best trial. Deleted ones are left out, with a notice.
        study: The name of a study, whose trials are compared, too.
        experiment: The name of an experiment, whose runs are compared, too.
        best: How many of all these remain.

    Raises:
        HarnessError: There is no such run, study or experiment, or fewer than two runs remain.
    """
    notices: list[str] = []
    found: list[Run] = []
    for text in wanted:
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
        asked = "".join(f" ({message})" for message in notices)
        raise HarnessError(
            f"{len(runs)} run{'' if len(runs) == 1 else 's'} to compare, expected two or more: name them, or give "
            f"--study NAME or --experiment NAME{asked}"
        )
    given = [Row(run, run) for run in runs]
    groups = {primary: [row for row in given if row.primary == primary] for primary in PRIMARY_SCORES}
    sorted_ = {primary: _sorted(primary, group) for primary, group in groups.items() if group}
    rows = [row for _, group in sorted_.values() for row in group]
    if len(sorted_) > 1:
        said = "; ".join(f"{by.label}: {', '.join(row.name for row in group)}" for by, (_, group) in sorted_.items())
        if best is not None:
            raise HarnessError(f"--best {best}: the runs have different scores ({said}): ask for those of one kind")
        notices.append(f"the runs have different scores, which do not compare ({said}): each kind is sorted by its own")
    if best is not None:
        rows = rows[:best]
        if len(rows) < 2:
            raise HarnessError(f"--best {best} leaves one run, expected two or more to compare")
    rows = [Row(row.run, _drawn(store, row.run)) for row in rows]
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
    """The score that all rows that came to their end have, and the rows by it; those without it come last."""
    finished = [row for row in rows if row.run.info.status == "FINISHED"] or rows
    scores = (f"{place}/{primary.key}" for place in PLACES)
    score = next((score for score in scores if all(row.score(score) is not None for row in finished)), None)
    if score is None:
        return None, rows

    def rank(row: Row) -> tuple[bool, float]:
        own, on_the_way = row.score(score), row.score(row.on_the_way)
        return own is None, own if own is not None else math.inf if on_the_way is None else on_the_way

    return score, sorted(rows, key=rank)


def _drawn(store: Store, run: Run) -> Run:
    try:
        return summary.resolve_run(store, run)
    except HarnessError:  # of replicates none has finished
        return run


def _differing(rows: Sequence[Row]) -> list[str]:
    paths = dict.fromkeys(path for row in rows for path in row.run.data.params)
    params = [row.run.data.params for row in rows]
    return [path for path in paths if path not in NAMES and len({each.get(path) for each in params}) > 1]


def _searched(store: Store, rows: Sequence[Row]) -> dict[str, bool]:
    """The params that the studies of these runs search, and whether on a logarithmic scale."""
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
    said = []
    for row in rows:
        if row.run.info.status == "RUNNING":
            said.append(f"{row.name} is still running: its numbers so far")
        if changed := row.run.data.tags.get(Tag.CHANGED):
            said.append(
                f"{row.name} goes on with other images, judge or code {changed}: its scores before and after do not "
                "compare"
            )
    projects = {row.run.info.experiment_id for row in rows}
    if len(projects) > 1:
        names = sorted(store.client.get_experiment(project).name for project in projects)
        said.append(f"the runs are of different projects: {', '.join(names)}")
    for what, values in (
        ("trained on different data", {_tag(row, Tag.DATASET) for row in rows}),
        ("scored by different judges", {_tag(row, Tag.JUDGE) for row in rows} - {""}),
        ("scored with different numbers of samples", {row.run.data.params.get("quality.samples", "") for row in rows}),
    ):
        if len(values) > 1:
            said.append(f"the runs were {what} ({'; '.join(sorted(values))}): their scores do not compare")
    return said


def _tag(row: Row, key: str) -> str:
    """A tag of a run; of replicates of older versions, which lack it, that of a seed."""
    return str(row.run.data.tags.get(key) or row.drawn.data.tags.get(key, ""))
