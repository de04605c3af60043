"""The page of a study, which works offline, and a PNG file for each of its figures."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from harness.media.pictures import Picture, data_uri
from harness.tuning.figures import figures

STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;background:#fff;color:#222}"
    ".verdict{font-size:1.15em;border-left:4px solid #E69F00;padding-left:.7em}"
    ".grids{display:flex;flex-wrap:wrap;gap:2em}figure{margin:0}figure img{width:320px;image-rendering:pixelated}"
)


def write(
    study: optuna.Study,
    folder: Path,
    metrics: Sequence[str],
    verdict: str | None = None,
    grids: Mapping[str, Picture] | None = None,
) -> list[Path]:
    """Write `study.html`, which needs no network, and a PNG file for each figure; return the paths.

    Figures that need more trials are left out.

    Args:
        study: The study.
        folder: Folder for the files, which is created.
        metrics: Names of the metrics.
        verdict: How good the best trial is, in one sentence.
        grids: Sample grids by their captions: of the best trial and of the baseline.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "study.html"
    page.write_text(_page(study, metrics, verdict, grids or {}), encoding="utf-8")
    return [page, *_pictures(study, folder, metrics)]


def _page(study: optuna.Study, metrics: Sequence[str], verdict: str | None, grids: Mapping[str, Picture]) -> str:
    title = f"Study {html.escape(study.study_name)}"
    lead = f"<p class=verdict>{html.escape(verdict)}</p>" if verdict else ""
    pictures = "".join(
        f'<figure><img src="{data_uri(picture, optimize=True)}" alt="samples">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, picture in grids.items()
    )
    samples = f"<h2>Samples</h2><div class=grids>{pictures}</div>" if pictures else ""
    body = "".join(sections(study, metrics)) or "<p>No trial has ended yet.</p>"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1>{lead}{samples}{body}</html>"
    )


def sections(
    study: optuna.Study, metrics: Sequence[str], *, script: bool = True, without: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the figures of a study as HTML, each with its heading and text.

    Args:
        study: The study.
        metrics: Names of the metrics.
        script: Include Plotly's library, once: the page then works offline.
        without: Names of figures that are left out.
    """
    import plotly.io

    include: bool | str = script
    for figure in figures(study, metrics, "plotly"):
        if figure.name in without:
            continue
        config = {"displaylogo": False, "responsive": True}
        body = plotly.io.to_html(figure.drawing, full_html=False, include_plotlyjs=include, config=config)
        yield f"<h2>{figure.heading}</h2><p>{html.escape(figure.text)}</p>{body}"
        include = False


def _pictures(study: optuna.Study, folder: Path, metrics: Sequence[str]) -> Iterator[Path]:
    import matplotlib as mpl

    with mpl.rc_context({"figure.figsize": (11, 5), "figure.dpi": 110, "savefig.bbox": "tight"}):
        from matplotlib import pyplot

        backend = mpl.get_backend()
        pyplot.switch_backend("agg")
        try:
            for figure in figures(study, metrics, "matplotlib"):
                path = folder / f"{figure.name}.png"
                _canvas(figure.drawing).savefig(path)
                pyplot.close("all")
                yield path
        finally:
            pyplot.switch_backend(backend)


def _canvas(axes: Any) -> Any:
    """The Matplotlib figure of axes, or of an array of axes."""
    return axes.figure if hasattr(axes, "figure") else axes.flat[0].figure
