"""The table of scores: every user reads its rows, so that a new score is a row, a function and a test."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from harness.experiment.scores import (
    KID,
    MODE_KL,
    PRIMARY_SCORES,
    SCORES,
    PrimaryScore,
    Score,
    described_choices,
    markdown_table,
    primaries_in,
    primary_of,
    searchable,
)
from harness.quality import modes, scores
from harness.results.compare import Comparison, Row, curves
from harness.results.compare.report import _line_chart
from harness.tracking import views

from ..commands import Harness, run_named

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
TOY = Score(
    "toy",
    "norm",
    digits=1,
    better="higher",
    primary="kid",
    meaning="mean norm of the generated features",
    perfect="the reference",
    reading="contrast",
    secondary=True,
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Score:
    """A new score: its row and its function, and nothing else."""
    monkeypatch.setitem(SCORES, "toy", TOY)
    monkeypatch.setitem(scores.FUNCTIONS, "toy", lambda inputs: inputs.generated.norm(dim=1).mean().item())
    return TOY


@pytest.fixture
def help_of_tune(toy: Score) -> Iterator[str]:
    """The help of `tune`, whose options are declared when its module is imported."""
    from harness.cli import tune

    command = importlib.reload(tune).tune
    with click.Context(command, info_name="tune", max_content_width=110) as context:
        text = command.get_help(context)
    yield " ".join(text.split())
    SCORES.pop("toy")
    importlib.reload(tune)


@pytest.mark.parametrize("primary", PRIMARY_SCORES, ids=lambda primary: primary.key)
def test_the_docs_have_the_table(primary: PrimaryScore) -> None:
    table = markdown_table(primary)
    assert table in METRICS.read_text(encoding="utf-8"), f"replace the table in docs/metrics.md by\n\n{table}\n"


def test_every_score_has_a_function_and_every_function_a_row() -> None:
    assert tuple(scores.FUNCTIONS) == tuple(score.key for score in KID.scores)
    assert tuple(modes.FUNCTIONS) == tuple(score.key for score in MODE_KL.scores)
    assert [key for key, score in SCORES.items() if key != score.key] == []


@pytest.mark.parametrize("primary", PRIMARY_SCORES, ids=lambda primary: primary.key)
def test_a_primary_score_ranks_lowest_first_and_can_be_searched_by(primary: PrimaryScore) -> None:
    assert primary.score.better == "lower"
    assert primary.score.primary == primary.key
    assert primary.key in primary.searchable
    assert primary.shown[0] == primary.score
    assert primary.score not in primary.secondary


def test_a_score_without_a_direction_cannot_be_searched_by() -> None:
    assert "memorisation" not in searchable()
    with pytest.raises(ValueError, match="score x: better is 'near 1', which cannot be searched"):
        Score("x", "x", 3, "near 1", "kid", meaning="", perfect="", reading="")


def test_what_is_said_of_scores() -> None:
    assert described_choices() == "kid, frechet, density, coverage or class_kl; mode_kl or modes for stacked-mnist"
    assert (KID.better, MODE_KL.better) == ("lower is better", "lower is better for mode KL, higher for modes")
    metrics = {"test/kid": 0.01634, "test/kid_se": 0.0023, "test/frechet": 0.531, "test/mode_kl": 3.4, "test/modes": 99}
    assert KID.format(metrics, "test") == "KID 0.0163 ± 0.0023  Frechet 0.53"
    assert KID.format(metrics, "test", error=False) == "KID 0.0163  Frechet 0.53"
    assert MODE_KL.format(metrics, "test") == "mode KL 3.4000  modes 99"
    assert [SCORES[key].direction for key in ("kid", "coverage", "modes")] == ["minimize", "maximize", "maximize"]


def test_the_primary_score_follows_from_the_data_set_and_from_metrics() -> None:
    assert [primary_of(name) for name in ("mnist", "stacked-mnist", "folder", None)] == [KID, MODE_KL, KID, KID]
    assert primaries_in(["loss/generator", "test/mode_kl"]) == [MODE_KL]
    assert primaries_in(["test/kid", "quality/mode_kl"]) == [KID, MODE_KL]
    assert primaries_in([]) == [KID]


def test_charts_have_the_scale_of_the_score() -> None:
    curve = {"quality/modes": {"run": {1: 10.0, 2: 900.0}}, "quality/mode_kl": {"run": {1: 3.0, 2: 0.03}}}
    scales = {}
    for metric, drawn in curve.items():
        (run,) = drawn
        row = Row(_Run(run), _Run(run))
        scales[metric] = _line_chart(Comparison([row], {MODE_KL: None}, []), metric, drawn).layout.yaxis.type
    assert scales == {"quality/modes": "linear", "quality/mode_kl": "log"}
    charts = {chart.get("metricKey"): chart for chart in views.experiment_state([], [])["compareRunCharts"]}
    assert {charts[f"{place}/kid"]["scaleType"] for place in ("quality", "best", "trial")} == {"log"}
    assert charts["quality/frechet"]["scaleType"] == "log"


class _Run:
    """As much of a run as a curve is drawn of."""

    def __init__(self, name: str) -> None:
        self.info = self
        self.run_id = self.run_name = name


def test_a_new_score_is_a_row_and_a_function(harness: Harness, toy: Score) -> None:
    held_out = ("--set", "data.validation=10000", "--set", "track.score_every=1", "--epochs", "1")
    for name, rate in (("one", "1e-3"), ("two", "2e-3")):
        said = harness(
            "run", "tiny.yaml", *held_out, "--name", name, "--set", f"optimizer.lr={rate}", "--no-system-metrics"
        )
        assert said.code == 0, said.err
        assert f"norm {run_named(name).data.metrics['test/toy']:.1f}" in said.out
    metrics = run_named("one").data.metrics
    assert {"quality/toy", "test/toy"} <= metrics.keys()
    evaluated = harness("evaluate", "one").out
    assert "norm" in next(line for line in evaluated.splitlines() if "epoch" in line).split()
    assert f"{metrics['test/toy']:.1f}" in evaluated
    rows = json.loads(harness("evaluate", "one", "--json").out)
    assert rows[1]["scores"]["toy"] == pytest.approx(metrics["test/toy"])
    for command in (("compare", "one", "two"), ("runs",)):
        said = harness(*command)
        assert "norm" in next(line for line in said.out.splitlines() if "name" in line).split()
        assert all(f"{run_named(name).data.metrics['test/toy']:.1f}" in said.out for name in ("one", "two"))
    assert "quality/toy" in curves.other_metrics()
    shown = views.experiment_state([run_named("one")], [])
    assert "metrics.`test/toy`" in shown["selectedColumns"]
    assert "quality/toy" in {chart.get("metricKey") for chart in shown["compareRunCharts"]}


def test_a_study_can_search_by_a_new_score(harness: Harness, toy: Score) -> None:
    planned = harness("tune", "tiny.yaml", "--metric", "toy", "--dry-run")
    assert planned.code == 0, planned.err
    assert "toy on the validation images" in planned.out
    assert "higher is better" in planned.out
    refused = harness("tune", "tiny.yaml", "--metric", "memorisation")
    assert refused.code == 2
    assert refused.err == (
        "harness: --metric memorisation: expected one of "
        "kid, frechet, density, coverage, class_kl, mode_kl, modes, toy, seconds, images, parameters\n"
    )


def test_the_help_of_tune_lists_a_new_score(help_of_tune: str) -> None:
    assert "kid, frechet, density, coverage, class_kl or toy; mode_kl or modes for stacked-mnist." in help_of_tune
