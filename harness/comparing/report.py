"""A comparison as one page of HTML that opens anywhere: no network, light and dark, colours for everybody's eyes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from harness import pictures
from harness._version import __version__
from harness.comparing import table
from harness.comparing.curves import FIRST, Curve
from harness.comparing.selection import Comparison, Row
from harness.comparing.tiles import Tile
from harness.tracking import Store

# Okabe and Ito (2008), "Color Universal Design", without its yellow and black, which vanish on one of the two grounds.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
DASHES = ("solid", "dash", "dot", "dashdot")  # a second sign, once the colours repeat
SPAN = 10  # values that differ by so large a factor are drawn on a logarithmic axis
PARAMS = 12  # columns of the table, at most; a list below it has all


def write(
    path: Path,
    store: Store,
    comparison: Comparison,
    tiles: Sequence[Tile],
    curves: Mapping[str, Mapping[str, Curve]],
    *,
    notices: Sequence[str],
    command: str,
) -> None:
    """Write the page, whole or not at all. command: what made it, for its last line."""
    title = f"{len(comparison.rows)} runs compared"
    figures = _figures(comparison, curves)
    body = [
        f"<h1>{title}</h1>",
        "".join(f'<p class="notice">{escape(notice)}</p>' for notice in notices),
        _table(store, comparison),
        _samples(comparison, tiles),
        _curves(figures),
        _all_params(comparison),
        _end(store, comparison, command),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<style>{_beside('page.css')}</style></head><body>{''.join(body)}<script>{_beside('page.js')}</script></body></html>"
    )
    with pictures.writing(path, "--html"), pictures.whole_or_nothing(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _table(store: Store, comparison: Comparison) -> str:
    params = comparison.params[:PARAMS]
    header, *lines = table.as_cells(comparison, params)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    rows = []
    for index, (row, cells) in enumerate(zip(comparison.rows, lines, strict=True)):
        name, *others = cells
        link = store.link(row.run)
        shown = f'<a href="{escape(link)}">{escape(name)}</a>' if link else escape(name)
        swatch = f'<span class="swatch" style="background:{colour(index)}"></span>'
        rows.append(f"<tr><td>{swatch}{shown}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in others)}</tr>")
    more = len(comparison.params) - len(params)
    rest = f" {more} more params differ: see all params below." if more else ""
    return (
        f'<section><div class="wide"><table id="runs"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        f'</table></div><p class="said">{escape(table.footer(comparison))}. A click on a heading sorts.{rest}</p>'
        "</section>"
    )


def _samples(comparison: Comparison, tiles: Sequence[Tile]) -> str:
    order = {row.run.info.run_id: index for index, row in enumerate(comparison.rows)}
    shown = []
    for tile in tiles:
        name, *lines = tile.caption
        mark = colour(order[tile.row.run.info.run_id])
        picture = '<div class="none"></div>'
        if tile.picture is not None:
            picture = f'<img src="{_data_uri(tile.picture)}" alt="samples of {escape(name)}">'
        caption = "".join(f"<br>{escape(line)}" for line in lines)
        shown.append(
            f'<div class="tile" style="border-color:{mark}">{picture}<p><b>{escape(name)}</b>{caption}</p></div>'
        )
    return f'<section id="samples"><h2>Samples</h2><div class="tiles">{"".join(shown)}</div></section>'


def _data_uri(picture: pictures.Picture) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _figures(comparison: Comparison, curves: Mapping[str, Mapping[str, Curve]]) -> dict[str, Any]:
    """Plotly figures by what they show, in the order of the page."""
    figures = {metric: _lines(comparison, metric, drawn) for metric, drawn in curves.items() if any(drawn.values())}
    if coordinates := _coordinates(comparison):
        figures = {"params": coordinates, **figures}
    return figures


def _lines(comparison: Comparison, metric: str, curves: Mapping[str, Curve]) -> Any:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    values = [value for curve in curves.values() for value in curve.values() if math.isfinite(value)]
    for index, row in enumerate(comparison.rows):
        curve = curves.get(row.run.info.run_id)
        if not curve:
            continue
        dash = DASHES[index // len(PALETTE) % len(DASHES)]
        figure.add_scatter(
            x=list(curve),
            y=[value if math.isfinite(value) else None for value in curve.values()],
            name=escape(row.name),
            mode="lines+markers" if len(curve) < 30 else "lines",
            line={"color": colour(index), "dash": dash, "width": 2},
        )
    logarithmic = bool(values) and min(values) > 0 and max(values) > SPAN * min(values)
    figure.update_layout(
        height=380, hovermode="x unified", margin={"t": 20, "r": 20, "b": 50, "l": 70}, showlegend=True
    )
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title=metric, type="log" if logarithmic else "linear")
    return figure


def _coordinates(comparison: Comparison) -> Any:
    """Parallel coordinates over the numeric params that differ; None where there are too few of them, or of runs, or
    where scores do not compare.
    """
    from plotly import graph_objects

    if len(comparison.scores) != 1:
        return None
    rows = [row for row in comparison.rows if _score(row, comparison.score_of(row)) is not None]
    params = [path for path in comparison.params if all(_numeric(row, path) is not None for row in rows)][:8]
    if len(rows) < 3 or len(params) < 2:
        return None
    names = table.short(params, comparison.params)
    axes = [_axis(name, [_numeric(row, path) for row in rows]) for name, path in zip(names, params, strict=True)]
    axes.append(_axis(rows[0].ranking.label, [_score(row, comparison.score_of(row)) for row in rows]))
    line = {"color": axes[-1]["values"], "colorscale": [[0, PALETTE[4]], [1, PALETTE[1]]]}
    figure = graph_objects.Figure(graph_objects.Parcoords(dimensions=axes, line=line))
    figure.update_layout(height=380, margin={"t": 60, "r": 60, "b": 30, "l": 60})
    return figure


def _score(row: Row, score: str) -> float | None:
    own = row.score(score)
    return row.score(row.on_the_way) if own is None else own


def _numeric(row: Row, path: str) -> float | None:
    try:
        value = float(row.run.data.params[path])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    low, high = min(values), max(values)
    if low > 0 and high > SPAN * low:
        ticks = [low * (high / low) ** (index / 4) for index in range(5)]
        return {
            "label": name,
            "values": [math.log10(value) for value in values],
            "tickvals": [math.log10(tick) for tick in ticks],
            "ticktext": [f"{tick:.3g}" for tick in ticks],
        }
    return {"label": name, "values": list(values)}


def _curves(figures: Mapping[str, Any]) -> str:
    import plotly.io

    script: bool = True  # the library itself, once: nobody is asked to be online
    first: list[str] = []
    others: list[str] = []
    for name, figure in figures.items():
        identity = "figure-" + name.replace("/", "-")
        drawn = plotly.io.to_html(
            figure,
            full_html=False,
            include_plotlyjs=script,
            div_id=identity,
            config={"displaylogo": False, "responsive": True},
        )
        heading = "Params and score" if name == "params" else name
        (first if name in FIRST or name == "params" else others).append(f"<h3>{escape(heading)}</h3>{drawn}")
        script = False
    more = f"<details><summary>{len(others)} more curves</summary>{''.join(others)}</details>" if others else ""
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


def _end(store: Store, comparison: Comparison, command: str) -> str:
    ids = ", ".join(row.run.info.run_id for row in comparison.rows)
    link = ""
    if address := store.comparison_link([row.run for row in comparison.rows]):
        link = f' · <a href="{escape(address)}">the same runs in MLflow</a>'
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return (
        f"<footer><p>Made {made} by harness {escape(__version__)}: <code>{escape(command)}</code>{link}</p>"
        f"<p>Runs: {escape(ids)}</p></footer>"
    )
