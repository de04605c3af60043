"""Optuna's plots of a study: one interactive HTML page, and PNG files."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

PLOTS = {
    "history": ("History", "Each trial's score, and the best so far."),
    "importances": ("Importances", "How much of the score's variation each value explains (fANOVA)."),
    "parallel": ("Parallel coordinates", "Which values go with which score: the darkest lines are the best trials."),
    "slices": ("Slices", "The score against each value."),
    "intermediate": ("Intermediate scores", "Each trial's score by epoch. A line that ends early is a pruned trial."),
}
FANOVA_DEPTH = 6  # gives the same importances as unlimited depth, whose time grows with the square of the trials
MAX_LEGEND = 30  # trials in a legend
LOG_RATIO = 10  # ratio of the largest to the smallest score from which the axis is logarithmic


def write(study: optuna.Study, folder: Path, metric: str) -> list[Path]:
    """Write `study.html`, which needs no network, and a PNG file for each plot; return the paths.

    Plots that need more trials are left out.

    Args:
        study: The study.
        folder: Folder for the files, which is created.
        metric: Name of the scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_page(study, folder / "study.html", metric), *_pictures(study, folder, metric)]


def _page(study: optuna.Study, path: Path, metric: str) -> Path:
    import plotly.io

    sections = []
    script: bool | str = True  # plotly.js is included once: the page works offline
    for name, figure in _render(_drawings(study, metric, optuna.visualization)):
        figure.update_layout(template="plotly_white", title=None, margin={"t": 30}, height=460)
        if name == "parallel":
            figure.update_layout(plot_bgcolor="#dfe3e8")  # the lines of the worst are white
        if name in _log_scale_plots(study):
            figure.update_yaxes(type="log")
        if name == "intermediate" and len(figure.data) > MAX_LEGEND:
            figure.update_layout(showlegend=False)
        body = plotly.io.to_html(figure, full_html=False, include_plotlyjs=script, config={"displaylogo": False})
        heading, description = PLOTS[name]
        sections.append(f"<h2>{heading}</h2><p>{html.escape(description)}</p>{body}")
        script = False
    title = f"Study {html.escape(study.study_name)}"
    style = (
        "body{font:15px system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;background:#fff;color:#222}"
    )
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{style}</style>"
        f"<h1>{title}</h1>{''.join(sections) or '<p>No trial has ended yet.</p>'}</html>",
        encoding="utf-8",
    )
    return path


def _pictures(study: optuna.Study, folder: Path, metric: str) -> Iterator[Path]:
    import matplotlib as mpl

    with mpl.rc_context({"figure.figsize": (11, 5), "figure.dpi": 110, "savefig.bbox": "tight"}):
        from matplotlib import pyplot

        backend = mpl.get_backend()
        pyplot.switch_backend("agg")
        try:
            for name, axes in _render(_drawings(study, metric, optuna.visualization.matplotlib)):
                every = [axes] if hasattr(axes, "figure") else list(axes.flat)
                for one in every if name in _log_scale_plots(study) else []:
                    one.set_yscale("log")
                if name == "intermediate" and len(every[0].lines) > MAX_LEGEND and (legend := every[0].get_legend()):
                    legend.remove()
                path = folder / f"{name}.png"
                every[0].figure.savefig(path)
                pyplot.close("all")
                yield path
        finally:
            pyplot.switch_backend(backend)


Drawing = Callable[[], Any]


def _render(drawings: dict[str, Drawing]) -> Iterator[tuple[str, Any]]:
    for name, draw in drawings.items():
        try:
            yield name, draw()
        except (ValueError, RuntimeError):  # too few trials, or all have the same value
            continue


def _log_scale_plots(study: optuna.Study) -> tuple[str, ...]:
    """The plots with a logarithmic vertical axis: plots of scores, if all are positive and far apart."""
    trials = study.get_trials(deepcopy=False)
    scores = [trial.value for trial in trials if trial.value is not None]
    scores += [score for trial in trials for score in trial.intermediate_values.values()]
    wide = scores and min(scores) > 0 and max(scores) > LOG_RATIO * min(scores)
    return ("history", "slices", "intermediate") if wide else ()


def _drawings(study: optuna.Study, metric: str, plots: Any) -> dict[str, Drawing]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    reported = any(trial.intermediate_values for trial in study.get_trials(deepcopy=False))
    drawings: dict[str, Drawing] = {}
    if complete:
        drawings["history"] = lambda: plots.plot_optimization_history(study, target_name=metric)
        if len(complete) > 2:
            evaluator = optuna.importance.FanovaImportanceEvaluator(max_depth=FANOVA_DEPTH, seed=0)
            drawings["importances"] = lambda: plots.plot_param_importances(
                study, evaluator=evaluator, target_name=metric
            )
        drawings["parallel"] = lambda: plots.plot_parallel_coordinate(study, target_name=metric)
        drawings["slices"] = lambda: plots.plot_slice(study, target_name=metric)
    if reported:
        drawings["intermediate"] = lambda: plots.plot_intermediate_values(study)
    return drawings
