"""Which values trials try: the same for the same seed, and never those of another trial."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from optuna.trial import TrialState

from harness.experiment import Experiment
from harness.experiment.dimensions import Range
from harness.experiment.search import Search
from harness.tuning.sampler import grid, quasi_random
from harness.tuning.settings import SAMPLERS
from harness.tuning.storage import open_storage
from harness.tuning.trials import Trials

from ..tuning.common import SPACE, settings


def score(values: dict[str, object]) -> float:
    """Best at 1e-3, 8, linear."""
    rate, latent = math.log10(float(values["optimizer.lr"])), float(values["generator.latent"])  # type: ignore[arg-type]
    return (rate + 3) ** 2 + (latent / 8 - 1) ** 2 + (values["optimizer.schedule"] == "constant")


def proposals(experiment: Experiment, folder: Path, sampler: str, count: int, seed: int = 0) -> list[dict[str, object]]:
    """The values of a whole study, each trial taken and told by another process's eyes."""
    wanted = settings(experiment.with_values({"train.seed": seed}), sampler=sampler)
    folder.mkdir()
    storage = open_storage(None, folder, "")
    assert Trials.create(storage, "s", wanted, folder)
    for _ in range(count):
        trials = Trials(open_storage(None, folder, ""), "s", wanted, folder)
        (claim,) = trials.claim(count)
        trials.complete(claim, "run", score(dict(claim.values)))
    return [trial.params for trial in trials.all()]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_is_a_function_of_its_seed(tiny: Experiment, tmp_path: Path, sampler: str) -> None:
    first, again = (proposals(tiny, tmp_path / name, sampler, 12) for name in ("a", "b"))
    assert first == again
    assert first[0] == {"optimizer.lr": 1e-3, "generator.latent": 8, "optimizer.schedule": "constant"}
    assert len({str(values) for values in first}) == 12  # none twice
    if sampler != "grid":
        assert proposals(tiny, tmp_path / "c", sampler, 12, seed=1)[1:] != first[1:]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_results_are_learned_from(tiny: Experiment, tmp_path: Path, sampler: str) -> None:
    """After the quasi-random start the proposals are better than those of the start; random ones are not."""
    scores = [score(values) for values in proposals(tiny, tmp_path / "a", sampler, 24)]
    assert sum(scores[12:]) / 12 < 0.7 * sum(scores[1:6]) / 5


def test_trials_that_run_at_once_differ(tiny: Experiment, tmp_path: Path) -> None:
    wanted = settings(tiny)
    trials = Trials.create(open_storage(None, tmp_path, ""), "s", wanted, tmp_path)
    assert trials
    claims = trials.claim(20, 20)
    assert len({str(claim.values) for claim in claims}) == 20
    assert {trial.state for trial in trials.all()} == {TrialState.RUNNING}


def test_the_quasi_random_start_covers_every_range(tiny: Experiment) -> None:
    points = [quasi_random(settings(tiny).search, 0, position) for position in range(8)]
    assert sorted(int(4 * (math.log10(float(p["optimizer.lr"])) + 4) / 2) for p in points) == [0, 0, 1, 1, 2, 2, 3, 3]  # type: ignore[arg-type]
    assert sum(p["optimizer.schedule"] == "linear" for p in points) == 4


def test_a_grid_is_as_fine_as_its_trials_allow(tiny: Experiment) -> None:
    search = settings(tiny).search
    assert len(grid(search, 20)) == 3 * 3 * 2
    assert len(grid(search, 2)) == 2 * 2 * 2
    assert {spot["generator.latent"] for spot in grid(search, 20)} == {4, 8, 16}
    assert list(grid(search, 20)[0]) == list(SPACE)
    assert len(grid(Search({"generator.latent": Range(16, 18, integer=True)}), 20)) == 3  # there are no more
