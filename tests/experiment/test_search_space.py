"""What a search is made of, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import experiment as experiments
from harness.errors import HarnessError
from harness.experiment import search_space
from harness.experiment.dimensions import Choices, Dimension, Range
from harness.experiment.search import Search
from harness.gan.batched import batch_key


def load(path: Path, *overrides: str) -> Search:
    return search_space.load(path, overrides)[1]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.optimizer.rate={low: 1, high: 2}"], "unknown key optimizer.rate; did you mean optimizer.lr"),
        (["search.optimizer={low: 1, high: 2}"], "optimizer is a section, not a field; search optimizer.lr"),
        (["search.optimizer.lr={low: 1e-2, high: 1e-4}"], "goes from 0.01 to 0.0001; low must be less than high"),
        (["search.optimizer.lr={low: 1e-2, high: 1e-2}"], "low must be less than high"),
        (["search.optimizer.lr={low: 0, high: 1, log: true}"], "low must be greater than 0"),
        (["search.optimizer.lr={low: -1, high: 1}"], "optimizer.lr is -1"),
        (["search.optimizer.lr={low: .nan, high: 1}"], "a finite number was expected"),
        (["search.optimizer.lr={low: 1e-4, top: 1}"], "expected {low: ..., high: ..., log: true or false}"),
        (["search.optimizer.lr={low: 1e-4, high: 1, log: 2}"], "expected true or false"),
        (["search.optimizer.lr=0.1"], "expected {low: ..., high: ..., log: true or false} or a list"),
        (["search.optimizer.lr=[0.1]"], "at least two different choices"),
        (["search.optimizer.lr=[0.1, 0.1]"], "at least two different choices"),
        (["search.optimizer.lr=[0.1, 7]"], "optimizer.lr is 7"),
        (["search.generator.latent={low: 1.5, high: 8}"], "generator.latent is a whole number"),
        (["search.discriminator.dropout={low: 0, high: 1.5}"], "discriminator.dropout is 1.5"),
        (["search.generator.kind={low: 0, high: 1}"], "not a number; give a list of choices"),
        (["search.conditional={low: 0, high: 1}"], "not a number; give a list of choices"),
        (["search.quality.samples=[10, 20]"], "cannot be compared"),
        (["search.optimizer.lr=null"], "search is empty"),
        (["search_budget.train.epoch=2"], "unknown key train.epoch; did you mean train.epochs"),
        (["search_budget.train.epochs=0"], "train.epochs is 0"),
        (["search_budget.optimizer.lr=0.1"], "in search and in search_budget"),
        (["search=4"], "expected search.PATH=..."),
        (["search.optimizer.lr={low: 1e-3, high: 1, step: 0}"], "lr.step is 0; expected a number greater than 0"),
        (["search.optimizer.lr={low: 1e-3, high: 1, step: 2}"], "lr.step is 2, more than from 0.001 to 1"),
        (["search.generator.latent={low: 1, high: 8, step: 1.5}"], "latent.step is 1.5; expected a whole number"),
        (["search.optimizer.lr={low: 1e-3, high: 1, step: 0.1, log: true}"], "lr has a step and is logarithmic"),
        (["search_prune_from=0"], "search_prune_from is 0; expected an epoch"),
        (["search_prune_from=soon"], "search_prune_from is 'soon'; expected an epoch"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line(tiny_file: Path, overrides: list[str], said: str) -> None:
    tiny_file.write_text(tiny_file.read_text() + "search:\n  optimizer.lr: {low: 1e-4, high: 1e-2, log: true}\n")
    with pytest.raises(HarnessError) as refused:
        load(tiny_file, *overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_search_it_is_learning_rate_latent_size_and_dropout(tiny_file: Path) -> None:
    assert load(tiny_file).space == {
        "optimizer.lr": Range(1e-4, 1e-2, log=True),
        "generator.latent": Range(16, 256, log=True, integer=True),
        "discriminator.dropout": Range(0.0, 0.5),
    }


@pytest.mark.parametrize(
    "changes",
    [
        ["objective.r1=1", "discriminator.dropout=0"],
        ["objective.kind=wasserstein", "objective.gradient_penalty=10", "discriminator.dropout=0"],
        ["discriminator.kind=networks:D", "discriminator.dropout=0"],
    ],
)
def test_without_a_search_dropout_is_left_out_where_it_is_refused(tiny_file: Path, changes: list[str]) -> None:
    assert load(tiny_file, *changes).space.keys() == {"optimizer.lr", "generator.latent"}
    tiny_file.write_text(
        tiny_file.read_text().replace(
            "discriminator: {kind: mlp, widths: [16, 16]", "discriminator: {kind: 'networks:D'"
        )
    )
    assert "discriminator.dropout" in load(tiny_file).space


PENALISED = ["discriminator.dropout=0", "search.objective.r1=[0, 0.1, 1]"]


def test_a_penalty_may_be_searched_off_among_its_weights(tiny_file: Path) -> None:
    experiment, found = search_space.load(tiny_file, PENALISED)
    assert found.baseline(experiment) == {"objective.r1": 0}
    tried = [found.experiment(experiment, {"objective.r1": value}) for value in (0, 0.1, 1)]
    assert [each.objective.penalties for each in tried] == [(), ("r1",), ("r1",)]
    assert batch_key(tried[0]) != batch_key(tried[1]) == batch_key(tried[2]), (
        "what is on shapes the program, its weight does not"
    )


def test_kinds_may_be_searched_each_with_its_own_options(tiny_file: Path) -> None:
    changes = ["search.generator.kind=[mlp, conv, residual]", "search.objective.kind=[non-saturating, hinge]"]
    experiment, found = search_space.load(tiny_file, changes)
    assert found.baseline(experiment) == {"generator.kind": "mlp", "objective.kind": "non-saturating"}
    mlp = found.experiment(experiment, {"generator.kind": "mlp", "objective.kind": "hinge"})
    assert mlp.generator == experiment.generator, "the kind that it has brings nothing new"
    conv = found.experiment(experiment, {"generator.kind": "conv", "objective.kind": "hinge"})
    assert (conv.generator.latent, conv.objective.kind) == (8, "hinge")
    assert "generator.widths" not in conv.flatten()
    assert experiments.from_yaml(conv.to_yaml()) == conv


def test_options_of_ones_own_network_may_be_searched(tiny_file: Path) -> None:
    own = ["generator.kind=networks:G", "generator.width=8", "generator.slope=0.2", "generator.norm=batch"]
    ranges = ["search.generator.width={low: 4, high: 16}", "search.generator.slope={low: 0, high: 0.5}"]
    experiment, found = search_space.load(tiny_file, [*own, *ranges, "search.generator.norm=[batch, group]"])
    assert found.space == {
        "generator.width": Range(4, 16, integer=True),
        "generator.slope": Range(0, 0.5),
        "generator.norm": Choices(("batch", "group")),
    }
    assert found.baseline(experiment) == {"generator.width": 8, "generator.slope": 0.2, "generator.norm": "batch"}
    tried = found.experiment(experiment, {"generator.width": 5, "generator.norm": "group"})
    assert tried.generator.model_extra == {"width": 5, "slope": 0.2, "norm": "group"}
    with pytest.raises(HarnessError, match=r"unknown key generator\.widht"):
        load(tiny_file, *own, "search.generator.widht={low: 4, high: 16}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.objective.r1=[0, 1]"], "search.objective.r1: objective.r1 is 1.0 and discriminator.dropout 0.3"),
        (
            ["objective.label_smoothing=0.1", "search.objective.kind=[non-saturating, hinge]"],
            "objective.label_smoothing is 0.1, but hinge has no target to smooth",
        ),
        (["search.discriminator.pack={low: 1, high: 3}"], "discriminator.pack is 3, and train.batch_size 20 is no mul"),
        (["search.objective.kind=[hinge, wgan]"], "search.objective.kind: objective.kind is 'wgan'; input should be"),
        (["search.objective.r1={low: 0, high: 1, log: true}"], "low must be greater than 0"),
    ],
)
def test_values_that_do_not_go_with_the_experiment_are_refused_at_once(
    tiny_file: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(HarnessError) as refused:
        load(tiny_file, *overrides)
    assert said in str(refused.value)


def test_the_file_may_nest_its_paths_and_overrides_come_last(tiny_file: Path) -> None:
    tiny_file.write_text(
        tiny_file.read_text()
        + "search:\n  optimizer: {lr: {low: 1e-4, high: 1e-2}, betas: [[0.5, 0.9], [0.0, 0.99]]}\n"
        + "search_budget: {train: {epochs: 1}}\n"
    )
    found = load(tiny_file, "search.generator.latent=[4, 8]", "search.optimizer.lr=null")
    assert found.space == {
        "optimizer.betas": Choices(("[0.5, 0.9]", "[0.0, 0.99]")),
        "generator.latent": Choices((4, 8)),
    }
    assert found.budget == {"train.epochs": 1}
    experiment = experiments.load(tiny_file)  # which takes no notice of it
    assert found.experiment(experiment, {"optimizer.betas": "[0.5, 0.9]"}).optimizer.betas == (0.5, 0.9)


def test_the_experiments_own_values_are_taken_to_where_the_space_is(tiny_file: Path) -> None:
    tiny_file.write_text(tiny_file.read_text().replace("lr: 1e-3", "lr: 0.5").replace("latent: 8", "latent: 64"))
    experiment, found = search_space.load(tiny_file)
    assert found.baseline(experiment) == {"optimizer.lr": 1e-2, "generator.latent": 64, "discriminator.dropout": 0.3}


def test_a_leaf_without_a_value_has_none_to_begin_with(tiny_file: Path) -> None:
    override = "search.train.ema_half_life={low: 100, high: 10000, log: true}"
    experiment, found = search_space.load(tiny_file, [override])
    assert found.baseline(experiment) == {}
    experiment, found = search_space.load(tiny_file, ["search.train.ema_half_life=[null, 100]"])
    assert found.baseline(experiment) == {"train.ema_half_life": None}


@pytest.mark.parametrize(
    ("dimension", "shares", "values"),
    [
        (Range(0.0, 0.5), [0, 0.5, 0.999999], [0.0, 0.25, 0.5]),
        (Range(1e-4, 1e-2, log=True), [0, 0.5, 0.999999], [1e-4, 1e-3, 1e-2]),
        (Range(1, 3, integer=True), [0, 0.32, 0.34, 0.66, 0.67, 0.99], [1, 1, 2, 2, 3, 3]),
        (Range(16, 256, log=True, integer=True), [0, 0.5, 0.9999], [16, 64, 256]),
        (Choices(("a", "b")), [0, 0.49, 0.5, 0.99], ["a", "a", "b", "b"]),
    ],
)
def test_a_share_of_a_dimension_is_a_value(dimension: Dimension, shares: list[float], values: list[object]) -> None:
    found = [dimension.quantile(share) for share in shares]
    if isinstance(values[0], float):
        assert found == pytest.approx(values, rel=1e-4)
    else:
        assert found == values


def test_the_points_of_a_range_reach_both_ends() -> None:
    assert Range(1e-4, 1e-2, log=True).grid(3) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert Range(1, 2, integer=True).grid(4) == [1, 2]
    assert Choices((1, 5)).grid(7) == [1, 5]


def test_the_bundled_experiments_can_be_searched() -> None:
    for name in experiments.available():
        experiment, found = search_space.load(name)
        assert found.baseline(experiment).keys() == found.space.keys(), name


BUDGET = "search: {optimizer.lr: {low: 1e-4, high: 1e-2}}\nsearch_budget: {train.epochs: 2, optimizer.eps: 1e-6}\n"


@pytest.fixture
def budget_file(tiny_file: Path) -> Path:
    """60 images and 3 epochs in full; a trial has 2 epochs, and another eps."""
    tiny_file.write_text(tiny_file.read_text() + BUDGET)
    return tiny_file


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([], "60 images (experiment tiny), 2 epochs, optimizer.eps 1e-06 (search_budget of experiment tiny)"),
        (
            ["train.epochs=1", "data.subset=40"],
            "40 images, 1 epoch (command line), optimizer.eps 1e-06 (search_budget of experiment tiny)",
        ),
        (
            ["optimizer.eps=1e-5", "search_budget.train.epochs=4", "data.subset=null"],
            "all training images, 4 epochs, optimizer.eps 1e-05 (command line)",
        ),
        (
            ["search.train.epochs=[1, 2]"],
            "60 images, train.epochs as searched (experiment tiny), "
            "optimizer.eps 1e-06 (search_budget of experiment tiny)",
        ),
    ],
)
def test_a_trial_is_described_with_where_that_comes_from(budget_file: Path, overrides: list[str], line: str) -> None:
    experiment, found = search_space.load(budget_file, overrides)
    assert found.describe_trial(experiment) == line


def test_the_command_line_sets_the_budget_of_trials_and_the_full_experiment_keeps_the_files(budget_file: Path) -> None:
    overrides = ["train.epochs=1", "data.subset=40", "optimizer.eps=1e-5", "train.batch_size=10"]
    experiment, found = search_space.load(budget_file, overrides)
    assert found.budget == {"train.epochs": 1, "data.subset": 40, "optimizer.eps": 1e-5}
    full = experiment.flatten()
    assert [full[leaf] for leaf in ("train.epochs", "data.subset", "optimizer.eps")] == [3, 60, 1e-8]
    assert full["train.batch_size"] == 10, "what does not make trials cheap is for both"
    assert found.from_command_line == {"train.epochs", "data.subset", "optimizer.eps"}


def test_a_budget_that_repeats_the_experiment_is_no_other_study(tiny_file: Path) -> None:
    assert load(tiny_file, "train.epochs=3", "data.subset=60") == load(tiny_file)


def test_a_range_from_the_command_line_takes_a_leaf_out_of_the_files_budget(budget_file: Path) -> None:
    found = load(budget_file, "search.train.epochs=[1, 2]")
    assert "train.epochs" in found.space
    assert found.budget == {"optimizer.eps": 1e-6}


def test_a_value_from_the_command_line_replaces_a_dimension(budget_file: Path) -> None:
    latent = "search.generator.latent=[4, 8]"
    experiment, found = search_space.load(budget_file, ["optimizer.lr=0.5", latent])
    assert found.space.keys() == {"generator.latent"}
    assert (found.fixed, experiment.optimizer.lr) == ({"optimizer.lr": 0.5}, 0.5)
    with pytest.raises(HarnessError, match=r"nothing is left to search: optimizer\.lr have one value"):
        load(budget_file, "optimizer.lr=0.5")
    experiment, found = search_space.load(
        budget_file, ["optimizer.lr=2e-4", "search.optimizer.lr={low: 1e-4, high: 0.5}"]
    )
    assert found.space["optimizer.lr"] == Range(1e-4, 0.5)
    assert found.baseline(experiment) == {"optimizer.lr": 2e-4}, "beside a range it is what the first trial tries"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.epochs=1", "train.epochs=2"], "train.epochs is given twice, as 1 and as 2"),
        (["train.epochs=1", "search_budget.train.epochs=2"], "train.epochs of a trial is given twice, as 2 and as 1"),
        (["train.epochs=0"], "the budget of a trial (search_budget): train.epochs is 0"),
        (["data.subset=10"], "the budget of a trial (search_budget): data.subset is 10, less than one batch"),
        (["data.validation=0"], "data.validation is 0, but a search compares its trials on validation images"),
        (["search.optimizer.lr={low: 1:30, high: 2}"], "search.optimizer.lr.low is '1:30'; a finite number was"),
        (["search.optimizer.lr={low: 0, high: 0x10}"], "search.optimizer.lr.high is '0x10'; a finite number was"),
        (["search_budget.train.epochs=1_0"], "train.epochs is '1_0'; input should be a valid number (write it without"),
        (["search_prune_from=1:30"], "search_prune_from is '1:30'; expected an epoch"),
    ],
)
def test_typed_values_that_contradict_or_cannot_be_are_refused(
    budget_file: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(HarnessError) as refused:
        load(budget_file, *overrides)
    assert said in str(refused.value)


def test_choices_of_text_are_text(budget_file: Path) -> None:
    own = ["generator.kind=networks:G", "generator.norm=no", "search.generator.norm=[yes, no]"]
    assert load(budget_file, *own).space["generator.norm"] == Choices(("yes", "no"))
    budget_file.write_text(budget_file.read_text().replace("search: {", "search: {train: {precision: [auto, fp32]}, "))
    assert load(budget_file).space["train.precision"] == Choices(("auto", "fp32"))
    octal = load(budget_file, "search.generator.latent={low: 010, high: 020}")
    assert octal.space["generator.latent"] == Range(10, 20, integer=True)


def test_scores_between_epochs_stay_off_where_the_command_line_says_so(budget_file: Path) -> None:
    assert load(budget_file, "track.score_every=null").budget["track.score_every"] is None
