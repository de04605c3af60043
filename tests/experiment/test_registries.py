"""What an experiment may choose is what the code has: the schema's choices against the registries."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from harness.experiment import PENALTIES, Objective, Optimizer, Section
from harness.experiment.networks import Discriminators, Generators, tag_of
from harness.gan.networks import DISCRIMINATORS, GENERATORS
from harness.gan.objectives import OBJECTIVES
from harness.gan.optimizers import SCHEDULES


def choices(section: type[Section], field: str) -> list[str]:
    """The values of a `Literal`."""
    return list(get_args(section.model_fields[field].annotation))


def kinds(networks: object) -> list[str]:
    """The kinds of networks that the union of their sections tells apart."""
    union, _ = get_args(networks)
    members = [get_args(member) for member in get_args(union)]
    assert [tag.tag for _, tag in members] == [tag_of(section) for section, _ in members]
    return [tag.tag for _, tag in members if tag.tag != "custom"]


@pytest.mark.parametrize(
    ("chosen", "known"),
    [
        (choices(Objective, "kind"), OBJECTIVES),
        (choices(Optimizer, "schedule"), SCHEDULES),
        (kinds(Generators), GENERATORS),
        (kinds(Discriminators), DISCRIMINATORS),
    ],
    ids=["objective.kind", "optimizer.schedule", "generator.kind", "discriminator.kind"],
)
def test_every_choice_of_the_schema_has_an_entry_and_every_entry_is_a_choice(
    chosen: list[str], known: dict[str, object]
) -> None:
    assert chosen == list(known)


def test_the_weights_of_an_objective_are_those_of_the_penalties() -> None:
    """What each does, and where, is tested for every name of PENALTIES in tests/gan/test_penalties.py."""
    assert [name for name, type_ in Objective.__annotations__.items() if type_ == "Weight"] == list(PENALTIES)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_labels_may_be_smoothed_where_the_loss_has_a_target(kind: str) -> None:
    logits = torch.tensor([0.5]), torch.tensor([-0.5])
    plain, smoothed = (OBJECTIVES[kind](smoothing).discriminator(*logits).item() for smoothing in (0.0, 0.2))
    if plain != smoothed:
        assert Objective.model_validate({"kind": kind, "label_smoothing": 0.2}).label_smoothing == 0.2
    else:
        with pytest.raises(ValueError, match="has no target to smooth"):
            Objective.model_validate({"kind": kind, "label_smoothing": 0.2})
