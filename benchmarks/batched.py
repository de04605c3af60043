"""Compare plain modules under vmap with layers written by hand for batched weights.

    python benchmarks/batched.py [--sizes 4 20] [--turns 7] [--device cpu] [--json FILE]

Three variants alternate, A B C A B C ..., in one process, after two rounds of warm-up: members trained one after the
other (the step of one training, times their number), a BatchedTraining (vmap), and a BatchedTraining with forward
passes written by hand, with the same noise, losses and optimizers. Before the measurement, the losses of a first step
under vmap and by hand are compared. The result is milliseconds per step of all members, without scoring. Prints tables
in Markdown, then JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from plans import BATCH, KINDS, plan, some_images
from timing import alternate, on_cuda, print_table, report, spread
from torch import Tensor

from harness.data import Images
from harness.gan import BatchedTraining, Training
from harness.gan.step import training_step

STEPS = {"cpu": 5, "cuda": 200}  # of a turn
SLOPE = 0.2  # of LeakyReLU in both kinds

Weights = Mapping[str, Tensor]


class ByHand(BatchedTraining):
    """A BatchedTraining without vmap: every layer uses the weights of all members at once."""

    def _add_step(self) -> None:
        self._totals[:4] += torch.stack(self.step_by_hand())

    def step_by_hand(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The first four of `StepStats`."""
        noise = self.step_noise()
        real, _ = self.real_images(noise)
        generate, judge = _NETWORKS[self.members[0].experiment.generator.kind]
        generator, discriminator = self._generator.weights(), self._discriminator.weights()
        with torch.no_grad():
            fake = generate(generator, noise.discriminator_noise)
        images = torch.cat([real, fake], dim=1)  # [K, 2B, C, H, W]
        real_logits, fake_logits = judge(discriminator, images, noise.discriminator_masks).chunk(2, dim=1)
        d_losses = _cross_entropy(real_logits, 1.0) + _cross_entropy(fake_logits, 0.0)
        d_norms = self.update_discriminator(d_losses)
        generator, discriminator = self._generator.weights(), self._discriminator.weights()
        fake = generate(generator, noise.generator_noise)
        g_losses = _cross_entropy(judge(discriminator, fake, noise.generator_masks), 1.0)
        g_norms = self.update_generator(g_losses)
        return d_losses.detach(), g_losses.detach(), d_norms, g_norms


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    """[K, B] to the mean over each member's batch [K]."""
    losses = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none")
    return losses.mean(1)


def _linear(weights: Weights, name: str, inputs: Tensor) -> Tensor:
    """[K, B, in] to [K, B, out]."""
    return torch.baddbmm(weights[f"{name}.bias"].unsqueeze(1), inputs, weights[f"{name}.weight"].mT)


def _mlp_generator(weights: Weights, noise: Tensor) -> Tensor:
    hidden = noise
    last = max(int(name.split(".")[1]) for name in weights)
    for index in range(last):
        hidden = F.leaky_relu(_linear(weights, f"layers.{index}", hidden), SLOPE)
    return torch.tanh(_linear(weights, f"layers.{last}", hidden)).unflatten(2, (1, 28, 28))


def _mlp_discriminator(weights: Weights, images: Tensor, masks: Sequence[Tensor]) -> Tensor:
    hidden = images.flatten(2)
    last = max(int(name.split(".")[1]) for name in weights)
    for index in range(last):
        hidden = F.leaky_relu(_linear(weights, f"layers.{index}", hidden), SLOPE)
        if masks:
            hidden = hidden * masks[index]
    return _linear(weights, f"layers.{last}", hidden).squeeze(2)


# The convolutions of all members are one with as many groups: its images are [B, K*C, H, W], the channels last.


def _conv_generator(weights: Weights, noise: Tensor) -> Tensor:
    members = len(noise)
    hidden = _linear(weights, "fc", noise).unflatten(2, (7, 7, -1))  # [K, B, 7, 7, 4w]
    hidden = F.leaky_relu(hidden.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2), SLOPE)
    hidden = F.leaky_relu(_grouped(F.conv_transpose2d, weights, "deconv1", hidden), SLOPE)
    images = torch.tanh(_grouped(F.conv_transpose2d, weights, "deconv2", hidden))
    return images.unflatten(1, (members, 1)).transpose(0, 1)


