"""Values that change between epochs: each epoch is trained with its own, alone, in a batch, and after a resume."""

from __future__ import annotations

import copy

import pytest
import torch

from harness import data
from harness import experiment as experiments
from harness.data import Images
from harness.experiment import Experiment
from harness.gan import BatchedTraining, Training

from .common import weights

CHANGES: dict[str, dict[int, float]] = {
    "optimizer.lr": {1: 1e-3, 3: 5e-4},
    "optimizer.discriminator_lr": {2: 2e-3},
    "discriminator.dropout": {1: 0.3, 2: 0.5},
    "train.ema_half_life": {2: 20.0},
}
DROPOUT_LATER: dict[str, dict[int, float]] = {"discriminator.dropout": {1: 0.0, 2: 0.4, 3: 0.0}}
PENALTIES: dict[str, dict[int, float]] = {"objective.gradient_penalty": {1: 10.0, 2: 5.0, 3: 1.0}}


@pytest.fixture
def images() -> Images:
    return data.load("mnist", subset=100).train


def base(**values: object) -> Experiment:
    plain = experiments.load("notebook").with_values(
        {"train.device": "cpu", "train.epochs": 3, "train.batch_size": 10, "train.ema_half_life": 50.0, **values}
    )
    return plain.with_values({"generator.widths": [16], "discriminator.widths": [16], "generator.latent": 8})


def scheduled(changes: dict[str, dict[int, float]], **values: object) -> Experiment:
    penalty = "objective.gradient_penalty" in changes
    off = {"discriminator.dropout": 0.0, "objective.gradient_penalty": 1.0} if penalty else {}
    return base(**off, **values).with_values({"schedule": changes})


@pytest.mark.parametrize("changes", [CHANGES, PENALTIES, DROPOUT_LATER])
def test_each_epoch_is_trained_with_its_own_values(images: Images, changes: dict[str, dict[int, float]]) -> None:
    experiment = scheduled(changes)
    training = Training(experiment, images)
    reports = list(training)
    state = None
    for epoch in (1, 2, 3):  # the same by hand: a training of its own for each epoch
        by_hand = Training(experiment.at_epoch(epoch), images)
        if state is not None:
            by_hand.load_state_dict(state)
        report = next(iter(by_hand))
        state = copy.deepcopy(by_hand.state_dict())
        shown = {path: value for path, value in reports[epoch - 1].metrics.items() if path.startswith("schedule/")}
        fields = experiment.at_epoch(epoch).flatten()
        started = [path for path, steps in changes.items() if min(steps) <= epoch]
        assert shown == {f"schedule/{path}": fields[path] for path in started}
        assert report.metrics["loss/generator"] == reports[epoch - 1].metrics["loss/generator"]
    assert all(torch.equal(*pair) for pair in zip(weights(training), weights(by_hand), strict=True))


@pytest.mark.parametrize("changes", [CHANGES, PENALTIES, DROPOUT_LATER])
def test_a_batch_trains_schedules_as_each_member_alone(images: Images, changes: dict[str, dict[int, float]]) -> None:
    plain = {path: dict([next(iter(steps.items()))]) for path, steps in changes.items()}
    plans = [scheduled(changes), scheduled(plain, **{"train.seed": 1})]
    alone = [Training(plan, images, dtype=torch.float64) for plan in plans]
    for training in alone:
        list(training)
    batch = [Training(plan, images, dtype=torch.float64) for plan in plans]
    for _ in BatchedTraining(batch):
        pass
    for one, other in zip(alone, batch, strict=True):
        for mine, others in zip(weights(one), weights(other), strict=True):
            torch.testing.assert_close(mine, others, rtol=1e-6, atol=1e-8)


def test_changes_that_were_decided_between_epochs_are_in_the_checkpoint(images: Images) -> None:
    experiment = base(**{"discriminator.dropout": 0.3})
    training = Training(experiment, images)
    next(training)
    training.schedule.set_from(2, {"optimizer.lr": 1e-3, "discriminator.dropout": 0.1})
    saved = copy.deepcopy(training.state_dict())
    resumed = Training(experiment, images)
    resumed.load_state_dict(saved)
    for each in (training, resumed):
        metrics = next(each).metrics
        assert (metrics["schedule/optimizer.lr"], metrics["schedule/discriminator.dropout"]) == (1e-3, 0.1)
    assert all(torch.equal(*pair) for pair in zip(weights(training), weights(resumed), strict=True))
    assert "schedule" not in Training(experiment, images).state_dict()
