"""Shared views of MLflow experiments, with the columns and charts that matter for GANs.

MLflow's UI stores a shared view in a tag of the experiment, `mlflow.sharedViewState.KEY`: JSON with a name, a time and
the state of its page, which `?viewStateShareKey=KEY` opens. Settings that the state omits have the UI's defaults. The
UI adds charts that the state omits, in the section of the metric's prefix.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.experiment.scores import SCORES, PrimaryScore, primaries_in, primary_of_params
from harness.experiment.tags import Kind, Tag
from harness.tracking.errors import store_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.tracking.store import Store

_PREFIX = "mlflow.sharedViewState."
KEY = "harness"
TAG = f"{_PREFIX}{KEY}"
MAX_PARAMS = 8  # columns of params that differ
MAX_IMAGES = 10  # runs in a panel of images
NEWEST = 8  # runs that are listed if there are more, so that a panel has room for later runs
_IMAGE_LAYOUT = {"columns": 1, "cardHeight": 400}  # pixels: one row of images, and the slider
_PARENTS = (Kind.STUDY, Kind.CHECK)  # kinds of runs whose params are not compared

_FIRST_PARAMS = ("optimizer.lr", "generator.latent", "discriminator.dropout")
_IGNORED_PARAMS = ("name", "description", "project", "train.seed")
# Sections in the order of the page, and whether they are open. The UI adds others after them.
_SECTIONS = {
    "samples": True,
    "quality": True,
    "best": True,
    "trial": True,
    "test": True,
    "loss": True,
    "neighbours": False,
    "accuracy": False,
    "logit": False,
    "gradient": False,
    "speed": False,
    "system": False,
}

_RUN_SECTIONS = dict.fromkeys(("best", "trial", "test", "validation", "accuracy", "logit", "gradient", "speed"), False)
_STUDY_SECTIONS = {"search": True, "samples": True, "quality": True} | dict.fromkeys(
    ("validation", "loss", "neighbours", "accuracy", "logit", "gradient", "speed", "system"), False
)


def differing_params(runs: Sequence["Run"]) -> list[str]:
    """Return the params that differ between these runs, the most searched ones first.

    A param that has one value and is missing in some runs does not differ. Studies and checks are ignored.
    """
    values: dict[str, set[str]] = {}
    for run in runs:
        if run.data.tags.get(Tag.KIND) not in _PARENTS:
            for path, value in run.data.params.items():
                values.setdefault(path, set()).add(value)
    paths = [
        path
        for path, seen in values.items()
        if len(seen) > 1 and path not in _IGNORED_PARAMS and "best_of_" not in path
    ]
    return sorted(
        paths, key=lambda path: (_FIRST_PARAMS.index(path) if path in _FIRST_PARAMS else len(_FIRST_PARAMS), path)
    )


def experiment_state(runs: Sequence["Run"], newest: Sequence["Run"]) -> dict[str, Any]:
    """Return the page's state for an MLflow experiment: columns, and charts in their sections.

    MLflow shows images of at most ten runs, from the end of its list. So the newest runs are at the end of the list,
    and a filter, which the user can clear, hides older runs if there are many.

    Args:
        runs: Runs of the experiment, whose metrics and params determine columns and charts.
        newest: The newest runs without a parent, newest first; more than MAX_IMAGES if there are more.
    """
    params = (differing_params(runs) or [*_FIRST_PARAMS])[:MAX_PARAMS]
    logged = {name for run in runs for name in run.data.metrics}
    columns = [f"attributes.`{name}`" for name in ("Created", "Duration")]
    primaries = primaries_in(logged)
    scores = [name for primary in primaries for name in _columns(primary)]
    columns += [f"metrics.`{name}`" for name in scores if name in logged]
    columns += [f"params.`{path}`" for path in params]
    first = primaries[0].key
    choosing = (f"{split}/{first}" for split in ("validation", "quality", "test"))
    score = next((name for name in choosing if name in logged), f"quality/{first}")
    listed = newest if len(newest) <= MAX_IMAGES else newest[:NEWEST]
    step = _last_step(listed)
    charts = [
        *(_curve("quality", primary.key) for primary in primaries),
        *(_curve("quality", score.key) for primary in primaries for score in primary.secondary),
        _chart("samples", "IMAGE", imageKeys=["samples"], step=step, showRunParams=False),
        _chart("neighbours", "IMAGE", imageKeys=["neighbours"], step=step, showRunParams=False),
        *(_curve("best", primary.key) for primary in primaries),
        *(_curve("trial", primary.key) for primary in primaries),
        _chart("trial", "PARALLEL", selectedParams=params[:6], selectedMetrics=[score], runsCountToCompare=100),
        _chart("loss", "LINE", metricKey="loss/discriminator"),
        _chart("loss", "LINE", metricKey="loss/generator"),
        *([_chart("loss", "LINE", metricKey="loss/penalty")] if "loss/penalty" in logged else []),
    ]
    sections = _sections(_SECTIONS)
    sections[0] |= _IMAGE_LAYOUT
    return {
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "searchFilter": f"attributes.start_time >= {listed[-1].info.start_time}" if len(listed) < len(newest) else "",
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": columns,
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }


def _columns(primary: PrimaryScore) -> tuple[str, ...]:
    """The metrics that have columns, for runs with this primary score."""
    key = primary.key
    return (*(f"test/{score.key}" for score in primary.shown), f"validation/{key}", f"quality/{key}")


def _curve(section: str, key: str) -> dict[str, object]:
    """The chart of a score by step. A study of another version may have a score that SCORES lacks."""
    scale = SCORES[key].scale if key in SCORES else "linear"
    return _chart(section, "LINE", metricKey=f"{section}/{key}", scaleType=scale)


def run_state(run: "Run") -> dict[str, Any]:
    """Return the page's state for one run: images, scores, losses, and the rest."""
    state = experiment_state([run], [run])
    sections = _sections(dict.fromkeys(("samples", "quality", "loss", "neighbours"), True) | _RUN_SECTIONS)
    sections[0] |= _IMAGE_LAYOUT
    return state | {
        "compareRunSections": sections,
        "searchFilter": f"attributes.run_id = '{run.info.run_id}'",
    }


