"""Values that are varied under one choice only."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.dimensions import Choices, Range
from harness.experiment.search import Search, parse
from harness.tuning.sampler import grid
from harness.tuning.settings import Settings
from harness.tuning.storage import open_storage
from harness.tuning.trials import Trials

from ..commands import Harness
from .common import QUIET, SMALL, optuna_trials, runs, settings

SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "objective.kind": {
        "hinge": {},
        "wasserstein": {
            "objective.gradient_penalty": {"low": 1.0, "high": 20.0, "log": True},
            "train.discriminator_steps": {"low": 1, "high": 3},
        },
    },
}
PENALTY, STEPS = "objective.gradient_penalty", "train.discriminator_steps"


@pytest.fixture
def plain(tiny: Experiment) -> Experiment:
    """Without dropout, which a penalty excludes."""
    return tiny.with_values({"discriminator.dropout": 0.0})


@pytest.fixture
def search(plain: Experiment) -> Search:
    return parse(plain, SPACE, {})


def test_what_is_below_a_choice_is_varied_under_it_only(search: Search) -> None:
    assert list(search.space) == ["optimizer.lr", "objective.kind", PENALTY, STEPS]
    assert search.space["objective.kind"] == Choices(("hinge", "wasserstein"))
    assert search.space[PENALTY] == Range(1.0, 20.0, log=True)
    assert search.conditions == dict.fromkeys((PENALTY, STEPS), ("objective.kind", "wasserstein"))
    assert search.is_active(PENALTY, {"objective.kind": "wasserstein"})
    assert not search.is_active(PENALTY, {"objective.kind": "hinge"})
    assert search.is_active("optimizer.lr", {})


def test_a_study_stores_its_conditions(plain: Experiment, search: Search) -> None:
    kept = settings(plain, search=search)
    assert Settings.from_json(kept.to_json(), "s") == kept
    assert kept.search.describe()["search"]["objective.kind"]["hinge"] == {}


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "grid", "gp", "nsgaii"])
def test_trials_have_the_values_of_their_choice(
    plain: Experiment, search: Search, tmp_path: Path, sampler: str
) -> None:
    wanted = settings(plain, search=search, sampler=sampler)
    trials = Trials.create(open_storage(None, tmp_path, ""), "s", wanted, tmp_path)
    assert trials
    for number in range(16):
        (claim,) = trials.claim(16)
        trials.complete(claim, "run", abs(number - 7) / 10)
    kinds = set()
    for trial in trials.all()[1:]:
        kinds.add(kind := trial.params["objective.kind"])
        below = {PENALTY, STEPS} if kind == "wasserstein" else set()
        assert set(trial.params) == {"optimizer.lr", "objective.kind"} | below
        experiment = search.experiment(plain, trial.params)
        assert experiment.objective.kind == kind
        assert bool(experiment.objective.gradient_penalty) == (kind == "wasserstein")
    assert kinds == {"hinge", "wasserstein"}


def test_a_grid_has_no_point_twice(search: Search) -> None:
    points = grid(search, 40)
    active = [{path: value for path, value in point.items() if search.is_active(path, point)} for point in points]
    assert len({str(point) for point in active}) == len(active)
    assert sum(point["objective.kind"] == "hinge" for point in active) < len(active) / 2


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"hinge": {}}, "search.objective.kind is {'hinge': {}}; expected at least two choices"),
        ({}, "search.objective.kind is {}; expected at least two choices"),
        ({"hinge": 3, "lsgan": {}}, "expected at least two choices with what is varied under each"),
        ({"hing": {}, "lsgan": {}}, "objective.kind is 'hing'"),
        ({"hinge": {"optimizer.lr": [1e-3, 1e-2]}, "lsgan": {}}, "search.optimizer.lr is given twice"),
        ({"hinge": {"optimizer.l": [1, 2]}, "lsgan": {}}, "unknown key optimizer.l; did you mean optimizer.lr"),
        ({"hinge": {PENALTY: {"low": -1, "high": 3}}, "lsgan": {}}, f"search.{PENALTY}: {PENALTY} is -1"),
    ],
)
def test_a_condition_that_names_no_choice_is_refused(plain: Experiment, spec: object, text: str) -> None:
    with pytest.raises(HarnessError) as error:
        parse(plain, {**SPACE, "objective.kind": spec}, {})
    assert text.lower() in str(error.value).lower()


def test_a_file_with_a_condition_is_searched(harness: Harness, small: Path) -> None:
    text = SMALL.replace("dropout: 0.3", "dropout: 0.0").split("search:")[0]
    text += (
        "search:\n  optimizer: {lr: {low: 1e-4, high: 1e-2, log: true}}\n  objective.kind:\n    hinge: {}\n"
        "    wasserstein:\n      objective.gradient_penalty: {low: 1, high: 20, log: true}\n"
    )
    (small / "small.yaml").write_text(text)
    said = harness("tune", "small.yaml", "--dry-run")
    assert "objective.gradient_penalty  1 to 20, logarithmic, if objective.kind is wasserstein" in said.out, said.err
    said = harness("tune", "small.yaml", *QUIET, "--trials", "6", "--epochs", "1", "--pruner", "none")
    assert said.code == 0, said.out + said.err
    for trial in optuna_trials():
        params = runs("trial")[f"small-{trial.number}"].data.params
        assert params["objective.kind"] == trial.params.get("objective.kind", "non-saturating")
        assert ("objective.gradient_penalty" in trial.params) == (params["objective.kind"] == "wasserstein")
    again = harness("tune", "small.yaml", *QUIET, "--trials", "6", "--epochs", "1", "--pruner", "none")
    assert "no trial is left" in again.out + again.err
