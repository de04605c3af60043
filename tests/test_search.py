"""What a search is made of, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import experiment as experiments
from harness import search
from harness.errors import HarnessError
from harness.search import Choices, Range


def load(path: Path, *overrides: str) -> search.Search:
    return search.load(path, overrides)[1]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.optimizer.rate={low: 1, high: 2}"], "unknown key optimizer.rate; did you mean optimizer.lr"),
        (["search.optimizer={low: 1, high: 2}"], "optimizer is a section, not a leaf; search optimizer.lr"),
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
        "generator.latent": Range(16, 256, log=True, whole=True),
        "discriminator.dropout": Range(0.0, 0.5),
    }


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
    experiment, found = search.load(tiny_file, ["optimizer.lr=0.5", "generator.latent=64"])
    assert found.own(experiment) == {"optimizer.lr": 1e-2, "generator.latent": 64, "discriminator.dropout": 0.3}


def test_a_leaf_without_a_value_has_none_to_begin_with(tiny_file: Path) -> None:
    override = "search.train.ema_half_life={low: 100, high: 10000, log: true}"
    experiment, found = search.load(tiny_file, [override])
    assert found.own(experiment) == {}
    experiment, found = search.load(tiny_file, ["search.train.ema_half_life=[null, 100]"])
    assert found.own(experiment) == {"train.ema_half_life": None}


@pytest.mark.parametrize(
    ("dimension", "shares", "values"),
    [
        (Range(0.0, 0.5), [0, 0.5, 0.999999], [0.0, 0.25, 0.5]),
        (Range(1e-4, 1e-2, log=True), [0, 0.5, 0.999999], [1e-4, 1e-3, 1e-2]),
        (Range(1, 3, whole=True), [0, 0.32, 0.34, 0.66, 0.67, 0.99], [1, 1, 2, 2, 3, 3]),
        (Range(16, 256, log=True, whole=True), [0, 0.5, 0.9999], [16, 64, 256]),
        (Choices(("a", "b")), [0, 0.49, 0.5, 0.99], ["a", "a", "b", "b"]),
    ],
)
def test_a_share_of_a_dimension_is_a_value(
    dimension: search.Dimension, shares: list[float], values: list[object]
) -> None:
    found = [dimension.at(share) for share in shares]
    if isinstance(values[0], float):
        assert found == pytest.approx(values, rel=1e-4)
    else:
        assert found == values


def test_the_points_of_a_range_reach_both_ends() -> None:
    assert Range(1e-4, 1e-2, log=True).points(3) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert Range(1, 2, whole=True).points(4) == [1, 2]
    assert Choices((1, 5)).points(7) == [1, 5]


def test_the_bundled_experiments_can_be_searched() -> None:
    for name in experiments.known():
        experiment, found = search.load(name)
        assert found.own(experiment).keys() == found.space.keys(), name
