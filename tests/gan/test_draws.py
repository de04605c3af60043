"""Randomness as data: a function of (seed, stream, epoch), and of the right distribution."""

from __future__ import annotations

import pytest
import torch

from harness.gan.draws import StepDraws, epoch_draws, keep_masks, sample_noise, stream_generator, stream_seed

CPU = torch.device("cpu")


def draws(seed: int = 0, epoch: int = 1, dropout: float = 0.3) -> list[StepDraws]:
    shapes = [(16,), (4, 3)]
    return list(
        epoch_draws(
            seed=seed, epoch=epoch, images=25, batch=10, latent=5, mask_shapes=shapes, dropout=dropout, device=CPU
        )
    )


def test_the_same_epoch_draws_the_same() -> None:
    for ours, again in zip(draws(), draws(), strict=True):
        assert torch.equal(ours.indices, again.indices)
        assert torch.equal(ours.generator_noise, again.generator_noise)
        assert all(torch.equal(a, b) for a, b in zip(ours.generator_masks, again.generator_masks, strict=True))


def test_seeds_epochs_and_streams_are_unrelated() -> None:
    seeds = {
        stream_seed(seed, stream, epoch)
        for seed in range(3)
        for stream in ("init", "order", "noise", "dropout", "samples")
        for epoch in range(3)
    }
    assert len(seeds) == 45
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert not torch.equal(draws(seed=0)[0].generator_noise, draws(seed=1)[0].generator_noise)
    assert not torch.equal(draws(epoch=1)[0].indices, draws(epoch=2)[0].indices)


def test_dropout_does_not_move_the_noise() -> None:
    with_dropout, without = draws(dropout=0.5), draws(dropout=0)
    assert torch.equal(with_dropout[0].generator_noise, without[0].generator_noise)
    assert without[0].real_masks == []


def test_an_epoch_shows_each_image_at_most_once_and_drops_the_partial_batch() -> None:
    steps = draws()
    assert len(steps) == 2
    shown = torch.cat([step.indices for step in steps])
    assert len(shown.unique()) == len(shown) == 20


def test_each_pass_through_the_discriminator_has_masks_of_its_own() -> None:
    step = draws()[0]
    for masks in (step.real_masks, step.fake_masks, step.generator_masks):
        assert [mask.shape for mask in masks] == [(10, 16), (10, 4, 3)]
    assert not torch.equal(step.real_masks[0], step.fake_masks[0])


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_masks_keep_the_right_share_independently(rate: float) -> None:
    (mask,) = keep_masks([(1000,)], 1000, rate, stream_generator(0, "dropout"), CPU)
    kept = mask.double()
    error = (rate * (1 - rate) / kept.numel()) ** 0.5
    assert kept.mean().item() == pytest.approx(1 - rate, abs=5 * error)
    # The four units cut from one random integer, and neighbouring rows, must not know of each other.
    for one, other in ((kept[:, :-1], kept[:, 1:]), (kept[:, :-2], kept[:, 2:]), (kept[:-1], kept[1:])):
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 5 / kept.numel() ** 0.5


def test_sample_noise_begins_the_same_whatever_the_count() -> None:
    assert torch.equal(sample_noise(3, 100, 8)[:16], sample_noise(3, 1000, 8)[:16])