def _conv_discriminator(weights: Weights, images: Tensor, masks: Sequence[Tensor]) -> Tensor:
    assert not masks, "the convolutional pair is measured without dropout"
    members = len(images)
    hidden = F.leaky_relu(_grouped(F.conv2d, weights, "conv1", images.transpose(0, 1).flatten(1, 2)), SLOPE)
    hidden = F.leaky_relu(_grouped(F.conv2d, weights, "conv2", hidden), SLOPE)
    features = hidden.unflatten(1, (members, -1)).permute(1, 0, 3, 4, 2).flatten(2)  # [K, B, 7*7*4w]
    return _linear(weights, "head", features).squeeze(2)


def _grouped(convolution: Callable[..., Tensor], weights: Weights, name: str, images: Tensor) -> Tensor:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return convolution(images, weight.flatten(0, 1), bias.flatten(), stride=2, padding=1, groups=len(weight))


_NETWORKS = {"mlp": (_mlp_generator, _mlp_discriminator), "conv": (_conv_generator, _conv_discriminator)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 20], help="members (default: 4 20)")
    parser.add_argument("--turns", type=int, default=7, help="counted turns of every side (default: 7)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the JSON there too")
    arguments = parser.parse_args()
    if min(arguments.sizes) < 2:
        sys.exit("populations: a population has two members or more")
    results: dict[str, object] = {}
    for kind, title in KINDS.items():
        for size in arguments.sizes:
            results[f"{kind}, {size}"] = measure(kind, title, size, arguments.turns, arguments.device)
    report({"milliseconds_a_step": results}, arguments.device, arguments.json)


def measure(kind: str, title: str, size: int, turns: int, device: str) -> dict[str, object]:
    """Milliseconds a step of every side."""
    steps = STEPS["cuda" if on_cuda(device) else "cpu"]
    images = some_images(steps * BATCH[kind]).to(device)
    check(kind, size, images, device)
    lone = Training(plan(kind, device), images)
    vmapped, by_hand = (population(_members(kind, size, images, device)) for population in (BatchedTraining, ByHand))
    sides: dict[str, Callable[[], float]] = {
        "one after the other": lambda: size * lone.train_epoch().seconds,
        "vmap": lambda: vmapped.train_epoch()[0][1].seconds,
        "by hand": lambda: by_hand.train_epoch()[0][1].seconds,
    }
    taken = alternate(sides, turns, show=lambda seconds: f"{1e3 * seconds / steps:,.3f} ms a step")
    milliseconds = {side: [1e3 * seconds / steps for seconds in values] for side, values in taken.items()}
    middles = {side: spread(values)[0] for side, values in milliseconds.items()}
    rows = []
    results: dict[str, object] = {}
    for side, values in milliseconds.items():
        middle, least, most = spread(values)
        ratios = [middles[other] / middle for other in ("one after the other", "vmap")]
        cells = [f"{value:,.3f}" for value in (middle, least, most)]
        rows.append([side, *cells, *(f"{ratio:.2f}" for ratio in ratios)])
        results[side] = {"median": middle, "least": least, "most": most, "turns": values}
    header = [f"{title}, batch {BATCH[kind]}, {size} members", "ms a step", "least", "most"]
    print_table([*header, "faster than one after the other", "than vmap"], rows)
    print()
    return results


def check(kind: str, size: int, images: Images, device: str) -> None:
    """Both populations' losses agree in their first step."""
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    numbers = []
    for population in (BatchedTraining, ByHand):
        members = _members(kind, size, images, device, capture=False)
        whole = population(members)
        for member in members:
            member.begin_epoch()
            member.set_schedule()
        stats = whole.step_by_hand() if isinstance(whole, ByHand) else training_step(whole, whole.step_noise)
        numbers.append(torch.stack(stats[:2]))
    torch.backends.cudnn.allow_tf32 = tf32
    vmapped, by_hand = numbers
    assert torch.allclose(by_hand, vmapped, rtol=1e-4, atol=0), f"by hand {by_hand} is not what vmap is: {vmapped}"


def _members(kind: str, size: int, images: Images, device: str, *, capture: bool = True) -> list[Training]:
    """Trainings that differ in their seed."""
    return [Training(plan(kind, device, f"train.seed={seed}"), images, capture=capture) for seed in range(size)]


if __name__ == "__main__":
    main()