def study_state(study: "Run", trials: Sequence["Run"]) -> dict[str, Any]:
    """Return the page's state for the trials of a study, sorted and coloured by the objective.

    MLflow's comparison page would use the metric that was logged first, the score of the last epoch, for its colours.
    """
    objective = objective_of(study)
    score = objective.partition("/")[2]
    searched = [path.removeprefix("search.") for path in study.data.params if path.startswith("search.")]
    metrics = [objective, f"quality/{score}"]
    charts = [
        _chart("search", "PARALLEL", selectedParams=searched, selectedMetrics=[objective], showAllRuns=True),
        _chart("samples", "IMAGE", imageKeys=["samples"], step=_last_step(trials), showRunParams=False),
        _curve("quality", score),
    ]
    sections = _sections(_STUDY_SECTIONS)
    for section in sections[:2]:
        section |= _IMAGE_LAYOUT
    return {
        "selectedColumns": [
            "attributes.`Duration`",
            *(f"metrics.`{name}`" for name in metrics),
            *(f"params.`{path}`" for path in searched),
        ],
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,
        "searchFilter": f"tags.`mlflow.parentRunId` = '{study.info.run_id}' AND tags.`{Tag.KIND}` = '{Kind.TRIAL}'",
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": study.data.params.get("study.direction") != "maximize",
    }


def objective_of(study: "Run") -> str:
    """Return the metric that a study optimizes."""
    params = study.data.params
    return f"validation/{params.get('study.metric') or primary_of_params(params).key}"


def save_view(store: "Store", project: str, runs: Sequence["Run"]) -> str:
    """Save a view of an MLflow experiment with the columns and charts that suit `runs`; return the view's key.

    Args:
        store: The store.
        project: The name of the experiment.
        runs: Some of its runs.
    """
    newest = store.runs(limit=MAX_IMAGES + 1, project=project)
    return _save(store, store.experiment_id(project), experiment_state(runs, newest), KEY, "harness")


def save_run_view(store: "Store", run: "Run") -> str:
    """Save a view of an MLflow experiment that shows one run; return the view's key."""
    key, name = f"harness-run-{run.info.run_id}", f"run {run.info.run_name}"
    return _save(store, run.info.experiment_id, run_state(run), key, name)


def save_study_view(store: "Store", study: "Run", trials: Sequence["Run"]) -> str:
    """Save a view of an MLflow experiment that shows the trials of a study; return the view's key."""
    key, name = f"harness-study-{study.info.run_id}", f"study {study.info.run_name}"
    return _save(store, study.info.experiment_id, study_state(study, trials), key, name)


def _save(store: "Store", experiment_id: str, page: Mapping[str, Any], key: str, name: str) -> str:
    """Save a page's state in an experiment as a shared view, unless it is up to date. Makes one or two requests."""
    tag, state = f"{_PREFIX}{key}", json.dumps(page)
    with store_errors(store.redacted_uri):
        saved = store.client.get_experiment(experiment_id).tags.get(tag)
        if saved is None or json.loads(saved).get("state") != state:
            view: Mapping[str, object] = {"name": name, "createdAt": int(time.time() * 1000), "state": state}
            store.client.set_experiment_tag(experiment_id, tag, json.dumps(view))
    return key


def _last_step(runs: Sequence["Run"]) -> int:
    """The last epoch of most of these runs, for which every run has images; that of the first run in case of a tie.

    Studies and replicates have images at the same epochs as runs of their experiment.
    """
    ends = Counter(run.data.tags.get(Tag.EPOCH, run.data.params.get("train.epochs", "")) for run in runs)
    known = [end for end, _ in ends.most_common() if end.isdecimal()]
    return int(known[0]) if known else 1


def _sections(names: Mapping[str, bool]) -> list[dict[str, Any]]:
    return [{"uuid": _uuid(name), "name": name, "display": open_, "isReordered": True} for name, open_ in names.items()]


def _chart(section: str, kind: str, **settings: object) -> dict[str, object]:
    about = settings.get("metricKey") or settings.get("imageKeys") or kind
    return {
        "type": kind,
        "uuid": _uuid(f"{section}/{about}"),
        "metricSectionId": _uuid(section),
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 10,
        **_DEFAULTS.get(kind, {}),
        **settings,
    }


_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "LINE": {
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "range": {},
    },
    "PARALLEL": {"showAllRuns": False},
}


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"harness:{name}"))
