"""The lineage of a population: scores and values of all members by epoch, and whose weights the best member has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial

from harness.experiment.schedules import values_at
from harness.experiment.tags import TrialAttribute
from harness.results.compare.style import PALETTE, needs_log_axis
from harness.tuning.pbt import ancestors
from harness.tuning.trial_values import best_trial

GREY, BEST = "#b8bec6", PALETTE[0]


@dataclass(frozen=True)
class Lineage:
    """The history of a population.

    Attributes:
        panels: By name of a quantity, its values by member and epoch: the metric first, then each scheduled value.
        copies: By member, the epochs after which it copied, each with the member that it copied.
        best: Whose weights the best member has: pairs of a first epoch and a member.
        last: The last epoch of any member.
    """

    panels: Mapping[str, Mapping[int, Mapping[int, float]]]
    copies: Mapping[int, list[tuple[int, int]]]
    best: list[tuple[int, int]]
    last: int

    def best_values(self, panel: str) -> dict[int, float]:
        """Return the values of a panel along the weights of the best member, by epoch."""
        ends = [start - 1 for start, _ in self.best[1:]] + [self.last]
        found: dict[int, float] = {}
        for (start, member), end in zip(self.best, ends, strict=True):
            values = self.panels[panel].get(member, {})
            found |= {epoch: values[epoch] for epoch in range(start, end + 1) if epoch in values}
        return found

    def steps(self, panel: str) -> list[tuple[tuple[int, float], tuple[int, float]]]:
        """Return the copies that a panel shows: the point of the copied member, and the next one of the copy."""
        values, found = self.panels[panel], []
        for member, copies in self.copies.items():
            for epoch, parent in copies:
                after = [later for later in values.get(member, {}) if later > epoch]
                if after and epoch in values.get(parent, {}):
                    found.append(((epoch, values[parent][epoch]), (min(after), values[member][min(after)])))
        return found


def is_population(study: optuna.Study) -> bool:
    """Whether the trials of a study are a population."""
    return any(TrialAttribute.SCHEDULE in trial.user_attrs for trial in study.get_trials(deepcopy=False))


def load(study: optuna.Study, metric: str) -> Lineage | None:
    """Return the lineage of a population; None for another study."""
    members = [trial for trial in study.get_trials(deepcopy=False) if TrialAttribute.SCHEDULE in trial.user_attrs]
    members = [trial for trial in members if trial.intermediate_values]
    if not members:
        return None
    last = max(max(trial.intermediate_values) for trial in members)
    panels: dict[str, dict[int, dict[int, float]]] = {
        metric: {trial.number: dict(trial.intermediate_values) for trial in members}
    }
    copies = {trial.number: _copies(trial) for trial in members}
    for trial in members:
        for path, stored in trial.user_attrs.get(TrialAttribute.VALUES, {}).items():
            changes = {path: {int(epoch): float(value) for epoch, value in stored.items()}}
            values = {epoch: values_at(changes, epoch)[path] for epoch in range(1, max(trial.intermediate_values) + 1)}
            panels.setdefault(path, {})[trial.number] = values
    best = best_trial(study)
    found = [(1, members[0].number)] if best is None else ancestors(copies, best.number, last)
    return Lineage(panels, copies, found, last)


def _copies(trial: FrozenTrial) -> list[tuple[int, int]]:
    return [(int(epoch), int(parent)) for epoch, parent in trial.user_attrs.get(TrialAttribute.PARENTS, [])]


def draw(study: optuna.Study, metric: str, backend: Literal["plotly", "matplotlib"]) -> Any:
    """Draw the lineage: a Plotly figure or Matplotlib axes; None if the study is no population."""
    lineage = load(study, metric)
    if lineage is None:
        return None
    return _draw_plotly(lineage) if backend == "plotly" else _draw_matplotlib(lineage)


def _draw_plotly(lineage: Lineage) -> Any:
    from plotly.subplots import make_subplots

    names = list(lineage.panels)
    figure = make_subplots(rows=len(names), cols=1, shared_xaxes=True, vertical_spacing=0.04)
    for row, name in enumerate(names, start=1):
        for member, values in lineage.panels[name].items():
            text = f"trial {member}"
            line = {"color": GREY, "width": 1.5}
            figure.add_scatter(
                x=list(values), y=list(values.values()), name=text, mode="lines", line=line, row=row, col=1
            )
        for (x, y), (x2, y2) in lineage.steps(name):
            line = {"color": GREY, "width": 1, "dash": "dot"}
            figure.add_scatter(x=[x, x2], y=[y, y2], mode="lines", line=line, hoverinfo="skip", row=row, col=1)
        best = lineage.best_values(name)
        line = {"color": BEST, "width": 3}
        figure.add_scatter(x=list(best), y=list(best.values()), name="best", mode="lines", line=line, row=row, col=1)
        wide = _is_wide(lineage, name)
        figure.update_yaxes(title=name, type="log" if wide else "linear", row=row, col=1)
    figure.update_xaxes(title="epoch", row=len(names), col=1)
    figure.update_layout(height=240 * len(names) + 80, showlegend=False)
    return figure


def _draw_matplotlib(lineage: Lineage) -> Any:
    from matplotlib import pyplot

    names = list(lineage.panels)
    figure, axes = pyplot.subplots(len(names), 1, sharex=True, figsize=(11, 2.4 * len(names) + 1), squeeze=False)
    for name, one in zip(names, axes[:, 0], strict=True):
        for values in lineage.panels[name].values():
            one.plot(list(values), list(values.values()), color=GREY, linewidth=1.5)
        for (x, y), (x2, y2) in lineage.steps(name):
            one.plot([x, x2], [y, y2], color=GREY, linewidth=1, linestyle=":")
        best = lineage.best_values(name)
        one.plot(list(best), list(best.values()), color=BEST, linewidth=3)
        one.set_ylabel(name)
        if _is_wide(lineage, name):
            one.set_yscale("log")
    axes[-1, 0].set_xlabel("epoch")
    figure.align_ylabels()
    return axes


def _is_wide(lineage: Lineage, name: str) -> bool:
    values = [value for each in lineage.panels[name].values() for value in each.values()]
    return needs_log_axis(values)
