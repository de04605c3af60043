"""Optuna's plots of a study: one interactive HTML page, and PNG files."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

PLOTS = {
    "front": ("Pareto front", "The trials that no other one beats in all metrics are red."),
    "history": ("History", "Each trial's score, and the best so far."),
    "importances": (
        "Importances",
        "How much each value decides if a trial is among the best (PED-ANOVA, Watanabe et al. 2023).",
    ),
    "parallel": ("Parallel coordinates", "Which values go with which score: the darkest lines are the best trials."),
    "slices": ("Slices", "The score against each value."),
    "intermediate": ("Intermediate scores", "Each trial's score by epoch. A line that ends early is a pruned trial."),
}
FEW_TRIALS = 50  # complete trials up to which importances are rough
MAX_LEGEND = 30  # trials in a legend
LOG_RATIO = 10  # ratio of the largest to the smallest score from which the axis is logarithmic


def write(study: optuna.Study, folder: Path, metrics: Sequence[str]) -> list[Path]:
    """Write `study.html`, which needs no network, and a PNG file for each plot; return the paths.

    Plots that need more trials are left out.

    Args:
        study: The study.
        folder: Folder for the files, which is created.
        metrics: Names of the metrics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_page(study, folder / "study.html", metrics), *_pictures(study, folder, metrics)]


def _page(study: optuna.Study, path: Path, metrics: Sequence[str]) -> Path:
    import plotly.io

    sections = []
    script: bool | str = True  # plotly.js is included once: the page works offline
    for name, figure in _render(_drawings(study, metrics, optuna.visualization)):
        figure.update_layout(template="plotly_white", title=None, margin={"t": 30}, height=460)
        if name == "parallel":
            figure.update_layout(plot_bgcolor="#dfe3e8")  # the lines of the worst are white
        if name in _log_scale_plots(study):
            figure.update_yaxes(type="log")
        if name == "intermediate" and len(figure.data) > MAX_LEGEND:
            figure.update_layout(showlegend=False)
        body = plotly.io.to_html(figure, full_html=False, include_plotlyjs=script, config={"displaylogo": False})
        heading, description = PLOTS[name]
        if name == "importances" and (count := len(_complete(study))) <= FEW_TRIALS:
            description += f" From {count} trials, the order is rough."
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


def _pictures(study: optuna.Study, folder: Path, metrics: Sequence[str]) -> Iterator[Path]:
    import matplotlib as mpl

    with mpl.rc_context({"figure.figsize": (11, 5), "figure.dpi": 110, "savefig.bbox": "tight"}):
        from matplotlib import pyplot

        backend = mpl.get_backend()
        pyplot.switch_backend("agg")
        try:
            for name, axes in _render(_drawings(study, metrics, optuna.visualization.matplotlib)):
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
    scores = [trial.values[0] for trial in trials if trial.values]
    scores += [score for trial in trials for score in trial.intermediate_values.values()]
    wide = scores and min(scores) > 0 and max(scores) > LOG_RATIO * min(scores)
    return ("history", "slices", "intermediate") if wide else ()


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return list(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _drawings(study: optuna.Study, metrics: Sequence[str], plots: Any) -> dict[str, Drawing]:
    complete = _complete(study)
    reported = any(trial.intermediate_values for trial in study.get_trials(deepcopy=False))
    # Of several metrics, all plots but the front show the first.
    options: dict[str, Any] = {"target_name": metrics[0]}
    if len(metrics) > 1:
        options["target"] = lambda trial: trial.values[0]
    drawings: dict[str, Drawing] = {}
    if complete:
        if 2 <= len(metrics) <= 3:
            drawings["front"] = lambda: plots.plot_pareto_front(study, target_names=[*metrics])
        drawings["history"] = lambda: plots.plot_optimization_history(study, **options)
        if len(complete) > 2:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            drawings["importances"] = lambda: plots.plot_param_importances(study, evaluator=evaluator, **options)
        drawings["parallel"] = lambda: plots.plot_parallel_coordinate(study, **options)
        drawings["slices"] = lambda: plots.plot_slice(study, **options)
    if reported:
        drawings["intermediate"] = lambda: plots.plot_intermediate_values(study)
    return drawings
