"""What is typed is what is taken: the command line beats the file, and what cannot be taken is refused at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import data
from harness import experiment as experiments
from harness.errors import HarnessError
from harness.experiment import search_space
from harness.experiment.param_names import LONGEST_KEY, LONGEST_PARAM, LONGEST_TAG, invalid_key_reason
from harness.runs import small_data

from ..commands import Harness, client, run_named
from ..tuning.common import QUIET, SMALL, runs, the_study

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
    assert other.out.splitlines() == [
        "a trial: 60 images (experiment small), 3 epochs (search_budget of experiment small)",
        "loading PyTorch, MLflow and Optuna ...",
    ]
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
    assert again.out.splitlines()[0] == "loading PyTorch, MLflow and Optuna ..."
    assert "a trial: 40 images, 1 epoch (search_budget of experiment small)" in again.out.splitlines()
    assert "no trial is left to train" in again.out
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
            "--tag a: the value has 8,001 characters; MLflow stores at most 8,000",
        ),
        (["run", "tiny.yaml", "--note", "x" * 8001], "--note has 8,001 characters; MLflow stores at most 8,000"),
        (["run", "tiny.yaml", "--name", ""], "--name has 0 characters; expected 1 to 250"),
        (["run", "tiny.yaml", "--name", "x" * 251], "--name has 251 characters; expected 1 to 250"),
        (
            ["run", "tiny.yaml", "--set", "generator.kind=networks:G", "--set", "generator.my option!=3"],
            "generator.my option!: every field is a param of the run; MLflow does not take the name",
        ),
        (
            ["run", "tiny.yaml", "--set", "generator.kind=networks:G", "--set", f"generator.text={'x' * 6001}"],
            "generator.text has 6,001 characters, and MLflow keeps 6,000 of a param",
        ),
        (["run", "tiny.yaml", "--set", "optimizer.lr=1:30"], "optimizer.lr is '1:30'; input should be a valid number"),
        (["tune", "tiny.yaml", "--budget", "tuning"], "--budget tuning: use it with --confirm N"),
        (
            ["tune", "tiny.yaml", "--prune-from", "2", "--set", "search_prune_from=3"],
            "search_prune_from is given twice, as 3 and as 2",
        ),
        (["evaluate", "latest", "--data", "kmnist"], "--data kmnist: use it with --images"),
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
        assert bool(invalid_key_reason(name)) == refused, name


def test_octal_sexagesimal_and_text_as_they_are_typed(harness: Harness) -> None:
    changes = ("--set", "train.batch_size=010", "--set", "description=best of #3: yes", "--set", "name=2024")
    said = harness("run", "tiny.yaml", "--dry-run", *changes)
    assert said.code == 0, said.err
    plan = experiments.from_yaml(said.out)
    assert (plan.train.batch_size, plan.description, plan.name) == (10, "best of #3: yes", "2024")


# Small folders ---------------------------------------------------------------------------------------------------


def folder(path: Path, images: int, classes: int) -> Path:
    """Grey images with a bar each, at a height of its class; without subfolders where there are no classes."""
    for index in range(images):
        pixels = np.zeros((28, 28), dtype=np.uint8)
        row = 4 + 6 * (index % max(1, classes))
        pixels[row : row + 6, 4:24] = 200 + index % 50
        file = path / (f"class{index % classes}" if classes else "") / f"{index:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return path


def of(path: Path, *changes: str) -> list[str]:
    return ["data.name=folder", f"data.path={path}", *changes]


FORTY = {
    "data.test": 10,
    "data.validation": 10,
    "quality.samples": 10,
    "quality.samples_while_training": 10,
    "train.batch_size": 5,
}


def test_a_folder_of_forty_images_trains_is_scored_and_searched(harness: Harness, workplace: Path) -> None:
    folder(workplace / "shapes", 40, 3)
    small = [word for change in (*of(Path("shapes")), "train.precision=fp32") for word in ("--set", change)]
    quick = [*small, "--device", "cpu", "--epochs", "1", "--no-system-metrics"]
    said = harness("run", *quick, "--name", "one")
    assert said.code == 0, said.err
    assert said.out.splitlines()[:2] == [
        "loading PyTorch and MLflow ...",
        "folder-shapes has 40 images; defaults adjusted: data.test 10, data.validation 10, quality.samples 10, "
        "quality.samples_while_training 10, train.batch_size 5 (docs/data.md)",
    ]
    params = run_named("one").data.params
    assert {path: params[path] for path in FORTY} == {path: str(value) for path, value in FORTY.items()}
    for split in ("test", "validation"):
        table = harness("evaluate", "one", "--split", split)
        assert table.code == 0, table.err
        assert "real against real" in table.out
        assert f"{split} split, 10 samples" in table.out
    found = harness("tune", *quick, "--trials", "1")
    assert found.code == 0, found.err
    assert found.out.splitlines()[0] == "a trial: all 20 training images (experiment default), 1 epoch (command line)"
    assert "1 of 1 trial (1 complete" in found.out
    assert harness("run", *quick, "--seeds", "2", "--batch-runs", "1").code == 0


def test_defaults_are_adjusted_and_the_plan_is_all_that_a_dry_run_prints(harness: Harness, workplace: Path) -> None:
    changes = [word for change in of(folder(workplace / "few", 12, 2)) for word in ("--set", change)]
    said = harness("run", *changes, "--dry-run")
    assert said.code == 0, said.err
    plan = experiments.from_yaml(said.out)
    assert (plan.quality.judge, plan.track.score_every, plan.data.validation, plan.train.batch_size) == (
        None,
        None,
        1,
        2,
    )
    assert "folder-few has 12 images; defaults adjusted" in said.err


@pytest.mark.parametrize(
    ("images", "classes", "changes", "values"),
    [
        (40, 3, [], FORTY),
        (40, 3, ["train.batch_size=4"], {**FORTY, "train.batch_size": None}),
        (40, 3, ["discriminator.pack=2", "conditional=false"], {**FORTY, "train.batch_size": 4}),
        (40, 3, ["train.discriminator_steps=5"], {**FORTY, "train.batch_size": 2}),
        (
            40,
            0,
            [],
            {"conditional": False, "data.validation": 3, "track.score_every": None, "train.batch_size": 8},
        ),
        (
            25,
            3,
            [],
            {"quality.judge": None, "data.validation": 2, "track.score_every": None, "train.batch_size": 5},
        ),
        (
            120,
            3,
            [],
            {"data.validation": 10, "quality.samples": 12, "quality.samples_while_training": 10},
        ),
    ],
)
def test_defaults_are_adjusted_to_the_number_of_images(
    tmp_path: Path, images: int, classes: int, changes: list[str], values: dict[str, object]
) -> None:
    overrides = of(folder(tmp_path / "some", images, classes), *changes)
    plan, adjusted = small_data.load("default", overrides)
    expected = {path: value for path, value in values.items() if value is not None or path not in FORTY}
    assert adjusted.values == expected
    assert plan.flatten().items() >= expected.items()
    again = tmp_path / "again.yaml"
    again.write_text(plan.to_yaml())
    assert small_data.load(again) == (plan, small_data.Adjustments({}, adjusted.images)), "what is stored fits"


@pytest.mark.parametrize(
    ("images", "classes", "changes", "said"),
    [
        (40, 3, ["data.validation=30"], "data.validation is 30, but there are 30 training images"),
        (40, 3, ["quality.samples=4"], "quality.samples is 4, but scores need 10 images or more"),
        (40, 3, ["quality.samples=20"], "quality.samples is 20, but the test split has 10 images"),
        (
            40,
            3,
            ["quality.samples_while_training=20"],
            "quality.samples_while_training is 20, but the validation split has 10 images",
        ),
        (40, 3, ["train.batch_size=48"], "train.batch_size is 48, but there are 20 training images"),
        (40, 3, ["data.subset=30"], "data.subset is 30, but 20 training images are left"),
        (40, 3, ["track.score_every=1", "data.validation=5"], "track.score_every is 1, but scores need 10 test images"),
    ],
)
def test_what_was_chosen_is_refused_with_all_values_that_work(
    tmp_path: Path, images: int, classes: int, changes: list[str], said: str
) -> None:
    overrides = of(folder(tmp_path / "some", images, classes))
    with pytest.raises(HarnessError) as refused:
        small_data.load("default", [*overrides, *changes])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    advice = str(refused.value).partition("; these work together: ")[2].split()
    advised = dict(map(experiments.parse_override, advice))
    assert {path: advised[path] for path in FORTY} == FORTY
    plan, adjusted = small_data.load("default", [*overrides, *advice])
    found = (adjusted.description, plan.flatten().items() >= FORTY.items())
    assert found == (None, True), "the advice is not refused in its turn"


def test_too_few_images_are_refused_once(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="folder-few has 11 images, too few to train on; expected 12 or more"):
        small_data.load("default", of(folder(tmp_path / "few", 11, 2)))
    with pytest.raises(HarnessError, match="a search compares scores; expected 40 images or more"):
        small_data.adjust("default", of(folder(tmp_path / "more", 39, 2)), searched=True)


def test_a_file_has_chosen_for_its_own_data_set_and_not_for_another(tmp_path: Path) -> None:
    path, other = folder(tmp_path / "some", 40, 3), folder(tmp_path / "other", 40, 3)
    file = tmp_path / "mine.yaml"
    file.write_text(f"data: {{name: folder, path: {path}, validation: 35}}\ntrain: {{batch_size: 10}}\n")
    with pytest.raises(HarnessError, match=r"data\.validation is 35, but there are 30 training images"):
        small_data.load(file)
    plan, adjusted = small_data.load(file, [f"data.path={other}"])
    assert (plan.data.validation, plan.train.batch_size) == (10, 10)
    assert "train.batch_size" not in adjusted.values, "what fits stays"


def test_the_budget_of_another_data_set_gives_way(tmp_path: Path) -> None:
    overrides = of(folder(tmp_path / "some", 40, 3))
    adjusted = small_data.adjust("default", overrides, searched=True)
    experiment, found = search_space.load("default", overrides, adjusted.values, adjusted.images)
    assert found.budget == {"train.epochs": 3}
    assert found.describe_trial(experiment, adjusted.images).startswith("all 20 training images")
    with pytest.raises(HarnessError, match=r"data\.subset of a trial is 500, but 20 are left to train on"):
        search_space.load("default", [*overrides, "search_budget.data.subset=500"], adjusted.values, adjusted.images)
    with pytest.raises(HarnessError, match=r"data\.subset is 500, but 20 training images are left"):
        small_data.adjust("default", [*overrides, "data.subset=500"], searched=True)


def test_large_sets_are_left_as_they_are() -> None:
    for name in experiments.available():
        assert small_data.adjust(name) == small_data.Adjustments({}), name
    assert small_data.adjust("default", ["data.name=digits"]).values == {
        "data.validation": 143,
        "quality.samples": 359,
        "quality.samples_while_training": 143,
    }


def test_images_print_in_one_line() -> None:
    images = data.load("digits").test
    assert repr(images) == "Images('digits/test', 359 of 1x8x8, 10 classes, cpu)"


def test_the_example_of_the_core_trains_on_the_subset_of_its_plan(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "design.md"
    example = page.read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, object] = {}
    exec(example, names)
    assert len(names["splits"].train) == 1000  # type: ignore[attr-defined]
    assert len(capsys.readouterr().out.splitlines()) == 2
