"""Randomness as data: a function of (seed, stream, epoch), and of the right distribution."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from harness.gan.randomness import DISTORTIONS, Randomness, sample_noise, stream_generator, stream_seed
from harness.gan.step_noise import NoiseShape, RandomNumbers, StepNoise, build_step_noise, dropout_masks

CPU = torch.device("cpu")
SHAPES = ((16,), (4, 3))


def draws_of(
    *,
    seed: int = 0,
    dropout: float = 0.3,
    latent: int = 5,
    labels: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Randomness:
    return Randomness(
        seed=seed,
        images=25,
        shape=NoiseShape(latent, 10, classes=0 if labels is None else 3, masks=SHAPES, dropout=dropout, dtype=dtype),
        labels=labels,
        device=CPU,
    )


def epoch_of(drawn: Randomness, epoch: int) -> list[StepNoise]:
    drawn.begin(epoch)
    return [drawn.step() for _ in range(drawn.steps)]


def draws(seed: int = 0, epoch: int = 1, dropout: float = 0.3) -> list[StepNoise]:
    return epoch_of(draws_of(seed=seed, dropout=dropout), epoch)


def equal(ours: StepNoise, other: StepNoise) -> bool:
    """Every tensor of both, bit for bit."""
    mine, theirs = pytree.tree_leaves(tuple(ours)), pytree.tree_leaves(tuple(other))
    return len(mine) == len(theirs) and all(
        a is b is None or (a.dtype == b.dtype and torch.equal(a, b)) for a, b in zip(mine, theirs, strict=True)
    )


def test_the_same_epoch_draws_the_same() -> None:
    for ours, again in zip(draws(), draws(), strict=True):
        assert torch.equal(ours.indices, again.indices)
        assert torch.equal(ours.generator_noise, again.generator_noise)
        assert all(torch.equal(a, b) for a, b in zip(ours.generator_masks, again.generator_masks, strict=True))
        assert equal(ours, again)


def test_an_epoch_draws_the_same_whatever_was_drawn_before() -> None:
    drawn = draws_of(labels=torch.arange(25) % 3)
    first = epoch_of(drawn, 1)
    assert not any(map(equal, epoch_of(drawn, 2), first)), "another epoch"
    drawn.begin(2)
    drawn.step()  # and the rest of it is never drawn
    assert all(map(equal, epoch_of(drawn, 1), first))


def test_seeds_epochs_and_streams_are_unrelated() -> None:
    seeds = {
        stream_seed(seed, stream, epoch)
        for seed in range(3)
        for stream in ("init", "order", "noise", "dropout", "augment", "penalty", "samples")
        for epoch in range(3)
    }
    assert len(seeds) == 63
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert not torch.equal(draws(seed=0)[0].generator_noise, draws(seed=1)[0].generator_noise)
    assert not torch.equal(draws(epoch=1)[0].indices, draws(epoch=2)[0].indices)


def test_dropout_does_not_move_the_noise() -> None:
    with_dropout, without = draws(dropout=0.5), draws(dropout=0)
    assert torch.equal(with_dropout[0].generator_noise, without[0].generator_noise)
    assert without[0].discriminator_masks == without[0].generator_masks == ()


def test_an_epoch_shows_each_image_at_most_once_and_drops_the_partial_batch() -> None:
    steps = draws()
    assert len(steps) == 2
    shown = torch.cat([step.indices for step in steps])
    assert len(shown.unique()) == len(shown) == 20


def test_each_pass_through_the_discriminator_has_masks_of_its_own() -> None:
    step = draws()[0]
    assert [mask.shape for mask in step.discriminator_masks] == [(20, 16), (20, 4, 3)]
    assert [mask.shape for mask in step.generator_masks] == [(10, 16), (10, 4, 3)]
    for both, generated in zip(step.discriminator_masks, step.generator_masks, strict=True):
        real, fake = both.chunk(2)
        assert not torch.equal(real, fake)
        assert not torch.equal(real, generated)
        assert not torch.equal(fake, generated)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_masks_keep_the_right_share_independently(rate: float) -> None:
    bits = torch.empty(250_000, dtype=torch.int64).random_(-(2**63), None, generator=stream_generator(0, "dropout"))
    (mask,) = dropout_masks(bits, [(1000,)], 1000, rate, torch.float32)
    assert mask.shape == (1000, 1000)
    assert mask.unique().tolist() == [0, pytest.approx(1 / (1 - rate), rel=1e-7)], "scaled to the same mean"
    kept = (mask != 0).double()
    error = (rate * (1 - rate) / kept.numel()) ** 0.5
    assert kept.mean().item() == pytest.approx(1 - rate, abs=5 * error)
    # The four units cut from one random integer, and neighbouring rows, must not know of each other.
    for one, other in ((kept[:, :-1], kept[:, 1:]), (kept[:, :-2], kept[:, 2:]), (kept[:-1], kept[1:])):
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 5 / kept.numel() ** 0.5


def test_a_unit_is_kept_where_its_bits_reach_the_threshold_and_scaled_to_the_same_mean() -> None:
    """Hand-worked: at a rate of 1/2 the threshold is 0, at 1/4 it is -16,384, and without dropout all are kept."""
    units = torch.tensor([-(2**15), -16385, -16384, -1, 0, 2**15 - 1, -(2**15), 0], dtype=torch.int16)
    bits = units.view(torch.int64)
    for rate, kept, scale in ((0.5, [0, 0, 0, 0, 1, 1], 2), (0.25, [0, 0, 1, 1, 1, 1], 4 / 3), (0.0, [1] * 6, 1)):
        (mask,) = dropout_masks(bits, [(6,)], 1, rate, torch.float64)
        assert mask.tolist() == [[unit * scale for unit in kept]]
    (mask,) = dropout_masks(bits, [(3,)], 2, 0.5, torch.float32)
    assert (torch.tensor([1.0, -2.0, 3.0]) * mask).tolist() == [[0, 0, 0], [0, -4, 6]]
    first, second = dropout_masks(bits, [(2,), (2, 1)], 2, 0.5, torch.float32)
    assert first.tolist() == [[0, 0], [0, 0]]
    assert second.tolist() == [[[2], [2]], [[0], [2]]], "one layer's units after the other's"


def test_a_step_of_a_conditional_training_asks_for_classes_of_its_own() -> None:
    labels = torch.arange(25) % 3
    step = epoch_of(draws_of(labels=labels), 1)[0]
    assert step.discriminator_labels is not None
    assert step.generator_labels is not None
    assert not torch.equal(step.discriminator_labels, step.generator_labels)
    for asked, noise in (
        (step.discriminator_labels, step.discriminator_noise),
        (step.generator_labels, step.generator_noise),
    ):
        assert noise.shape == (10, 5 + 3)
        assert torch.equal(noise[:, 5:], torch.eye(3)[asked])


LATENTS, RATES = [5, 2, 9, 5], [0.3, 0.0, 0.75, 0.1]  # of four members; what the second drops is nothing


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("conditional", [False, True], ids=["untold", "conditional"])
def test_a_population_draws_what_its_members_would_alone(conditional: bool, dtype: torch.dtype) -> None:
    labels, classes = (torch.arange(25) % 3, 3) if conditional else (None, 0)
    numbers = list(zip(LATENTS, RATES, strict=True))
    settings: list[dict[str, Any]] = [
        {"seed": seed, "latent": latent, "dropout": rate, "labels": labels, "dtype": dtype}
        for seed, (latent, rate) in enumerate(numbers)
    ]
    alone = [epoch_of(draws_of(**member), 1) for member in settings]
    members = [draws_of(**member) for member in settings]
    latents, rates = torch.tensor(LATENTS), torch.tensor(RATES, dtype=torch.float64)
    widest = max(LATENTS)
    shape = NoiseShape(widest, 10, classes=classes, masks=SHAPES, dropout=max(RATES), dtype=dtype)
    for member in members:
        member.begin(1)
    for step in range(2):
        together = build_step_noise(stacked([member.raw() for member in members], shape), shape, latents, rates)
        for which, (latent, rate) in enumerate(numbers):
            expected = alone[which][step]
            ours = StepNoise(*pytree.tree_map_only(Tensor, itemgetter(which), tuple(together)))
            inputs = latent + classes
            for noise in (ours.discriminator_noise, ours.generator_noise):
                assert noise.shape == (10, widest + classes)
                assert not noise[:, inputs:].any(), "nothing after what the member itself is fed"
            ours = ours._replace(
                discriminator_noise=ours.discriminator_noise[:, :inputs],
                generator_noise=ours.generator_noise[:, :inputs],
            )
            if not rate:
                assert expected.discriminator_masks == expected.generator_masks == ()
                kept = [torch.ones(20, *units, dtype=dtype) for units in SHAPES]
                expected = expected._replace(
                    discriminator_masks=tuple(kept), generator_masks=tuple(mask[:10] for mask in kept)
                )
            assert equal(ours, expected), f"member {which}"


def stacked(raw: list[RandomNumbers], shape: NoiseShape) -> RandomNumbers:
    """The members' random numbers as a population's: noise filled up with zeros, and zero bits where there are none."""
    none = torch.zeros(shape.words, dtype=torch.int64)
    classes = [member.classes for member in raw if member.classes is not None]
    return RandomNumbers(
        torch.stack([member.indices for member in raw]),
        torch.stack([F.pad(member.noise, (0, shape.latent - member.noise.shape[-1])) for member in raw]),
        torch.stack([none if member.bits is None else member.bits for member in raw]),
        torch.stack(classes) if classes else None,
    )


def everything(**changes: object) -> StepNoise:
    """The first step of an epoch with all that can be drawn."""
    options: dict[str, object] = {"dropout": 0.3, "masks": SHAPES, "augment": True, "blend": True, "jitter": (1, 2, 2)}
    drawn = Randomness(seed=0, images=25, shape=NoiseShape(5, 10, **{**options, **changes}), device=CPU)  # type: ignore[arg-type]
    return epoch_of(drawn, 1)[0]


def test_what_is_drawn_for_distortions_and_penalties_is_uniform_and_moves_nothing_else() -> None:
    step, without = everything(), everything(augment=False, blend=False, jitter=())
    assert equal(step._replace(discriminator_augment=None, generator_augment=None, blend=None, jitter=None), without)
    for drawn, size in (
        (step.discriminator_augment, (20, DISTORTIONS)),
        (step.generator_augment, (10, DISTORTIONS)),
        (step.blend, (10,)),
        (step.jitter, (10, 1, 2, 2)),
    ):
        assert drawn is not None
        assert drawn.shape == size
        assert 0 <= drawn.min() < 0.5 < drawn.max() < 1
        assert len(drawn.unique()) == drawn.numel()
    assert equal(everything(), step)


def test_packs_have_fewer_masks_and_pairs_more() -> None:
    packed = everything(pack=5)
    assert [len(mask) for mask in (*packed.discriminator_masks, *packed.generator_masks)] == [4, 4, 2, 2]
    assert packed.generator_augment is not None
    assert len(packed.generator_augment) == 10, "images are distorted one by one"
    paired = everything(paired=True)
    assert [len(mask) for mask in (*paired.discriminator_masks, *paired.generator_masks)] == [20, 20, 20, 20]
    assert paired.generator_augment is not None
    assert len(paired.generator_augment) == 20


def test_sample_noise_begins_the_same_whatever_the_count() -> None:
    """But for the last 16 values, where their number is no multiple of 16."""
    assert torch.equal(sample_noise(3, 100, 8)[:16], sample_noise(3, 1000, 8)[:16])
    for count, latent in ((4, 5), (9, 8), (13, 7), (25, 64), (25, 3)):
        values, rest = count * latent, count * latent % 16
        same = values - 16 if rest else values
        few, many = sample_noise(3, count, latent).flatten(), sample_noise(3, 2 * count, latent).flatten()
        assert torch.equal(few[:same], many[:same])
