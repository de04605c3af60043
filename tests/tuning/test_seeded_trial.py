"""`tune --seeds` and `tune --race`: study > trial > seed, in MLflow and in Optuna, whatever ends them."""

from __future__ import annotations

import re
import signal
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from harness import cli
from harness.tuning.storage import open_storage

from ..commands import Harness, client, spawn, wait_for
from ..faults_lib.kills import life
from .common import QUIET, optuna_trials, runs, the_study
from .postgresql import PostgreSQL

SEEDS = ("tune", "small.yaml", *QUIET, "--seeds", "3")
RACE = (
    *("tune", "small.yaml", *QUIET, "--epochs", "2", "--race", "--seeds", "4", "--trials", "5"),
    *("--pruner", "none", "--sampler", "qmc"),
)


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tuning.plots.write", lambda *_: [])  # seconds


def ok(harness: Harness, *arguments: str, code: int = 0) -> str:
    said = harness(*arguments)
    assert said.code == code, said.out + said.err
    return said.out + said.err


def seed_scores(trial: FrozenTrial) -> list[float]:
    return list(trial.user_attrs["harness.seed_scores"].values())


def outcome(study: str = "small") -> list[tuple[Any, ...]]:
    """What a study came to, without ids and times."""
    return [
        (trial.number, trial.state.name, trial.params, trial.value, trial.user_attrs.get("harness.seed_scores"))
        for trial in optuna_trials(study)
    ]


