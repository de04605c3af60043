"""Several metrics and constraints: a Pareto front in Optuna, in MLflow, in files and on the terminal."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest
import torch
from optuna.trial import FrozenTrial

import harness as api
from harness import experiment as experiments
from harness.data import Images
from harness.errors import HarnessError
from harness.tuning.goals import Constraint, measure

from ..commands import Harness, client
from .common import QUIET, optuna_trials, runs, the_study

TWO = ("tune", "small.yaml", *QUIET, "--metric", "kid", "--metric", "parameters", "--sampler", "qmc")


def ok(harness: Harness, *arguments: str) -> str:
    said = harness(*arguments)
    assert said.code == 0, said.out + said.err
    return said.out + said.err


def non_dominated(trials: list[FrozenTrial]) -> set[int]:
    """The front of minimized values, by the definition."""
    front = {trial.number for trial in trials}
    for one, other in itertools.permutations(trials, 2):
        no_worse = all(a <= b for a, b in zip(other.values, one.values, strict=True))
        if no_worse and other.values != one.values:
            front.discard(one.number)
    return front


def test_the_front_is_found_and_each_of_its_trials_can_be_trained(harness: Harness, small: Path) -> None:
    said = ok(harness, *TWO, "--trials", "6")
    trials = optuna_trials()
    front = non_dominated(trials)
    assert 1 < len(front) < 6
    tag = the_study().data.tags["harness.front"]
    assert {int(number) for number in tag.split(",")} == front
    assert [trial.values[0] for trial in map(trials.__getitem__, map(int, tag.split(",")))] == sorted(
        trials[number].values[0] for number in front
    )
    folder = small / "mlruns" / "studies" / "small" / "front"
    assert {path.name for path in folder.glob("*")} == {f"trial-{number}.yaml" for number in front}
    stored = {file.path for file in client().list_artifacts(the_study().info.run_id, "front")}
    assert stored == {f"front/trial-{number}.yaml" for number in front}
    for number in front:
        again = experiments.load(folder / f"trial-{number}.yaml").flatten()
        assert trials[number].params.items() <= again.items()
        assert f"trial {number}: kid {trials[number].values[0]:.4g}, parameters {trials[number].values[1]:.4g}" in said
    assert "experiments in mlruns/studies/small/front" in said
    found = runs("trial")
    for trial in trials:
        run = found[f"small-{trial.number}"]
        assert trial.values[0] == run.data.metrics["validation/kid"]
        assert not trial.intermediate_values, "Optuna takes none of several metrics"
    assert the_study().data.params["study.more_metrics"] == "('parameters',)"
    assert ok(harness, *TWO, "--trials", "6").count("no trial is left") == 1


def test_parameters_images_and_seconds_are_those_of_the_run(harness: Harness, small: Path) -> None:
    ok(
        harness,
        *("tune", "small.yaml", "--no-system-metrics", "--trials", "2", "--sampler", "qmc"),
        *("--metric", "kid", "--metric", "images", "--metric", "seconds", "--constraint", "parameters<=1e9"),
    )
    study = api.load_study("small")
    assert study.metrics == ("kid", "images", "seconds")
    for trial in optuna_trials():
        run = runs("trial")[f"small-{trial.number}"]
        measured = trial.user_attrs["harness.measured"]
        assert trial.values == [measured["kid"], measured["images"], measured["seconds"]]
        assert measured["images"] == 4 * 60
        assert measured["seconds"] == pytest.approx((run.info.end_time - run.info.start_time) / 1000, abs=0.01)
        loaded = api.load_run(run.info.run_id)
        generator = sum(weight.numel() for weight in loaded.generator.parameters())
        assert generator < measured["parameters"]
    table = study.trials()
    assert {"images", "parameters"} <= set(table.columns)
    assert the_study().data.params["study.batch_runs"] == "1", "trials of a batch would share their time"


def test_a_trial_beyond_a_constraint_is_not_the_best(harness: Harness, small: Path) -> None:
    five = ("tune", "small.yaml", *QUIET, "--trials", "5", "--sampler", "qmc", "--pruner", "none")
    ok(harness, *five, "--study", "free")
    values = {trial.number: trial.value for trial in optuna_trials("free")}
    limit = sorted(values.values())[2]
    said = ok(harness, *five, "--constraint", f"kid>={limit}")
    assert {trial.number: trial.value for trial in optuna_trials()} == values
    best = next(number for number, value in values.items() if value == limit)
    assert f"trial {best}: validation kid" in said
    assert said.count("beyond a constraint") == 2
    assert runs("study")["small"].data.tags["harness.best_trial"] == str(best)


def test_no_trial_within_the_constraints_is_no_error(harness: Harness, small: Path) -> None:
    said = ok(harness, "tune", "small.yaml", *QUIET, "--trials", "1", "--constraint", "parameters <= 3")
    assert "no complete trial is within parameters<=3" in said
    assert "harness.best_trial" not in the_study().data.tags
    assert not (small / "mlruns" / "studies" / "small" / "best.yaml").exists()


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "gp"])
def test_samplers_search_by_several_metrics(harness: Harness, small: Path, sampler: str) -> None:
    ok(harness, *TWO[:-1], sampler, "--trials", "6", "--epochs", "1")
    assert [trial.state.name for trial in optuna_trials()] == ["COMPLETE"] * 6
    assert len({tuple(trial.params.values()) for trial in optuna_trials()}) == 6


def test_several_seeds_give_the_mean_of_each_metric(harness: Harness, small: Path) -> None:
    ok(harness, *TWO, "--trials", "2", "--seeds", "2")
    for trial in optuna_trials():
        scores = list(trial.user_attrs["harness.seed_scores"].values())
        assert trial.values[0] == pytest.approx(statistics.fmean(scores))
        assert trial.values[1] == trial.user_attrs["harness.seed_measured"]["0"]["parameters"]


def test_a_comparison_shows_the_front_first(harness: Harness, small: Path) -> None:
    ok(harness, *TWO, "--trials", "5")
    front = {f"small-{number}" for number in the_study().data.tags["harness.front"].split(",")}
    compared = api.compare(study="small")
    names = list(compared.table()["name"]) if "name" in compared.table() else list(compared.table().index)
    assert set(names[: len(front)]) == front
    said = ok(harness, "compare", "--study", "small")
    assert said.count(" front ") == len(front)


@pytest.mark.parametrize(
    "text", ["parameters<2e6", "parameters", "<=3", "kid<=", "kid<=much", "kid<=nan3", "", "kid<=nan", "kid<=inf"]
)
def test_a_malformed_constraint_is_refused(text: str) -> None:
    with pytest.raises(HarnessError, match="expected METRIC<=NUMBER or METRIC>=NUMBER"):
        Constraint.parse(text)


def test_a_constraint_is_violated_by_how_much_it_is_exceeded() -> None:
    assert Constraint.parse(" parameters <= 2e6 ").violation(3e6) == 1e6
    assert Constraint.parse("coverage>=0.5").violation(0.75) == -0.25
    assert str(Constraint.parse("parameters <= 2000000")) == "parameters<=2e+06"
    for text in ("parameters<=2000001", "kid<=0.012345678901"):
        stored = Constraint.parse(text)
        assert Constraint.parse(str(stored)) == stored


def test_images_are_counted_in_whole_steps(tiny: experiments.Experiment) -> None:
    images = Images("zeros", torch.zeros(70, 1, 28, 28, dtype=torch.uint8), None, 0)
    found = measure(["images", "kid"], tiny, {"validation/kid": 0.5}, images=images, epochs=3, seconds=lambda: 0.0)
    assert found == {"images": 3 * 60.0, "kid": 0.5}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--metric", "kid", "--metric", "kid"], "--metric kid is given twice"),
        (["--metric", "seconds"], "--metric seconds: a search needs a score, too; add --metric kid"),
        (["--metric", "kid", "--metric", "modes"], "--metric modes: mnist is not scored by that"),
        (["--metric", "speed"], "--metric speed: expected one of kid"),
        (["--constraint", "size<=3"], "--constraint size<=3: size is no metric"),
        (["--constraint", "modes<=3"], "--constraint modes<=3: mnist is not scored by that"),
        (["--constraint", "kid=3"], "expected METRIC<=NUMBER"),
        (["--metric", "kid", "--metric", "images", "--pruner", "halving"], "--pruner halving: trials with several"),
        (["--metric", "kid", "--metric", "images", "--race"], "--race ranks trials by one metric"),
        (["--constraint", "images<=3", "--race"], "--race with --constraint images<=3"),
        (["--metric", "kid", "--metric", "images", "--sampler", "cmaes"], "--sampler cmaes searches by one metric"),
        (["--metric", "kid", "--metric", "images", "--direction", "maximize"], "--direction maximize: it is for one"),
        (["--metric", "kid", "--metric", "seconds", "--batch-runs", "4"], "--batch-runs with seconds"),
    ],
)
def test_bad_input_is_one_line(harness: Harness, small: Path, arguments: list[str], text: str) -> None:
    said = harness("tune", "small.yaml", "--no-system-metrics", "--trials", "2", *arguments)
    assert said.code == 2, said.out
    assert text in said.err
    assert said.err.count("\n") == 1


def test_a_study_with_other_metrics_is_refused(harness: Harness, small: Path) -> None:
    ok(harness, *TWO, "--trials", "1")
    said = harness("tune", "small.yaml", *QUIET, "--trials", "2", "--metric", "kid", "--metric", "images")
    assert (said.code, "more_metrics parameters -> images" in said.err) == (2, True), said.err
    said = harness("tune", "small.yaml", *QUIET, "--trials", "2", "--constraint", "kid<=3")
    assert (said.code, "constraints none -> kid<=3" in said.err) == (2, True), said.err
    ok(harness, "tune", "small.yaml", *QUIET, "--trials", "2")
    assert len(optuna_trials()[1].values) == 2
