"""A comparison as one HTML page that needs no network, in light and dark, with colours for colour-blind readers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from harness._version import __version__
from harness.experiment.scores import SCORES
from harness.files import atomic_write
from harness.formatting import format_count
from harness.media import pictures
from harness.results.compare import table
from harness.results.compare.coordinates import coordinates
from harness.results.compare.curves import Curve, first_metrics
from harness.results.compare.sample_grids import SampleGrid
from harness.results.compare.selection import Comparison
from harness.results.compare.style import colour, dash, line_svg, needs_log_axis
from harness.tracking import Store

MAX_PARAMS = 12  # columns of the table; a list below it has all params
MAX_TICKS = 12  # number of epochs that have a tick each


@dataclass(frozen=True)
class StudyPart:
    """What a page shows of a study.

    Attributes:
        name: Its name.
        verdict: How good its best trial is, in one sentence.
        sections: Its figures, as HTML.
        baseline_run_id: The run of the trial with the values of the experiment.
    """

    name: str
    verdict: str | None
    sections: Sequence[str]
    baseline_run_id: str | None


def write(
    path: Path,
    store: Store,
    comparison: Comparison,
    grids: Sequence[SampleGrid],
    curves: Mapping[str, Mapping[str, Curve]],
    *,
    notices: Sequence[str],
    command: str,
    study: StudyPart | None = None,
) -> None:
    """Write the page, completely or not at all.

    Args:
        path: The HTML file.
        store: The store.
        comparison: The runs.
        grids: Their sample grids.
        curves: For each metric and run id, the values by epoch.
        notices: Lines at the top of the page.
        command: The command in the last line of the page.
        study: What the page shows of the study whose trials are compared.

    Raises:
        HarnessError: The file cannot be written.
    """
    title = f"{len(comparison.rows)} runs compared" if study is None else f"Study {escape(study.name)}"
    figures = _figures(comparison, curves)
    body = [
        f"<h1>{title}</h1>",
        f'<p class="verdict">{escape(study.verdict)}</p>' if study and study.verdict else "",
        "".join(f'<p class="notice">{escape(message)}</p>' for message in notices),
        _table(store, comparison),
        _samples(comparison, _baseline_second(grids, study)),
        "" if study is None else f'<section id="study">{"".join(study.sections)}</section>',
        _curves(figures),
        _all_params(comparison),
        _footer(store, comparison, command),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<style>{_read_asset('page.css')}</style>{_plotly(figures, study)}</head>"
        f"<body>{''.join(body)}<script>{_read_asset('page.js')}</script></body></html>"
    )
    with pictures.report_write_errors(path, "--html"), atomic_write(path, parents=True) as fresh:
        fresh.write_text(page, encoding="utf-8")


def _plotly(figures: Mapping[str, Any], study: StudyPart | None) -> str:
    """The library of the figures, so that the page works offline."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>" if figures or (study and study.sections) else ""


def _baseline_second(grids: Sequence[SampleGrid], study: StudyPart | None) -> list[SampleGrid]:
    """The grids with that of the baseline beside that of the best run."""
    if study is None:
        return list(grids)
    first, others = list(grids[:1]), list(grids[1:])
    return first + sorted(others, key=lambda grid: grid.row.run.info.run_id != study.baseline_run_id)


def _read_asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _table(store: Store, comparison: Comparison) -> str:
    params = comparison.params[:MAX_PARAMS]
    header, *lines = table.as_cells(comparison, params)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    rows = []
    for index, (row, cells) in enumerate(zip(comparison.rows, lines, strict=True)):
        name, *others = cells
        link = store.link(row.run)
        cell = f'<a href="{escape(link)}">{escape(name)}</a>' if link else escape(name)
        rows.append(
            f"<tr><td>{line_svg(index, '27')}{cell}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in others)}</tr>"
        )
    more = len(comparison.params) - len(params)
    differ = format_count(more, "more param differs", "more params differ")
    rest = f" {differ}: see all params below." if more else ""
    return (
        f'<section><div class="wide"><table id="runs"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        f'</table></div><p class="note">{escape(table.footer(comparison))}. A click on a heading sorts.{rest}</p>'
        "</section>"
    )


