"""The page of a study's plots holds everything itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import plotly.io
import pytest

from harness.tuning import plots

from ..commands import loaded_by


@pytest.fixture
def study() -> optuna.Study:
    study = optuna.create_study()
    for number in range(4):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(0.0, 1.0)})
        study.tell(trial, float(number))
    return study


def test_the_page_loads_nothing(study: optuna.Study, tmp_path: Path) -> None:
    page, *pictures = plots.write(study, tmp_path, "kid")
    text = page.read_text(encoding="utf-8")
    assert loaded_by(text) == []
    assert text.count("plotly.js v") == 1, "the library is there, once"
    assert [path.name for path in pictures] == ["history.png", "importances.png", "parallel.png", "slices.png"]


def test_a_page_that_asks_a_cdn_would_be_found_out(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_html = plotly.io.to_html

    def from_a_cdn(figure: Any, **options: Any) -> Any:
        return to_html(figure, **{**options, "include_plotlyjs": "cdn" if options["include_plotlyjs"] else False})

    monkeypatch.setattr(plotly.io, "to_html", from_a_cdn)
    page = plots.write(study, tmp_path, "kid")[0].read_text(encoding="utf-8")
    (source,) = loaded_by(page)
    assert source.startswith("https://cdn.plot.ly/plotly-")
    assert "plotly.js v" not in page
