"""How long scoring takes, and how much memory: everything at 10,000 and at 2,000 images, and KID with Frechet at 2,000.

    OMP_NUM_THREADS=2 python benchmarks/scores.py [--repeat 5] [--device cpu]

The first scoring of each kind is warm-up and fills the cache of real features; the clock stops when the numbers are on
the host. What is scored are noisy test digits: the sums are the same for any images. Prints a table, then JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from circumstances import circumstances
from timing import PeakMemory

from harness.data import load
from harness.quality import Scorer, load_judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="timed repetitions (default: 5)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    splits = load("mnist", validation=10_000)
    judge = load_judge("first", splits.train, arguments.device)
    assert splits.validation is not None
    noise = torch.randint(-20, 21, splits.test.pixels.shape, generator=torch.Generator().manual_seed(0))
    pixels = (splits.test.pixels + noise).clamp(0, 255).to(torch.uint8)

    results = {}
    print(f"{'scores':16s}{'samples':>9s}{'median':>10s}{'least':>10s}{'most':>10s}{'memory':>12s}")
    settings = (("final", 10_000, True), ("between epochs", 2_000, True), ("KID + Frechet", 2_000, False))
    for name, samples, full in settings:
        scorer = Scorer(judge, splits.validation, splits.train, samples=samples)
        with PeakMemory(arguments.device) as memory:
            scorer.score(pixels[:samples], full=full)
        seconds = []
        for _ in range(arguments.repeat):
            started = time.perf_counter()
            scorer.score(pixels[:samples], full=full)
            seconds.append(time.perf_counter() - started)
        row = {
            "samples": samples,
            "seconds": seconds,
            "median_s": statistics.median(seconds),
            "least_s": min(seconds),
            "most_s": max(seconds),
            "extra_memory_mib": round(memory.mebibytes),
        }
        times = "".join(f"{row[key]:8.2f} s" for key in ("median_s", "least_s", "most_s"))
        print(f"{name:16s}{samples:9,}{times}{row['extra_memory_mib']:8} MiB")
        results[name] = row
    report = {"results": results, **circumstances(arguments.device), "judge": f"{judge.name} {judge.sha256}"}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
