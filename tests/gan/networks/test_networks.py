"""The networks: shapes in, shapes out, masks where they say, labels where they count."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import data
from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan.networks import build, mask_shapes
from harness.gan.networks.layers import Projection, upsample_conv
from harness.gan.networks.residual import Block, ResidualDiscriminator, ResidualGenerator

KINDS = ["mlp", "conv", "residual"]


@pytest.fixture(scope="module")
def images() -> Images:
    return data.load("mnist", subset=60).train


def of_kind(tiny: Experiment, kind: str, **values: object) -> Experiment:
    dotted = {name.replace("__", "."): value for name, value in values.items()}
    return tiny.with_values({"generator.kind": kind, "discriminator.kind": kind, **dotted})


def weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conditional", [False, True])
def test_shapes_in_and_out(tiny: Experiment, images: Images, kind: str, conditional: bool) -> None:
    experiment = of_kind(tiny, kind, conditional=conditional)
    generator, discriminator = build(experiment, images)
    fake = generator(torch.randn(5, 8 + 10 * conditional))
    assert fake.shape == (5, 1, 28, 28)
    assert fake.abs().max() <= 1
    labels = torch.arange(5) if conditional else None
    masks = [torch.ones(5, *shape) for shape in mask_shapes(discriminator)]
    assert discriminator(fake, masks, labels).shape == (5,)
    assert discriminator(fake, None, labels).shape == (5,)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_reach_every_hidden_layer(tiny: Experiment, images: Images, kind: str) -> None:
    _, discriminator = build(of_kind(tiny, kind, discriminator__dropout=0.5), images)
    pixels = torch.randn(2, 1, 28, 28)
    for index in range(len(mask_shapes(discriminator))):
        masks = [torch.ones(2, *shape) for shape in mask_shapes(discriminator)]
        all_kept = discriminator(pixels, masks)
        masks[index] = masks[index].clone()
        masks[index][0].zero_()
        some_dropped = discriminator(pixels, masks)
        assert some_dropped[0] != all_kept[0]
        assert some_dropped[1] == all_kept[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_multiplied_with_and_nothing_else(tiny: Experiment, images: Images, kind: str) -> None:
    """The scaling is the mask's own: the network must not scale a second time, whatever its rate."""
    _, discriminator = build(of_kind(tiny, kind, discriminator__dropout=0.5), images)
    bias = discriminator.get_parameter("layers.2.bias" if kind == "mlp" else "head.bias")
    pixels = torch.randn(3, 1, 28, 28)
    masks = [torch.ones(3, *shape) for shape in mask_shapes(discriminator)]
    plain = discriminator(pixels)
    assert torch.equal(discriminator(pixels, masks), plain)
    masks[-1] = torch.tensor([2.0, 0.0, 1.0]).view(3, *[1] * (masks[-1].ndim - 1)).expand_as(masks[-1])
    expected = torch.stack([2 * (plain[0] - bias[0]) + bias[0], bias[0], plain[2]])
    assert torch.allclose(discriminator(pixels, masks), expected, atol=1e-6)