def assert_nested(study: str = "small") -> None:
    """Every trial is one run below the study, every seed one run below its trial; values and statuses agree."""
    parent, found, seeds = the_study(), runs("trial"), runs("seed")
    trials = optuna_trials(study)
    assert set(found) == {f"{study}-{trial.number}" for trial in trials}
    below: dict[str, list[Run]] = {}
    for run in seeds.values():
        below.setdefault(run.data.tags["mlflow.parentRunId"], []).append(run)
    for trial in trials:
        run = found[f"{study}-{trial.number}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert trial.user_attrs.get("harness.run_id", run.info.run_id) == run.info.run_id
        stored = trial.user_attrs.get("harness.seed_scores", {})
        ended = {each.data.params["train.seed"]: each for each in below.get(run.info.run_id, [])}
        assert len(ended) == len(below.get(run.info.run_id, [])), "a seed has one run"
        assert stored.keys() == {seed for seed, each in ended.items() if each.info.status == "FINISHED"}
        for seed, score in stored.items():
            assert ended[seed].data.metrics["validation/kid"] == score
            assert ended[seed].info.run_name == f"{study}-{trial.number}-seed{seed}"
            steps = [point.step for point in client().get_metric_history(ended[seed].info.run_id, "loss/generator")]
            epochs = int(ended[seed].data.params["train.epochs"])
            assert steps == list(range(1, epochs + 1)), "each epoch once"
        if trial.state.name == "COMPLETE":
            assert trial.value == pytest.approx(statistics.fmean(stored.values()))
            assert run.info.status == "FINISHED"
            assert run.data.metrics["validation/kid"] == pytest.approx(trial.value)
            assert run.data.metrics["validation/kid_std"] == pytest.approx(statistics.stdev(stored.values()))
    assert not client().search_runs(["1"], "attributes.status = 'RUNNING'")


def test_a_trial_is_several_trainings_under_the_same_seeds(harness: Harness, small: Path) -> None:
    said = ok(harness, *SEEDS, "--trials", "3", "--pruner", "none")
    assert_nested()
    trials = optuna_trials()
    assert [list(trial.user_attrs["harness.seed_scores"]) for trial in trials] == [["0", "1", "2"]] * 3
    assert len({score for trial in trials for score in seed_scores(trial)}) == 9, "seeds differ"
    best = min(trials, key=lambda trial: trial.value or 0)
    verdict = the_study().data.tags["harness.verdict"]
    assert re.fullmatch(
        rf"trial {best.number} is the best of 3 trials with 3 seeds with probability [01]\.\d\d; .* tied with it",
        verdict,
    )
    assert " ".join(verdict.split()) in " ".join(said.split())
    assert verdict in the_study().data.tags["mlflow.note.content"]
    params = the_study().data.params
    assert (params["study.seeds"], params["study.aggregate"], params["study.race"]) == ("3", "mean", "False")
    pictures = [file.path for file in client().list_artifacts(best.user_attrs["harness.run_id"])]
    assert {"images", "experiment.yaml"} <= set(pictures)
    assert [point.value for point in client().get_metric_history(the_study().info.run_id, "trial/seeds")] == [3, 3, 3]


def test_the_first_seed_is_the_trial_without_seeds(harness: Harness, small: Path) -> None:
    """Values are proposed from other scores, but the first trial, with the baseline values, is the same."""
    ok(harness, *SEEDS, "--trials", "1")
    ok(harness, "tune", "small.yaml", *QUIET, "--trials", "1", "--study", "plain")
    assert seed_scores(optuna_trials()[0])[0] == optuna_trials("plain")[0].value


def test_seeds_that_are_trained_at_once_have_the_scores_of_those_that_are_not(harness: Harness, small: Path) -> None:
    options = ("--trials", "2", "--sampler", "qmc", "--seeds", "3", "--pruner", "none", "--no-system-metrics")
    for batch in ("1", "2", "6"):
        ok(harness, "tune", "small.yaml", *options, "--batch-runs", batch, "--study", batch)
    alone = outcome("1")
    for batch in ("2", "6"):
        for one, other in zip(alone, outcome(batch), strict=True):
            assert one[:3] == other[:3]
            assert list(one[4].values()) == pytest.approx(list(other[4].values()), rel=1e-3)


def test_trials_are_pruned_between_epochs(harness: Harness, small: Path) -> None:
    ok(harness, *SEEDS, "--trials", "6", "--sampler", "random")
    assert_nested()
    pruned = [
        trial for trial in optuna_trials() if trial.state.name == "PRUNED" and max(trial.intermediate_values) == 2
    ]
    assert pruned
    for trial in pruned:
        run = runs("trial")[f"small-{trial.number}"]
        assert (run.info.status, run.data.tags["harness.pruned"]) == ("KILLED", "2")
        assert "harness.seed_scores" not in trial.user_attrs


def test_trials_are_given_up_between_seeds(harness: Harness, small: Path) -> None:
    ok(harness, *SEEDS, "--trials", "6", "--sampler", "random", "--pruner", "wilcoxon", "--epochs", "2")
    assert_nested()
    trials = optuna_trials()
    given_up = [trial for trial in trials if "harness.given_up" in trial.user_attrs]
    assert given_up
    for trial in given_up:
        assert trial.state.name == "PRUNED"
        scores = seed_scores(trial)
        assert len(scores) == 2
        best = min((one for one in trials[: trial.number] if one.value is not None), key=lambda one: one.value)
        assert all(mine > theirs for mine, theirs in zip(scores, seed_scores(best), strict=False))
        assert runs("trial")[f"small-{trial.number}"].info.status == "KILLED"


def test_seeds_of_a_batch_are_pruned_together_by_their_mean(harness: Harness, small: Path) -> None:
    ok(harness, "tune", "small.yaml", "--no-system-metrics", "--batch-runs", "6", "--seeds", "3", "--trials", "6")
    assert_nested()
    seeds = runs("seed")
    pruned = [trial for trial in optuna_trials() if trial.state.name == "PRUNED"]
    assert pruned
    for trial in pruned:
        epoch = max(trial.intermediate_values)
        values = []
        for seed in range(3):
            run = seeds[f"small-{trial.number}-seed{seed}"]
            assert (run.info.status, run.data.tags["harness.pruned"]) == ("KILLED", str(epoch))
            history = client().get_metric_history(run.info.run_id, "quality/kid")
            values.append({point.step: point.value for point in history}[epoch])
        assert trial.intermediate_values[epoch] == pytest.approx(statistics.fmean(values))


@pytest.mark.parametrize("how", ["median", "worst", "mean+std"])
def test_the_value_of_a_trial_can_be_another_aggregate(harness: Harness, small: Path, how: str) -> None:
    ok(harness, *SEEDS, "--trials", "1", "--aggregate", how)
    (trial,) = optuna_trials()
    scores = seed_scores(trial)
    expected = {
        "median": statistics.median(scores),
        "worst": max(scores),
        "mean+std": statistics.fmean(scores) + statistics.stdev(scores),
    }
    assert trial.value == pytest.approx(expected[how])


def test_the_file_can_ask_for_seeds(harness: Harness, small: Path) -> None:
    with (small / "small.yaml").open("a") as file:
        file.write("search_seeds: 2\nsearch_aggregate: worst\n")
    assert "2 for each trial; its value is their worst" in ok(harness, "tune", "small.yaml", "--dry-run")
    ok(harness, "tune", "small.yaml", *QUIET, "--trials", "1")
    (trial,) = optuna_trials()
    assert trial.value == max(seed_scores(trial))
    assert len(seed_scores(trial)) == 2
    ok(harness, "tune", "small.yaml", *QUIET, "--trials", "1", "--set", "search_seeds=1", "--study", "plain")
    assert "harness.seed_scores" not in optuna_trials("plain")[0].user_attrs


# Races -----------------------------------------------------------------------------------------------------------


def test_a_race_gives_seeds_to_the_better_half(harness: Harness, small: Path) -> None:
    said = ok(harness, *RACE)
    assert_nested()
    trials = optuna_trials()
    by_seeds = sorted(trials, key=lambda trial: -len(seed_scores(trial)))
    assert [len(seed_scores(trial)) for trial in by_seeds] == [4, 4, 2, 1, 1]
    assert [trial.state.name for trial in by_seeds] == ["COMPLETE"] * 2 + ["PRUNED"] * 3
    first = {trial.number: seed_scores(trial)[0] for trial in trials}
    assert {trial.number for trial in by_seeds[:3]} == set(sorted(first, key=lambda number: first[number])[:3])
    second = {trial.number: statistics.fmean(seed_scores(trial)[:2]) for trial in by_seeds[:3]}
    assert {trial.number for trial in by_seeds[:2]} == set(sorted(second, key=lambda number: second[number])[:2])
    best = min(by_seeds[:2], key=lambda trial: trial.value or 0)
    assert (
        the_study().data.tags["harness.verdict"].startswith(f"trial {best.number} is the best of 2 trials with 4 seeds")
    )
    assert f"trial {best.number}: validation kid {best.value:.4f}, mean of 4 seeds" in said
    assert "no pictures" not in said
    assert ok(harness, *RACE).count("no trial is left to train") == 1, "a race that is over is not run again"


def test_a_race_proposes_values_from_the_scores_so_far(harness: Harness, small: Path) -> None:
    """The first trials are quasi-random; then TPE sees the scores of trials that are still in the race."""
    race = ("tune", "small.yaml", *QUIET, "--epochs", "2", "--trials", "5", "--pruner", "none")
    ok(harness, *race, "--race", "--seeds", "2")
    ok(harness, *race, "--study", "plain")
    assert [trial.params for trial in optuna_trials()] == [trial.params for trial in optuna_trials("plain")]


def test_workers_share_a_race(harness: Harness, small: Path) -> None:
    ok(harness, *RACE)
    ok(harness, *RACE, "--workers", "2", "--study", "shared")
    for alone, shared in zip(outcome(), outcome("shared"), strict=True):
        assert shared[:3] == alone[:3]
        assert shared[4] == pytest.approx(alone[4], rel=1e-3), "a worker has fewer threads: sums in another order"


def test_a_database_keeps_a_race_too(harness: Harness, small: Path, postgresql_server: PostgreSQL) -> None:
    """Killed in the middle, and resumed from PostgreSQL."""
    ok(harness, *RACE)
    with postgresql_server.database("studies") as url:
        with spawn(*RACE, "--storage", url) as process:
            wait_for(process, "(2 seeds)")
            process.kill()
        ok(harness, *RACE, "--storage", url)
        assert kept(url) == outcome()


def kept(url: str) -> list[tuple[Any, ...]]:
    import optuna

    study = optuna.load_study(study_name="small", storage=open_storage(url, Path(), ""))
    return [
        (trial.number, trial.state.name, trial.params, trial.value, trial.user_attrs.get("harness.seed_scores"))
        for trial in study.get_trials()
    ]


# Stopped and killed ----------------------------------------------------------------------------------------------

POINTS = (40, 130, 210, 330)


@pytest.mark.parametrize("command", ["seeds", "race"])
def test_killed_anywhere_the_same_command_comes_to_the_same_result(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Killed again and again, each time a little later: the result is that of a study that was left alone."""
    words = [*RACE] if command == "race" else [*SEEDS, "--trials", "2", "--epochs", "2", "--sampler", "qmc"]
    ok(harness, *words, "--study", "alone")
    alone = outcome("alone")
    killed = 0
    for point in POINTS:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with life(start="") as process:
            try:
                with process.killed_at(point):
                    cli.main()
            except (AssertionError, SystemExit):  # it came to its end first
                break
            killed += 1
    assert killed >= 2
    ok(harness, *words)
    assert [each[1:] for each in outcome()] == [each[1:] for each in alone]
    for run in client().search_runs(["1"], "tags.`harness.study` = 'small'", max_results=1000):
        assert run.info.status != "RUNNING"


def test_a_signal_between_seeds_is_resumed(harness: Harness, small: Path) -> None:
    command = (*SEEDS, "--trials", "2", "--pruner", "none", "--epochs", "10")
    process = spawn(*command)
    wait_for(process, "1/2 ended")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert not client().search_runs(["1"], "attributes.status = 'RUNNING'")
    ok(harness, *command)
    ok(harness, *command, "--study", "alone")
    assert outcome() == outcome("alone")


def test_a_race_that_is_stopped_is_resumed(harness: Harness, small: Path) -> None:
    ok(harness, *RACE, "--study", "alone")
    with spawn(*RACE) as process:
        wait_for(process, "(2 seeds)")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    assert not client().search_runs(["1"], "attributes.status = 'RUNNING'")
    ok(harness, *RACE)
    assert outcome() == outcome("alone")


def test_a_seed_that_cannot_be_trained_fails_its_trial_alone(
    harness: Harness, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.gan import Training

    train_steps = Training.train_steps

    def failing(self: Training, count: int) -> Any:
        if self.experiment.train.seed == 1 and not (small / "failed").exists():
            (small / "failed").touch()
            raise RuntimeError("out of memory")
        return train_steps(self, count)

    monkeypatch.setattr(Training, "train_steps", failing)
    said = ok(harness, *SEEDS, "--trials", "2", "--pruner", "none")
    assert "trial 0 failed: RuntimeError: out of memory" in said
    states = [trial.state.name for trial in optuna_trials()]
    assert states.count("COMPLETE") == 2
    assert states.count("FAIL") == 1
    assert runs("trial")["small-0"].info.status == "FAILED"


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--race", "--seeds", "1"], "--race adds seeds to the best trials: --seeds is 1; expected 2 or more"),
        (["--race", "--sampler", "cmaes"], "--race with --sampler cmaes"),
        (["--pruner", "wilcoxon"], "--pruner wilcoxon compares trials under several seeds: add --seeds K"),
        (["--aggregate", "worst"], "--aggregate worst needs several seeds for each trial: add --seeds K"),
        (["--seeds", "2", "--aggregate", "best"], "--aggregate best: expected one of mean, median, worst, mean+std"),
        (["--seeds", "2", "--set", "search.train.seed={low: 0, high: 9}"], "search.train.seed with 2 seeds"),
        (["--set", "search_seeds=0"], "search_seeds is 0; expected a number of seeds, 1 or more"),
        (["--set", "search_aggregate=best"], "search_aggregate is 'best'; expected one of mean"),
    ],
)
def test_bad_input_is_one_line(harness: Harness, small: Path, arguments: list[str], text: str) -> None:
    said = harness("tune", "small.yaml", *QUIET, "--trials", "2", *arguments)
    assert said.code == 2
    assert text in said.err
    assert said.err.count("\n") == 1
    assert not (small / "mlruns" / "optuna.journal").exists() or optuna_trials_are_missing()


def optuna_trials_are_missing() -> bool:
    import optuna

    return not optuna.get_all_study_names(open_storage(None, Path("mlruns").absolute(), ""))


def test_a_study_with_other_seeds_is_refused(harness: Harness, small: Path) -> None:
    ok(harness, *SEEDS, "--trials", "1", "--pruner", "none")
    for arguments, text in (
        (("--seeds", "2"), "seeds 3 -> 2"),
        (("--aggregate", "worst"), "aggregate mean -> worst"),
        (("--race",), "race False -> True"),
    ):
        said = harness("tune", "small.yaml", *QUIET, "--trials", "2", *arguments)
        assert (said.code, f"study small exists and differs: {text}" in said.err) == (2, True), said.err
    ok(harness, "tune", "small.yaml", *QUIET, "--trials", "2")  # without the option, it is resumed as it is
    assert len(seed_scores(optuna_trials()[1])) == 3
