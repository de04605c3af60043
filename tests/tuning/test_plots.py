"""The page and the pictures of a study: complete in themselves, with the baseline and pruned trials marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import plotly.io
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from harness.errors import HarnessError
from harness.experiment.tags import TrialAttribute
from harness.tuning import lineage, plots
from harness.tuning.figures import BASELINE, figures
from harness.tuning.lineage import GREY
from harness.tuning.trial_grids import artifact_folder, open_artifact_store, store_grid

from ..commands import loaded_by

SPACE = {"lr": FloatDistribution(0.0, 1.0), "objective.kind": CategoricalDistribution(("hinge", "lsgan"))}
GRID = np.zeros((30, 30), dtype=np.uint8)


@pytest.fixture
def study() -> optuna.Study:
    """Five trials of three epochs: the first has the baseline values, the last is pruned."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"lr": 0.5, "objective.kind": "hinge"}, user_attrs={TrialAttribute.CUSTOM: True})
    for number in range(5):
        trial = study.ask(dict(SPACE))
        for epoch in (1, 2, 3):
            trial.report(float(number) + 1 / epoch, epoch)
        if number == 4:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, float(number))
    return study


@pytest.fixture
def population() -> optuna.Study:
    """Three members: after epoch 2, member 2 copied member 0; it is the best."""
    study = optuna.create_study()
    for number in range(3):
        trial = study.ask({"lr": FloatDistribution(0.0, 1.0)})
        for epoch in (1, 2, 3, 4):
            trial.report(number + 1 / epoch, epoch)
        values = {"1": 0.1 * (number + 1), **({"3": 0.08} if number == 2 else {})}
        schedule = {"1": 0.1, "3": 0.08} if number == 2 else values
        trial.set_user_attr(TrialAttribute.SCHEDULE, {"optimizer.lr": schedule})
        trial.set_user_attr(TrialAttribute.VALUES, {"optimizer.lr": values})
        if number == 2:
            trial.set_user_attr(TrialAttribute.PARENTS, [[2, 0]])
        study.tell(trial, -1.0 if number == 2 else float(number))
    return study


def test_the_page_loads_nothing(study: optuna.Study, tmp_path: Path) -> None:
    page, *pictures = plots.write(study, tmp_path, ["kid"], "trial 0 is <best>", {"trial 0 (best)": GRID})
    text = page.read_text(encoding="utf-8")
    assert loaded_by(text) == []
    assert 'src="data:image/png;base64,' in text
    assert text.count("plotly.js v") == 1, "the library is there, once"
    assert "trial 0 is &lt;best&gt;" in text
    assert [path.stem for path in pictures] == ["history", "importances", "parallel", "slices", "intermediate"]


def test_a_page_that_asks_a_cdn_would_be_found_out(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_html = plotly.io.to_html

    def from_a_cdn(figure: Any, **options: Any) -> Any:
        return to_html(figure, **{**options, "include_plotlyjs": "cdn" if options["include_plotlyjs"] else False})

    monkeypatch.setattr(plotly.io, "to_html", from_a_cdn)
    page = plots.write(study, tmp_path, ["kid"])[0].read_text(encoding="utf-8")
    (source,) = loaded_by(page)
    assert source.startswith("https://cdn.plot.ly/plotly-")
    assert "plotly.js v" not in page


def test_slices_mark_the_baseline_in_every_part(study: optuna.Study) -> None:
    drawn = {figure.name: figure.drawing for figure in figures(study, ["kid"], "plotly")}
    stars = [trace for trace in drawn["slices"].data if trace.name == "baseline"]
    assert sorted((str(star.x[0]), star.y[0]) for star in stars) == [("'hinge'", 0.0), ("0.5", 0.0)]
    assert len({star.xaxis for star in stars}) == 2
    axes = {figure.name: figure.drawing for figure in figures(study, ["kid"], "matplotlib")}["slices"]
    from matplotlib.colors import to_rgba

    colours = [tuple(each.get_facecolors()[0]) for one in axes.flat for each in one.collections]
    assert colours.count(to_rgba(BASELINE)) == 2


def test_learning_curves_of_pruned_trials_are_grey(study: optuna.Study) -> None:
    drawn = {figure.name: figure.drawing for figure in figures(study, ["kid"], "plotly")}["intermediate"]
    assert {trace.name for trace in drawn.data if trace.line.color == GREY} == {"Trial4"}
    assert (drawn.layout.xaxis.title.text, drawn.layout.yaxis.title.text) == ("epoch", "kid")


def test_the_lineage_follows_the_weights_of_the_best_member(population: optuna.Study) -> None:
    found = lineage.load(population, "kid")
    assert found is not None
    assert found.best == [(1, 0), (3, 2)]
    assert found.best_values("optimizer.lr") == {1: 0.1, 2: 0.1, 3: 0.08, 4: 0.08}
    assert found.best_values("kid") == {1: 1.0, 2: 0.5, 3: 2 + 1 / 3, 4: 2.25}
    assert found.panels["optimizer.lr"][2] == pytest.approx({1: 0.3, 2: 0.3, 3: 0.08, 4: 0.08})
    assert found.steps("optimizer.lr") == [((2, 0.1), (3, 0.08))]


def test_a_population_shows_its_lineage_and_no_plots_of_fixed_values(population: optuna.Study, tmp_path: Path) -> None:
    names = [path.name for path in plots.write(population, tmp_path, ["kid"])]
    assert names == ["study.html", "intermediate.png", "lineage.png"]
    assert "Lineage" in (tmp_path / "study.html").read_text(encoding="utf-8")


def test_another_study_has_no_lineage(study: optuna.Study) -> None:
    assert lineage.load(study, "kid") is None


def test_a_grid_is_stored_once_for_the_dashboard(tmp_path: Path) -> None:
    study = optuna.create_study()
    trial = study.ask()
    for _ in range(2):  # a process may be killed after the first
        store_grid(trial, tmp_path, "epoch-0002.png", GRID)
    (meta,) = optuna.artifacts.get_all_artifact_meta(trial)
    assert (meta.filename, meta.mimetype) == ("epoch-0002.png", "image/png")
    with open_artifact_store(tmp_path).open_reader(meta.artifact_id) as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert len(list(artifact_folder(tmp_path).iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file in the way")
    with pytest.raises(HarnessError, match="cannot store the samples of trial 0 for optuna-dashboard"):
        store_grid(optuna.create_study().ask(), tmp_path, "epoch-0002.png", GRID)
