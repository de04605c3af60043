"""How long scoring takes, and how much memory: everything at 10,000 and at 2,000 images, and KID with Frechet at 2,000.

    OMP_NUM_THREADS=2 python benchmarks/scores.py [--repeat 5] [--device cpu]

The first scoring of each kind is warm-up and fills the cache of real features; the clock stops when the numbers are on
the host. What is scored are noisy test digits: the sums are the same for any images. Prints a table, then JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time

import psutil
import torch
from circumstances import circumstances

from harness.data import load
from harness.quality import Scorer, load_judge

MEBIBYTE = 2**20


class PeakMemory:
    """The most that this process grew by inside the block, in MiB, looked at every 5 ms."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self._start = self._most = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.mebibytes = (self._most - self._start) / MEBIBYTE

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._most = max(self._most, self._process.memory_info().rss)


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
    settings = (("final", 10_000, True), ("between epochs", 2_000, True), ("KID + Frechet", 2_000, False))
    for name, samples, full in settings:
        scorer = Scorer(judge, splits.validation, splits.train, samples=samples)
        with PeakMemory() as memory:
            scorer.score(pixels[:samples], full=full)
        seconds = []
        for _ in range(arguments.repeat):
            started = time.perf_counter()
            scorer.score(pixels[:samples], full=full)
            seconds.append(time.perf_counter() - started)
        results[name] = {
            "samples": samples,
            "seconds": seconds,
            "median_s": statistics.median(seconds),
            "least_s": min(seconds),
            "most_s": max(seconds),
            "extra_memory_mib": round(memory.mebibytes),
        }
    report = {"results": results, **circumstances(arguments.device), "judge": f"{judge.name} {judge.sha256}"}
    print(f"{'scores':16s}{'samples':>9s}{'median':>10s}{'least':>10s}{'most':>10s}{'memory':>12s}")
    for name, row in results.items():
        times = "".join(f"{row[key]:8.2f} s" for key in ("median_s", "least_s", "most_s"))
        print(f"{name:16s}{row['samples']:9,}{times}{row['extra_memory_mib']:8} MiB")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
