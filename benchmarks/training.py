"""How fast a run trains, beside the notebook's way and the machine's own limit.

    python benchmarks/training.py [--turns 7] [--steps 40] [--device cpu] [--json FILE]

All sides of a network are timed in turn, A B C A B C ..., in one process, after two turns of warm-up; the limit
(benchmarks/limits.py) takes its turn with them. Images a second are by the clock and include what ends every epoch
(logits of 1,000 images each, the check that all weights are finite); microseconds a step are training alone. On a GPU
also: the step recorded as a CUDA graph beside the plain one, and twenty members of a population, whose images are
counted together. Prints tables in Markdown, then JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from limits import Limit
from notebook_way import NotebookWay, conv_pair, mlp_pair
from plans import BATCH, KINDS, plan, some_images
from timing import alternate, most_memory, on_cuda, print_table, report, spread, wait

from harness import data
from harness.gan import BatchedTraining, Training

STEPS = {"cpu": 40, "cuda": 600}  # of an epoch; the notebook's way, which has nothing to do at its end, takes 40
MEMBERS = 20
PLAIN, RECORDED, MAX_BATCH_RUNS = (
    "twenty one after the other, plain",
    "twenty one after the other, recorded",
    "twenty together, recorded",
)


@dataclass(frozen=True)
class Turn:
    """images: of all members. seconds: by the clock. step_seconds: of one step of all members, training alone."""

    images: int
    seconds: float
    step_seconds: float

    @property
    def rate(self) -> float:
        return self.images / self.seconds


Side = Callable[[], Turn]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7, help="counted turns of every side (default: 7)")
    parser.add_argument("--steps", type=int, help="steps a turn (default: 40; on a GPU 600)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the JSON there too")
    arguments = parser.parse_args()
    device, turns = arguments.device, arguments.turns
    steps = arguments.steps or STEPS["cuda" if on_cuda(device) else "cpu"]
    results = {}
    for kind, title in KINDS.items():
        results[kind] = measure(f"{title}, batch {BATCH[kind]}", alone(kind, steps, device), turns, device)
    if on_cuda(device):
        for kind, title in KINDS.items():
            # A turn of twenty runs is long: fewer of them will do.
            sides = twenty(kind, steps, device)
            results[f"{kind}, twenty"] = measure(f"{title}, {MEMBERS} members", sides, min(turns, 3), device, warm_up=1)
    report({"training": results, "steps_a_turn": steps}, device, arguments.json)


def measure(title: str, sides: dict[str, Side], turns: int, device: str, *, warm_up: int = 2) -> dict[str, object]:
    """Print one table: every side against the first, and against the limit of its own precision."""
    memory: list[float] = []

    def counted(run: Side) -> Turn:
        if on_cuda(device):
            torch.cuda.reset_peak_memory_stats()
        turn = run()
        memory.append(most_memory(device))
        return turn

    measured = {side: run if side.startswith("limit") else partial(counted, run) for side, run in sides.items()}
    found = alternate(measured, turns, warm_up, lambda turn: f"{turn.rate:,.0f} images/s")
    rates = {side: [turn.rate for turn in taken] for side, taken in found.items()}
    middles = {side: spread(values)[0] for side, values in rates.items()}
    base = next(iter(middles.values()))
    rows = []
    results: dict[str, object] = {}
    for side, taken in found.items():
        middle, least, most = spread(rates[side])
        limit = "limit, bf16" if "bf16" in side else "limit, fp32"
        ratio, share = middle / base, middle / middles[limit]
        step = spread([turn.step_seconds for turn in taken])[0]
        cells = [f"{value:,.0f}" for value in (middle, least, most)]
        rows.append([side, *cells, f"{ratio:.2f}", f"{share:.1%}", f"{1e6 * step:,.0f}"])
        results[side] = {
            "images_per_second": {"median": middle, "least": least, "most": most},
            "ratio": ratio,
            "share_of_limit": share,
            "step_seconds": step,
            "turns": [asdict(turn) for turn in taken],
        }
    print_table([title, "images/s", "least", "most", "ratio", "of the limit", "µs a step"], rows)
    where = "on the device, all sides together" if on_cuda(device) else "in the process so far"
    print(f"\nMost memory {where}: {max(memory):,.0f} MiB\n")
    results["most_memory_mib"] = max(memory)
    return results


def alone(kind: str, steps: int, device: str) -> dict[str, Side]:
    """One training, each way, and the limits."""
    images = some_images(steps * BATCH[kind]).to(device)
    sides = {"notebook's way": notebooks(kind, min(steps, STEPS["cpu"]), device)}
    if on_cuda(device):
        sides["harness fp32, recorded"] = one_after_the_other([Training(plan(kind, device), images)])
        sides["harness fp32, plain"] = one_after_the_other([Training(plan(kind, device), images, capture=False)])
    else:
        sides["harness fp32"] = one_after_the_other([Training(plan(kind, device), images)])
    sides["harness bf16"] = one_after_the_other([Training(plan(kind, device, "train.precision=bf16"), images)])
    return {**sides, **{f"limit, {precision}": limit(kind, precision, device) for precision in ("fp32", "bf16")}}


def twenty(kind: str, steps: int, device: str) -> dict[str, Side]:
    """As many trainings, which differ in their seed."""
    images = some_images(steps * BATCH[kind]).to(device)
    plans = [plan(kind, device, f"train.seed={seed}") for seed in range(MEMBERS)]
    return {
        PLAIN: one_after_the_other([Training(each, images, capture=False) for each in plans]),
        RECORDED: one_after_the_other([Training(each, images) for each in plans]),
        MAX_BATCH_RUNS: together([Training(each, images) for each in plans]),
        "limit, fp32": limit(kind, "fp32", device, MEMBERS),
    }


def notebooks(kind: str, steps: int, device: str) -> Side:
    latent, lr = {"mlp": (100, 2e-4), "conv": (64, 2e-3)}[kind]
    pair = {"mlp": mlp_pair, "conv": conv_pair}[kind]()
    images, batch = steps * BATCH[kind], BATCH[kind]
    data.load("mnist")  # unpacks it
    way = NotebookWay(pair, root=data.cache_folder(), images=images, batch=batch, latent=latent, lr=lr, device=device)

    def turn() -> Turn:
        began = time.perf_counter()
        way.train()
        wait(device)
        seconds = time.perf_counter() - began
        return Turn(images, seconds, seconds / steps)

    return turn


def one_after_the_other(trainings: list[Training]) -> Side:
    def turn() -> Turn:
        began = time.perf_counter()
        training_alone = sum(training.train_epoch().seconds for training in trainings)
        seconds = time.perf_counter() - began
        return Turn(_images(trainings), seconds, training_alone / trainings[0].steps_per_epoch)

    return turn


def together(trainings: list[Training]) -> Side:
    population = BatchedTraining(trainings)

    def turn() -> Turn:
        began = time.perf_counter()
        _, first = population.train_epoch()[0]
        seconds = time.perf_counter() - began
        return Turn(_images(trainings), seconds, first.seconds / trainings[0].steps_per_epoch)

    return turn


def limit(kind: str, precision: str, device: str, members: int = 1) -> Side:
    measured = Limit(kind, precision, device, members)

    def turn() -> Turn:
        seconds = measured.seconds()
        return Turn(members * BATCH[kind], seconds, seconds)

    return turn


def _images(trainings: list[Training]) -> int:
    return sum(training.steps_per_epoch * training.experiment.train.batch_size for training in trainings)


if __name__ == "__main__":
    main()
