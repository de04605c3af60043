"""The training step against a straight transcription of the notebook's description, and the objectives' values."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import data
from harness import experiment as experiments
from harness.gan import Training
from harness.gan.draws import StepDraws
from harness.gan.objectives import OBJECTIVES, NonSaturating

STEPS = 50


class Transcription:
    """The notebook, word for word: each network a list of weights, each step two losses, two optimisers.

    Dropout masks are handed in as booleans; the scaling by 1 / (1 - 0.3) is done here.

    fused: round as torch's fused Adam does. A GAN in fp32 amplifies a single rounding error ten-thousandfold within 50
    steps, so there a difference in the sums can be told from one in the rounding only where the rounding is alike.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, *, fused: bool) -> None:
        self.g = [copy.deepcopy(layer) for layer in generator.layers]
        self.d = [copy.deepcopy(layer) for layer in discriminator.layers]
        self.g_adam = torch.optim.Adam([w for layer in self.g for w in layer.parameters()], lr=2e-4, fused=fused)
        self.d_adam = torch.optim.Adam([w for layer in self.d for w in layer.parameters()], lr=2e-4, fused=fused)

    def generate(self, noise: Tensor) -> Tensor:
        hidden = noise
        for layer in self.g[:-1]:
            hidden = F.leaky_relu(layer(hidden), 0.2)
        return torch.tanh(self.g[-1](hidden))

    def judge(self, images: Tensor, masks: list[Tensor]) -> Tensor:
        hidden = images
        for layer, mask in zip(self.d[:-1], masks, strict=True):
            hidden = F.leaky_relu(layer(hidden), 0.2)
            hidden = torch.where(mask, hidden / (1 - 0.3), torch.zeros_like(hidden))
        return self.d[-1](hidden)

    def step(self, pixels: Tensor, draws: StepDraws) -> tuple[float, float]:
        batch = len(pixels)
        dtype = draws.generator_noise.dtype
        real = (pixels.to(dtype) / 255 - 0.5) / 0.5
        real = real.reshape(batch, 784)
        ones, zeros = torch.ones(batch, 1, dtype=dtype), torch.zeros(batch, 1, dtype=dtype)

        self.d_adam.zero_grad()
        real_loss = F.binary_cross_entropy_with_logits(self.judge(real, list(draws.real_masks)), ones)
        fake = self.generate(draws.discriminator_noise).detach()
        fake_loss = F.binary_cross_entropy_with_logits(self.judge(fake, list(draws.fake_masks)), zeros)
        d_loss = real_loss + fake_loss
        d_loss.backward()
        self.d_adam.step()

        self.g_adam.zero_grad()
        logits = self.judge(self.generate(draws.generator_noise), list(draws.generator_masks))
        g_loss = F.binary_cross_entropy_with_logits(logits, ones)
        g_loss.backward()
        self.g_adam.step()
        return d_loss.item(), g_loss.item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_fifty_steps_equal_a_transcription_of_the_notebook(dtype: torch.dtype, tolerance: float) -> None:
    experiment = experiments.load("notebook", ["data.subset=5000", "train.device=cpu"])
    images = data.load("mnist", subset=5000).train
    training = Training(experiment, images, dtype=dtype)
    twin = Transcription(training.generator, training.discriminator, fused=dtype == torch.float32)
    for count, draws in enumerate(training.draws(epoch=1), start=1):
        pixels = images.pixels[draws.indices]
        ours = training.step(pixels, draws)[:2].tolist()
        theirs = twin.step(pixels, draws)
        assert ours == pytest.approx(theirs, abs=tolerance, rel=0), f"losses of step {count}"
    assert count == STEPS
    if dtype == torch.float64:
        for network, layers in ((training.generator, twin.g), (training.discriminator, twin.d)):
            for ours_layer, their_layer in zip(network.layers, layers, strict=True):
                assert (ours_layer.weight - their_layer.weight).abs().max() < tolerance
                assert (ours_layer.bias - their_layer.bias).abs().max() < tolerance


def test_losses_are_never_swapped() -> None:
    """On logits where D is right and sure of it, D's loss is small and G's large; hand-worked values."""
    real, fake = torch.tensor([2.0, 2.0]), torch.tensor([-2.0, -2.0])
    objective = NonSaturating()
    sure, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert objective.discriminator(real, fake).item() == pytest.approx(2 * sure, rel=1e-6)
    assert objective.generator(fake).item() == pytest.approx(wrong, rel=1e-6)


def test_a_report_names_each_loss_after_its_own_network() -> None:
    """A generator that cannot learn loses while D learns: the larger loss must be the generator's."""
    experiment = experiments.load("notebook", ["data.subset=2000", "train.device=cpu", "optimizer.lr=1e-12"])
    frozen = experiment.with_values({"optimizer.discriminator_lr": 1e-3})
    report = Training(frozen, data.load("mnist", subset=2000).train).train_epoch()
    assert report.metrics["loss/generator"] > 2 > 1 > report.metrics["loss/discriminator"]
    assert report.metrics["logit/real"] > 0 > report.metrics["logit/fake"]
    assert report.metrics["accuracy/real"] > 0.95
    assert report.metrics["accuracy/fake"] > 0.95


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_equilibrium_of_an_undecided_discriminator(kind: str) -> None:
    undecided = torch.zeros(5)
    objective = OBJECTIVES[kind]()
    assert objective.discriminator(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    assert objective.generator(undecided).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_objective_gradients_match_finite_differences(kind: str) -> None:
    objective = OBJECTIVES[kind]()
    real = torch.tensor([0.3, -1.2, 4.0], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([-0.7, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(objective.discriminator, (real, fake))
    assert torch.autograd.gradcheck(objective.generator, (fake,))


def test_extreme_logits_keep_their_losses() -> None:
    """sigmoid + BCELoss would clamp here (at 100) and lose the gradient."""
    fake = torch.tensor([-500.0], requires_grad=True)
    loss = NonSaturating().generator(fake)
    assert loss.item() == pytest.approx(500)
    (gradient,) = torch.autograd.grad(loss, fake)
    assert gradient.item() == pytest.approx(-1)
