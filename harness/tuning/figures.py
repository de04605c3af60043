"""The figures of a study: Optuna's plots, with the baseline and pruned trials marked, and the lineage of a population.

Each is drawn twice, by the same code as far as possible: for a page by Plotly, and as a picture by Matplotlib.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from harness.results.compare.style import PALETTE, needs_log_axis
from harness.tuning import lineage
from harness.tuning.lineage import GREY
from harness.tuning.trial_values import baseline_trial

Backend = Literal["plotly", "matplotlib"]

TEXTS = {
    "front": ("Pareto front", "The trials that no other one beats in all metrics are red."),
    "history": ("History", "Each trial's score, and the best so far."),
    "importances": (
        "Importances",
        "How much each value decides if a trial is among the best (PED-ANOVA, Watanabe et al. 2023).",
    ),
    "parallel": ("Parallel coordinates", "Which values go with which score: the darkest lines are the best trials."),
    "slices": ("Slices", "The score against each value. The star is the baseline: the values of the experiment."),
    "intermediate": ("Learning curves", "Each trial's score by epoch. Pruned trials are grey."),
    "lineage": (
        "Lineage",
        "The score of every member by epoch, and the values that it was trained with. Orange: the weights of the best "
        "member, back to the first epoch. Dotted: a member copies another one.",
    ),
}
FEW_TRIALS = 50  # complete trials up to which importances are rough
MAX_LEGEND = 30  # trials in a legend
BASELINE = PALETTE[4]


@dataclass(frozen=True)
class Figure:
    """A figure of a study.

    Attributes:
        name: Its key in TEXTS, and the name of its picture.
        drawing: A Plotly figure, or Matplotlib axes.
        text: What it shows.
    """

    name: str
    drawing: Any
    text: str

    @property
    def heading(self) -> str:
        """Its heading."""
        return TEXTS[self.name][0]


def figures(study: optuna.Study, metrics: Sequence[str], backend: Backend) -> Iterator[Figure]:
    """Draw all figures of a study that there are enough trials for.

    Args:
        study: The study.
        metrics: Names of the metrics.
        backend: plotly or matplotlib.
    """
    finish = _finish_plotly if backend == "plotly" else _finish_matplotlib
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, draw in _drawings(study, metrics, backend).items():
            try:
                drawing = draw()
            except (ValueError, RuntimeError):  # too few trials, or all have the same value
                continue
            if drawing is None:
                continue
            finish(name, drawing, study, metrics[0])
            text = TEXTS[name][1]
            if name == "importances" and (count := len(_complete(study))) <= FEW_TRIALS:
                text += f" From {count} trials, the order is rough."
            yield Figure(name, drawing, text)


def _drawings(study: optuna.Study, metrics: Sequence[str], backend: Backend) -> dict[str, Callable[[], Any]]:
    plots = optuna.visualization if backend == "plotly" else optuna.visualization.matplotlib
    complete = _complete(study)
    reported = any(trial.intermediate_values for trial in study.get_trials(deepcopy=False))
    # Of several metrics, all plots but the front show the first.
    options: dict[str, Any] = {"target_name": metrics[0]}
    if len(metrics) > 1:
        options["target"] = lambda trial: trial.values[0]
    drawings: dict[str, Callable[[], Any]] = {}
    if complete and not lineage.is_population(study):  # whose values change while they are trained
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
    drawings["lineage"] = lambda: lineage.draw(study, metrics[0], backend)
    return drawings


def _finish_plotly(name: str, figure: Any, study: optuna.Study, metric: str) -> None:
    height = figure.layout.height or 460
    figure.update_layout(template="plotly_white", title=None, margin={"t": 30}, height=height)
    if name == "parallel":
        figure.update_layout(plot_bgcolor="#dfe3e8")  # the lines of the worst are white
    if name in _log_scale_plots(study):
        figure.update_yaxes(type="log")
    if name == "intermediate":
        pruned = _pruned_names(study)
        for trace in figure.data:
            if trace.name in pruned:
                trace.update(line={"color": GREY}, marker={"color": GREY})
        figure.update_layout(showlegend=len(figure.data) <= MAX_LEGEND, xaxis_title="epoch", yaxis_title=metric)
    baseline = baseline_trial(study)
    if name == "slices" and baseline is not None and baseline.values:
        for path, axis in _slice_axes(figure):
            if path in baseline.params:
                figure.add_scatter(
                    x=[_as_drawn(baseline, path)],
                    y=[baseline.values[0]],
                    mode="markers",
                    marker={"symbol": "star", "size": 16, "color": BASELINE, "line": {"color": "white", "width": 1}},
                    name="baseline",
                    showlegend=False,
                    **axis,
                )


def _as_drawn(trial: FrozenTrial, path: str) -> Any:
    """The value of a param as Optuna draws it: a choice as its Python text."""
    value = trial.params[path]
    return repr(value) if isinstance(trial.distributions[path], CategoricalDistribution) else value


def _slice_axes(figure: Any) -> list[tuple[str, dict[str, str]]]:
    """The params of Optuna's slice plot, each with the axes of its part."""
    found = []
    for trace in list(figure.data):
        number = (trace.xaxis or "x")[1:]
        title = figure.layout[f"xaxis{number}"].title.text
        found.append((title, {"xaxis": f"x{number}", "yaxis": trace.yaxis or "y"}))
    return found


def _finish_matplotlib(name: str, axes: Any, study: optuna.Study, metric: str) -> None:
    every = [axes] if hasattr(axes, "figure") else list(axes.flat)
    if name in _log_scale_plots(study):
        for one in every:
            one.set_yscale("log")
    if name == "intermediate":
        pruned = _pruned_names(study)
        for line in every[0].lines:
            if line.get_label() in pruned:
                line.set_color(GREY)
        every[0].set(xlabel="epoch", ylabel=metric)
        if len(every[0].lines) > MAX_LEGEND and (legend := every[0].get_legend()):
            legend.remove()
    baseline = baseline_trial(study)
    if name == "slices" and baseline is not None and baseline.values:
        for one in every:
            if one.get_xlabel() in baseline.params:
                x = _as_drawn(baseline, one.get_xlabel())
                one.scatter([x], [baseline.values[0]], marker="*", s=220, color=BASELINE, edgecolor="white", zorder=5)


def _pruned_names(study: optuna.Study) -> set[str]:
    """The names of pruned trials in Optuna's plots."""
    pruned = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.PRUNED]
    return {f"Trial{trial.number}" for trial in pruned}


def _log_scale_plots(study: optuna.Study) -> tuple[str, ...]:
    """The plots with a logarithmic vertical axis: plots of scores, if all are positive and far apart."""
    trials = study.get_trials(deepcopy=False)
    scores = [trial.values[0] for trial in trials if trial.values]
    scores += [score for trial in trials for score in trial.intermediate_values.values()]
    return ("history", "slices", "intermediate") if needs_log_axis(scores) else ()


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return list(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
