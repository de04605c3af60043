"""What is typed is what is taken: the command line beats the file, and what cannot be taken is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import experiment as experiments
from harness.keys import LONGEST_KEY, LONGEST_PARAM, LONGEST_TAG, why_not_a_key

from .commands import Harness, client
from .study.common import QUIET, SMALL, runs, the_study

BUDGET = SMALL + "search_budget: {train.epochs: 3}\n"


def test_tune_takes_the_budget_of_its_trials_from_the_command_line(harness: Harness, workplace: Path) -> None:
    (workplace / "small.yaml").write_text(BUDGET)
    command = ("tune", "small.yaml", *QUIET, "--trials", "1", "--epochs", "1", "--subset", "40", "--name", "first")
    said = harness(*command)
    assert said.code == 0, said.err
    assert said.out.splitlines()[0] == "a trial: 40 images, 1 epoch (command line)"
    (trial,) = runs("trial").values()
    assert (trial.data.params["train.epochs"], trial.data.params["data.subset"]) == ("1", "40")
    best = experiments.load(workplace / "mlruns" / "studies" / "small" / "best.yaml")
    assert (best.train.epochs, best.data.subset) == (4, 60), "in full it has the file's own values"

    other = harness("tune", "small.yaml", *QUIET, "--trials", "2")
    assert other.out == "a trial: 60 images (experiment small), 3 epochs (search_budget of experiment small)\n"
    assert other.code == 2
    assert (
        "study small exists and differs: search_budget.train.epochs 1 -> 3; search_budget.data.subset 40" in other.err
    )
    renamed = harness("tune", "--study", "small", *QUIET, "--name", "second")
    assert renamed.code == 2
    assert "--name 'second': study small exists, and its run has 'first'" in renamed.err
    noted = harness("tune", "--study", "small", *QUIET, "--note", "again")
    assert "--note 'again': study small exists, and its run has none" in noted.err
    again = harness("tune", "--study", "small", *QUIET)
    assert again.out.splitlines()[0] == "a trial: 40 images, 1 epoch (search_budget of experiment small)"
    assert "nothing is left to train" in again.out
    assert the_study().info.run_name == "first"
    assert len(runs("trial")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["run", "tiny.yaml", "--epochs", "1", "--set", "train.epochs=2"],
            "train.epochs is given twice, as 2 and as 1",
        ),
        (["run", "tiny.yaml", "--tag", "a=1", "--tag", "a=2"], "--tag a is given twice, as '1' and as '2'"),
        (["run", "tiny.yaml", "--tag", "my tag!=1"], "MLflow does not take the name 'my tag!'"),
        (
            ["run", "tiny.yaml", "--tag", f"a={'x' * 8001}"],
            "--tag a: the value has 8,001 characters; MLflow keeps 8,000",
        ),
        (["run", "tiny.yaml", "--note", "x" * 8001], "--note has 8,001 characters; MLflow keeps 8,000"),
        (["run", "tiny.yaml", "--name", ""], "--name has 0 characters; expected 1 to 250"),
        (["run", "tiny.yaml", "--name", "x" * 251], "--name has 251 characters; expected 1 to 250"),
        (
            ["run", "tiny.yaml", "--set", "generator.kind=networks:G", "--set", "generator.my option!=3"],
            "generator.my option!: every leaf is a param of the run; MLflow does not take the name",
        ),
        (
            ["run", "tiny.yaml", "--set", "generator.kind=networks:G", "--set", f"generator.text={'x' * 6001}"],
            "generator.text has 6,001 characters, and MLflow keeps 6,000 of a param",
        ),
        (["run", "tiny.yaml", "--set", "optimizer.lr=1:30"], "optimizer.lr is '1:30'; input should be a valid number"),
        (["tune", "tiny.yaml", "--budget", "tuning"], "--budget tuning says how --confirm trains: add --confirm N"),
        (
            ["tune", "tiny.yaml", "--prune-from", "2", "--set", "search_prune_from=3"],
            "search_prune_from is given twice, as 3 and as 2",
        ),
        (["evaluate", "latest", "--data", "kmnist"], "--data kmnist goes with --images"),
    ],
)
def test_what_cannot_be_taken_is_refused_before_anything_starts(
    harness: Harness, arguments: list[str], said: str
) -> None:
    found = harness(*arguments)
    assert found.code == 2
    assert said in found.err
    assert found.err.count("\n") == 1
    assert not client().search_runs([each.experiment_id for each in client().search_experiments()])


def test_names_are_refused_where_mlflow_refuses_them() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils import validation

    assert (validation.MAX_ENTITY_KEY_LENGTH, validation.MAX_PARAM_VAL_LENGTH) == (LONGEST_KEY, LONGEST_PARAM)
    assert validation.MAX_TAG_VAL_LENGTH == LONGEST_TAG
    names = [
        "generator.width",
        "a b",
        "a/b",
        "a:b",
        "größe",
        "my option!",
        "a,b",
        "a/../b",
        "../a",
        "/a",
        ".",
        "a//b",
        "(a)",
    ]
    for name in [*names, "x" * 250, "x" * 251]:
        try:
            validation._validate_tag(name, "value")
            refused = False
        except MlflowException:
            refused = True
        assert bool(why_not_a_key(name)) == refused, name


def test_octal_sexagesimal_and_text_as_they_are_typed(harness: Harness) -> None:
    changes = ("--set", "train.batch_size=010", "--set", "description=best of #3: yes", "--set", "name=2024")
    said = harness("run", "tiny.yaml", "--dry-run", *changes)
    assert said.code == 0, said.err
    plan = experiments.from_yaml(said.out)
    assert (plan.train.batch_size, plan.description, plan.name) == (10, "best of #3: yes", "2024")
