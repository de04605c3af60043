"""The axes of a comparison's parallel coordinates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.experiment.scores import KID
from harness.results.compare.coordinates import coordinates
from harness.results.compare.selection import Comparison, Row

SCORES = (0.01, 0.02, 0.5)
PARAMS = (
    {"optimizer.lr": "0.001", "objective.kind": "hinge", "generator.latent": "16"},
    {"optimizer.lr": "0.002", "objective.kind": "wgan", "generator.latent": "16", "data.subset": "500"},
    {"optimizer.lr": "0.004", "objective.kind": "hinge", "generator.latent": "16", "data.subset": "None"},
)


def _axes(scores: tuple[float, ...] = SCORES, searched: dict[str, bool] | None = None) -> dict[str, Any]:
    rows = []
    for index, (params, score) in enumerate(zip(PARAMS, scores, strict=True)):
        info = SimpleNamespace(run_name=f"run {index}", run_id=str(index), status="FINISHED")
        run: Any = SimpleNamespace(info=info, data=SimpleNamespace(params=params, metrics={"test/kid": score}, tags={}))
        rows.append(Row(run, run))
    differ = ["optimizer.lr", "objective.kind", "data.subset"]
    figure = coordinates(Comparison(rows, {KID: "test/kid"}, differ, searched=searched or {}))
    return {axis.label: axis for axis in figure.data[0].dimensions}


def test_a_category_is_an_axis_too_and_a_missing_value_is_one() -> None:
    kind, subset = _axes()["kind"], _axes()["subset"]
    assert [kind.ticktext[index] for index in kind["values"]] == ["hinge", "wgan", "hinge"]
    assert [subset.ticktext[index] for index in subset["values"]] == ["-", "500", "None"]


def test_a_searched_param_is_an_axis_where_it_does_not_differ() -> None:
    assert list(_axes()) == ["lr", "kind", "subset", "KID"]
    assert list(_axes(searched={"generator.latent": True, "optimizer.lr": True})) == [
        "latent",
        "lr",
        "kind",
        "subset",
        "KID",
    ]


def test_a_score_that_spans_more_than_a_decade_is_on_a_logarithmic_axis() -> None:
    axis = _axes()["KID"]
    assert axis["values"] == pytest.approx([-2, -1.69897, -0.30103])
    assert axis.tickvals[0] == pytest.approx(-2)
    assert axis.ticktext[0] == "0.01"
    assert "0.1" in axis.ticktext
    assert _axes((0.01, 0.02, 0.05))["KID"]["values"] == (0.01, 0.02, 0.05)
    assert _axes((-0.01, 0.02, 0.5))["KID"]["values"] == (-0.01, 0.02, 0.5)


def test_what_was_searched_on_a_logarithmic_scale_is_drawn_on_one() -> None:
    assert _axes()["lr"]["values"] == (0.001, 0.002, 0.004)
    assert _axes(searched={"optimizer.lr": True})["lr"]["values"] == pytest.approx([-3, -2.69897, -2.39794])