def layer_of(channels: int, size: tuple[int, int], members: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random images [2, 5, *size] in float64, and the weight and bias of a transposed convolution to `channels`."""
    random = torch.Generator().manual_seed(0)
    lead = (members,) if members else ()
    shapes = ((2, 5, *size), (5, channels, 4, 4), (channels,))
    hidden, weight, bias = (
        torch.randn(*lead, *shape, generator=random, dtype=torch.float64, requires_grad=True) for shape in shapes
    )
    return hidden, weight, bias


SIZES = [(7, 7), (6, 3), (1, 4)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_doubling_is_the_transposed_convolution(channels: int, size: tuple[int, int]) -> None:
    inputs = layer_of(channels, size)
    ours, theirs = upsample_conv(*inputs), F.conv_transpose2d(*inputs, stride=2, padding=1)
    assert ours.shape == (2, channels, 2 * size[0], 2 * size[1])
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = [torch.autograd.grad(outputs, inputs, upstream) for outputs in (ours, theirs)]
    assert all(torch.allclose(mine, other, rtol=0, atol=1e-12) for mine, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_doubling_goes_for_many_members_at_once(channels: int, size: tuple[int, int]) -> None:
    inputs = layer_of(channels, size, members=3)
    ours = torch.func.vmap(upsample_conv)(*inputs)
    theirs = torch.stack([F.conv_transpose2d(*member, stride=2, padding=1) for member in zip(*inputs, strict=True)])
    assert ours.shape == (3, 2, channels, 2 * size[0], 2 * size[1])
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = [torch.autograd.grad(outputs, inputs, upstream) for outputs in (ours, theirs)]
    assert all(torch.allclose(mine, other, rtol=0, atol=1e-12) for mine, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 16, 16), (3, 28, 28), (1, 32, 24), (3, 32, 24)], ids=str)
def test_other_sizes_and_channels(tiny: Experiment, kind: str, shape: tuple[int, int, int]) -> None:
    pixels = torch.zeros(20, *shape, dtype=torch.uint8)
    generator, discriminator = build(of_kind(tiny, kind), Images("mine", pixels, None, 0))
    assert generator(torch.randn(2, 8)).shape == (2, *shape)
    masks = [torch.ones(2, *mask) for mask in mask_shapes(discriminator)]
    assert discriminator(torch.randn(2, *shape), masks).shape == (2,)


@pytest.mark.parametrize("kind", KINDS)
def test_packs_come_as_channels_and_get_one_logit(tiny: Experiment, images: Images, kind: str) -> None:
    generator, discriminator = build(of_kind(tiny, kind, discriminator__pack=5), images)
    assert generator(torch.randn(2, 8)).shape == (2, 1, 28, 28)
    assert discriminator(torch.randn(4, 5, 28, 28)).shape == (4,)
    colour = Images("colour", torch.zeros(20, 3, 28, 28, dtype=torch.uint8), None, 0)
    _, discriminator = build(of_kind(tiny, kind, discriminator__pack=2), colour)
    assert discriminator(torch.randn(4, 6, 28, 28)).shape == (4,)


# The residual pair ------------------------------------------------------------------------------------------------


def test_blocks_begin_as_the_identity_and_are_trained_all_the_same() -> None:
    block = Block(8, 0.2, total=4)
    hidden = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(hidden), hidden)
    loss = (block(hidden) * torch.randn(2, 8, 5, 5)).sum()
    assert torch.autograd.grad(loss, block.widen.weight)[0].abs().max() > 0
    with torch.no_grad():
        block.widen.weight.normal_()
        assert not torch.equal(block(hidden), hidden)


def test_a_block_is_its_formula() -> None:
    block = Block(6, 0.2, total=2)
    nn.init.normal_(block.widen.weight)
    hidden = torch.randn(2, 6, 5, 5)
    inside = F.conv2d(F.leaky_relu(hidden, 0.2), block.narrow.weight, block.narrow.bias)
    inside = F.conv2d(F.leaky_relu(inside, 0.2), block.mix.weight, block.mix.bias, padding=1)
    inside = F.conv2d(F.leaky_relu(inside, 0.2), block.widen.weight, block.widen.bias)
    assert torch.allclose(block(hidden), hidden + inside)
    assert block.narrow.weight.shape == (3, 6, 1, 1)


@pytest.mark.parametrize("blocks", [1, 4, 8])
def test_the_scale_survives_any_number_of_blocks(tiny: Experiment, images: Images, blocks: int) -> None:
    """Standard normal in, about as large in front of tanh and of the judge, also where the blocks have moved."""
    plan = of_kind(tiny, "residual", generator__blocks=blocks, discriminator__blocks=blocks)
    generator, discriminator = build(plan, images)
    assert isinstance(generator, ResidualGenerator)
    assert isinstance(discriminator, ResidualDiscriminator)
    assert len(generator.at_half) == len(generator.at_quarter) == len(discriminator.at_half) == blocks
    random = torch.Generator().manual_seed(0)
    noise, pixels = torch.randn(500, 8, generator=random), torch.randn(500, 1, 28, 28, generator=random)
    for zeroed in (True, False):
        if not zeroed:
            for part in (*generator.modules(), *discriminator.modules()):
                if isinstance(part, Block):  # as He's rule would have them, at Fixup's scale
                    nn.init.normal_(part.widen.weight, std=(2 * blocks) ** -0.5 * part.widen.in_channels**-0.5)
        with torch.no_grad():
            drawn = torch.atanh(generator(noise).clamp(-0.999999, 0.999999))
            seen = discriminator.at_quarter(
                discriminator.conv2(F.leaky_relu(discriminator.at_half(discriminator.conv1(pixels)), 0.2))
            )
        assert 0.3 < drawn.std() < 3, f"the generator's, {zeroed=}"
        assert 0.3 < seen.std() < 3, f"the discriminator's, {zeroed=}"


def test_width_and_batch_norm_are_fields(tiny: Experiment, images: Images) -> None:
    narrow, _ = build(of_kind(tiny, "conv", generator__width=4), images)
    wide, _ = build(of_kind(tiny, "conv", generator__width=8), images)
    normed, _ = build(of_kind(tiny, "conv", generator__width=4, generator__batch_norm=True), images)
    assert weights(narrow) < weights(wide)
    assert weights(normed) == weights(narrow) + 2 * (16 + 8)


def test_the_projection_is_the_inner_product_with_the_labels_embedding() -> None:
    projection = Projection(classes=3, features=4)
    features, labels = torch.randn(5, 4), torch.tensor([0, 2, 1, 2, 0])
    expected = (projection.embeddings[labels] * features).sum(1)
    assert torch.allclose(projection(features, labels), expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_conditional_discriminator_tells_labels_apart(tiny: Experiment, images: Images, kind: str) -> None:
    _, discriminator = build(of_kind(tiny, kind, conditional=True), images)
    one = images.pixels[:1].float() / 127.5 - 1
    logits = discriminator(one.expand(10, -1, -1, -1), None, torch.arange(10))
    assert len(logits.unique()) == 10
    with pytest.raises(ValueError, match="needs the labels"):
        discriminator(one)


def test_a_conditional_experiment_needs_labels(tiny: Experiment, images: Images) -> None:
    unlabelled = Images("mine", images.pixels, None, 0)
    with pytest.raises(HarnessError, match="mine has no labels, but `conditional: true` needs them"):
        build(of_kind(tiny, "conv", conditional=True), unlabelled)


def test_sides_that_cannot_be_quartered_are_refused(tiny: Experiment) -> None:
    odd = Images("odd", torch.zeros(20, 1, 30, 28, dtype=torch.uint8), None, 0)
    with pytest.raises(HarnessError, match="odd are 30x28; networks of kind conv take sides divisible by 4"):
        build(of_kind(tiny, "conv"), odd)
    with pytest.raises(HarnessError, match="odd are 30x28; networks of kind residual take sides divisible by 4"):
        build(tiny.with_values({"discriminator.kind": "residual"}), odd)


def test_another_kind_brings_its_own_options(tiny: Experiment) -> None:
    conv = of_kind(tiny, "conv")
    assert conv.generator.kind == "conv"
    assert conv.generator.latent == 8, "what both kinds know is kept"
    assert "generator.widths" not in conv.flatten()
    with pytest.raises(HarnessError, match=r"generator\.kind is 'cnn'; expected 'mlp', 'conv'"):
        tiny.with_values({"generator.kind": "cnn"})
