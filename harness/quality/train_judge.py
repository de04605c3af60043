"""Train a judge: one fixed, seeded recipe for every data set, and the command that trained the bundled ones.

    python -m harness.quality.train_judge --which first --out harness/quality/weights/mnist-first.safetensors

The recipe: ten epochs of AdamW on batches of 128; the learning rate rises to 3e-3 over the first fifth of the steps and
falls to zero on a cosine; cross-entropy without label smoothing (which would collapse every class to a point); small
rotations, shifts and changes of size as augmentation. There are no flips: a mirrored digit is not a digit.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.console import to_stderr
from harness.data import Images, load, progress_messages
from harness.errors import HarnessError
from harness.experiment.sections import VALIDATION_IMAGES
from harness.quality.judge import Judge, save_judge
from harness.quality.networks import NETWORKS, JudgeNetwork

EPOCHS = 10
EPOCH_IMAGES = 50_000  # if there are more, each epoch uses another random 50,000
BATCH = 128
MIN_STEPS = 100  # a tiny data set is trained for more epochs
PEAK_LEARNING_RATE = 3e-3
WARM_UP = 0.2  # share of all steps


def train_judge(
    which: str,
    images: Images,
    *,
    epochs: int = EPOCHS,
    device: str | torch.device = "cpu",
    progress: Callable[[float], None] | None = None,
) -> JudgeNetwork:
    """Train a judge on labelled images; returns it in evaluation mode.

    The same seed, device, torch version and number of threads give the same weights; the global random state is
    unchanged.

    Args:
        which: `first` or `second`.
        images: The training images.
        epochs: Number of epochs. A tiny data set has more, for MIN_STEPS steps.
        device: The device to train on.
        progress: Called with the share of the work done, in (0, 1].

    Raises:
        HarnessError: the images have no labels, or one class only.
    """
    if images.labels is None or images.classes < 2 or len(images) < 2:
        raise HarnessError(
            f"no judge can be trained on {images.name}: it needs labelled images of two classes or more; "
            "use a custom feature network as quality.judge: package.module:Class"
        )
    device = torch.device(device)
    kind = NETWORKS[which]
    # Weights and dropout use the global random generators; order and augmentation use a separate one.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(kind.seed)
        network: JudgeNetwork = kind(images.pixels.shape[1], images.classes)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        _train(network, images.pixels.to(device), images.labels.to(device), epochs, kind.seed, progress)
    network.eval().requires_grad_(False)
    return network


def accuracy(network: JudgeNetwork, images: Images) -> float:
    """Return the share of labelled images whose class the network predicts."""
    _, classes = Judge(network, name="", sha256="", device=network.project.weight.device).features_and_classes(
        images.pixels
    )
    assert classes is not None
    assert images.labels is not None
    return (classes.cpu() == images.labels.cpu()).double().mean().item()


def _train(
    network: JudgeNetwork,
    pixels: Tensor,
    labels: Tensor,
    epochs: int,
    seed: int,
    progress: Callable[[float], None] | None,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    count = min(len(pixels), EPOCH_IMAGES)
    batch = min(BATCH, count)
    epochs = max(epochs, -(-MIN_STEPS // (count // batch)))
    steps = epochs * (count // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _one_cycle(step / steps))
    done = 0
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(pixels), generator=generator).to(pixels.device)
        for members in torch.split(order[:count], batch):
            if len(members) < batch:
                continue  # the last, partial batch
            _, logits = network(augment(pixels[members], generator))
            loss = F.cross_entropy(logits, labels[members])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if progress is not None:
                progress(done / steps)


def _one_cycle(share: float) -> float:
    """The learning rate after that share of the steps, as a fraction of its peak."""
    if share < WARM_UP:
        return 0.05 + 0.95 * share / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by up to 10 degrees, resize by 10 % and shift by 7 %: uint8 [N, C, H, W] to float in [0, 255]."""
    turn, size, right, down = torch.rand(4, len(pixels), generator=generator).mul(2).sub(1).to(pixels.device)
    angle = turn * math.radians(10)
    size = 1 + 0.1 * size
    cosine, sine = size * angle.cos(), size * angle.sin()
    # The affine grid counts half an image as 1.
    rows = torch.stack([cosine, -sine, 0.14 * right, sine, cosine, 0.14 * down], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)


def main() -> None:
    """Run the command line of this module."""
    parser = argparse.ArgumentParser(
        description="Train a judge on a data set's training split, without its validation images."
    )
    parser.add_argument("--which", choices=list(NETWORKS), required=True, help="which of the two networks")
    parser.add_argument(
        "--out", type=Path, required=True, help="the .safetensors file to write; facts go to .json beside it"
    )
    parser.add_argument("--data", default="mnist", help="a data set of the registry (default: mnist)")
    parser.add_argument("--device", default="cpu", help="a torch device (default: cpu)")
    arguments = parser.parse_args()
    try:
        splits = load(arguments.data, validation=VALIDATION_IMAGES, message=to_stderr)
        report_progress = progress_messages(to_stderr, "training the judge")
        started = time.perf_counter()
        network = train_judge(arguments.which, splits.train, device=arguments.device, progress=report_progress)
        seconds = time.perf_counter() - started
        facts = {
            "shape": list(splits.train.pixels.shape[1:]),
            "classes": splits.train.classes,
            "test_accuracy": accuracy(network, splits.test),
            "trained_on": f"{splits.train.name}, {len(splits.train):,} images, {splits.train.fingerprint}",
            "features": network.num_features,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "seconds": round(seconds, 1),
            "torch": torch.__version__,
            "device": f"{arguments.device}, {torch.get_num_threads()} threads, {platform.machine()}",
        }
        facts["sha256"] = save_judge(network, arguments.out, facts)
        print(json.dumps(facts, indent=2))
    except (HarnessError, OSError) as error:
        sys.exit(f"train_judge: {error}")


if __name__ == "__main__":
    main()