def _samples(comparison: Comparison, grids: Sequence[SampleGrid]) -> str:
    order = {row.run.info.run_id: index for index, row in enumerate(comparison.rows)}
    tiles = []
    for grid in grids:
        name, *lines = grid.caption
        line = line_svg(order[grid.row.run.info.run_id], "100%")
        picture = '<div class="none"></div>'
        if grid.picture is not None:
            picture = f'<img src="{pictures.data_uri(grid.picture, optimize=True)}" alt="samples of {escape(name)}">'
        caption = "".join(f"<br>{escape(each)}" for each in lines)
        tiles.append(f'<div class="tile">{line}{picture}<p><b>{escape(name)}</b>{caption}</p></div>')
    return f'<section id="samples"><h2>Samples</h2><div class="tiles">{"".join(tiles)}</div></section>'


def _figures(comparison: Comparison, curves: Mapping[str, Mapping[str, Curve]]) -> dict[str, Any]:
    """Return the Plotly figures by metric, in the order of the page; `params` are the parallel coordinates."""
    figures = {
        metric: _line_chart(comparison, metric, by_run) for metric, by_run in curves.items() if any(by_run.values())
    }
    if found := coordinates(comparison):
        figures = {"params": found, **figures}
    return figures


def _line_chart(comparison: Comparison, metric: str, curves: Mapping[str, Curve]) -> Any:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    values = [value for curve in curves.values() for value in curve.values() if math.isfinite(value)]
    for index, row in enumerate(comparison.rows):
        curve = curves.get(row.run.info.run_id)
        if not curve:
            continue
        figure.add_scatter(
            x=list(curve),
            y=[value if math.isfinite(value) else None for value in curve.values()],
            name=escape(row.name),
            mode="lines+markers" if len(curve) < 30 else "lines",
            line={"color": colour(index), "dash": dash(index), "width": 2},
        )
    figure.update_layout(
        height=380, hovermode="x unified", margin={"t": 20, "r": 20, "b": 50, "l": 70}, showlegend=True
    )
    epochs = [epoch for curve in curves.values() for epoch in curve]
    few = bool(epochs) and max(epochs) - min(epochs) <= MAX_TICKS
    figure.update_xaxes(title="epoch", **({"tick0": 0, "dtick": 1} if few else {}))  # there is no epoch 1.5
    score = SCORES.get(metric.rpartition("/")[2])
    log = needs_log_axis(values) and (score is None or score.scale == "log")
    figure.update_yaxes(title=metric, type="log" if log else "linear")
    return figure


def _curves(figures: Mapping[str, Any]) -> str:
    import plotly.io

    first: list[str] = []
    others: list[str] = []
    for name, figure in figures.items():
        identity = "figure-" + name.replace("/", "-")
        chart = plotly.io.to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            div_id=identity,
            config={"displaylogo": False, "responsive": True},
        )
        heading = "Params and score" if name == "params" else name
        (first if name in first_metrics() or name == "params" else others).append(f"<h3>{escape(heading)}</h3>{chart}")
    more = (
        f"<details><summary>{format_count(len(others), 'more curve')}</summary>{''.join(others)}</details>"
        if others
        else ""
    )
    return f'<section id="curves"><h2>Curves</h2>{"".join(first) or "<p>No run has logged any.</p>"}{more}</section>'


def _all_params(comparison: Comparison) -> str:
    paths = dict.fromkeys(path for row in comparison.rows for path in row.run.data.params)
    head = "".join(f"<th>{escape(row.name)}</th>" for row in comparison.rows)
    differ = set(comparison.params)
    lines = []
    for path in paths:
        cells = "".join(f"<td>{escape(str(row.run.data.params.get(path, '-')))}</td>" for row in comparison.rows)
        lines.append(f"<tr{' class=differs' if path in differ else ''}><td>{escape(path)}</td>{cells}</tr>")
    return (
        "<section><details><summary>All params</summary>"
        f'<div class="wide"><table id="params"><thead><tr><th>param</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div></details></section>"
    )


def _footer(store: Store, comparison: Comparison, command: str) -> str:
    ids = ", ".join(row.run.info.run_id for row in comparison.rows)
    link = ""
    if address := store.comparison_link([row.run for row in comparison.rows]):
        link = f' · <a href="{escape(address)}">the same runs in MLflow</a>'
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return (
        f"<footer><p>Made {made} by harness {escape(__version__)}: <code>{escape(command)}</code>{link}</p>"
        f"<p>Runs: {escape(ids)}</p></footer>"
    )
