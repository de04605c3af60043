"""How fast a run trains, beside the notebook's way and the machine's own limit: `make bench`.

All sides of a network are timed in turn, A B C A B C ..., in one process. The limit is what the matrix products of one
step take when each of their shapes is timed alone in the same process: no way of training that does these products can
be faster. Prints a table, then JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from circumstances import circumstances
from notebook_way import NotebookWay, conv_pair, mlp_pair

from harness import data
from harness import experiment as experiments
from harness.gan import Training

STEPS = 40
WARM_UP = 2  # turns that are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="counted turns of every side (default 7)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    results = {name: measure(name, arguments.turns, arguments.device) for name in ("mlp", "conv")}
    for name, sides in results.items():
        base = statistics.median(sides["notebook's way"])
        print(f"\n{name:24}{'images/s':>10}{'least':>10}{'most':>10}{'x':>8}")
        for side, rates in sides.items():
            middle = statistics.median(rates)
            print(f"{side:24}{middle:10,.0f}{min(rates):10,.0f}{max(rates):10,.0f}{middle / base:8.2f}")
    print(
        json.dumps({"images_per_second": results, "steps_a_turn": STEPS, **circumstances(arguments.device)}, indent=2)
    )


def measure(name: str, turns: int, device: str) -> dict[str, list[float]]:
    """Images a second of every side, a figure a turn."""
    batch, latent, lr = (100, 100, 2e-4) if name == "mlp" else (64, 64, 2e-3)
    count = STEPS * batch
    images = data.load("mnist", subset=count).train
    pair = mlp_pair() if name == "mlp" else conv_pair()
    theirs = NotebookWay(pair, root=data.cache_folder(), images=count, batch=batch, latent=latent, lr=lr, device=device)
    sides: dict[str, Callable[[], object]] = {"notebook's way": theirs.train}
    overrides = [f"train.device={device}", "track.score_every=null", "train.epochs=1000"]
    if name == "conv":  # what the notebook's way does not do is left out on both sides
        overrides += ["conditional=false", "train.ema_half_life=null", "optimizer.schedule=constant"]
    for precision in ("fp32", "bf16"):
        plan = experiments.load(
            "notebook" if name == "mlp" else "default", [*overrides, f"train.precision={precision}"]
        )
        sides[f"harness, {precision}"] = Training(plan, images).train_epoch
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(WARM_UP + turns):
        for side, train in sides.items():
            began = time.perf_counter()
            train()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn >= WARM_UP:
                rates[side].append(count / (time.perf_counter() - began))
    if name == "mlp":
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            rates[f"limit, {precision}"] = [batch / gemm_seconds(batch, dtype, device) for _ in range(turns)]
    return rates


def gemm_seconds(batch: int, dtype: torch.dtype, device: str) -> float:
    """Seconds that the matrix products of one step of the notebook's networks take, each shape timed alone."""
    generator = list(pairwise((100, 256, 512, 1024, 784)))
    discriminator = list(pairwise((784, 1024, 512, 256, 1)))
    products: dict[tuple[int, int, int], int] = {}

    def need(rows: int, inner: int, columns: int, times: int = 1) -> None:
        products[rows, inner, columns] = products.get((rows, inner, columns), 0) + times

    for before, after in generator:
        need(batch, before, after, 2)  # forward, for each network's step
        need(after, batch, before)  # gradient of the weights
    for before, after in discriminator:
        need(batch, before, after, 3)  # forward: real, generated, and for the generator's step
        need(after, batch, before, 2)  # gradient of the weights, in its own step alone
        need(batch, after, before)  # gradient of the inputs, in the generator's step
    for before, after in discriminator[1:]:
        need(batch, after, before, 2)  # and in its own, but for the images
    for before, after in generator[1:]:
        need(batch, after, before)
    return sum(times * _seconds(shape, dtype, device) for shape, times in products.items())


def _seconds(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> float:
    rows, inner, columns = shape
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(inner, columns, device=device).to(dtype)
    out = torch.empty(rows, columns, dtype=dtype, device=device)
    repeats = max(5, int(2e8 / (rows * inner * columns)))
    for warm_up in (True, False):
        began = time.perf_counter()
        for _ in range(repeats):
            torch.mm(left, right, out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        if not warm_up:
            return (time.perf_counter() - began) / repeats
    raise AssertionError


if __name__ == "__main__":
    main()
