"""Does bf16 cost quality? The notebook's networks trained in fp32 and in bf16, scored against the test split.

    python benchmarks/quality.py [--seeds 5] [--epochs 20] [--only fp32|bf16] [--out build/quality.jsonl]
                                 [--device cpu] [--subset N] [--samples 10000]

For every seed the logarithm of the Frechet distance of both; over the seeds the mean difference, bf16 less fp32, with
its 95 % interval (Student's t, seeds in pairs), and whether that lies within +-0.25. Every finished run is a line of
the file, and is not repeated when the command is started again. Some minutes a run on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

from circumstances import circumstances
from scipy import stats
from timing import print_table

from harness import data
from harness import experiment as experiments
from harness.data import Splits
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import Training
from harness.quality.scoring import Scoring

PRECISIONS = ("fp32", "bf16")
MARGIN = 0.25  # of the logarithm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="trained in either precision: 0, 1, ... (default: 5)")
    parser.add_argument("--epochs", type=int, default=20, help="of every run (default: 20)")
    parser.add_argument("--only", choices=PRECISIONS, help="train this one alone; the other's runs are read")
    parser.add_argument("--out", type=Path, default=Path("build/quality.jsonl"), help="the runs, one a line")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--subset", type=int, help="train on so many images (default: all 60,000)")
    parser.add_argument("--samples", type=int, default=10_000, help="images scored on either side (default: 10,000)")
    arguments = parser.parse_args()
    try:
        compare(arguments)
    except HarnessError as error:
        sys.exit(f"quality: {error}")


def compare(arguments: argparse.Namespace) -> None:
    splits: Splits | None = None
    known = read(arguments.out)
    runs: dict[tuple[int, str], dict[str, object]] = {}
    for seed in range(arguments.seeds):
        for precision in PRECISIONS:
            plan = planned(arguments, seed, precision)
            wanted = plan.flatten()  # runs are the same where every leaf is
            run = next((run for run in known if run["run"] == wanted), None)
            if run is None and arguments.only in (None, precision):
                splits = splits or data.load(**{**plan.data.model_dump(), "validation": 0})
                run = {"run": wanted, **trained(plan, splits)}
                append(arguments.out, run)
            if run:
                runs[seed, precision] = run
    print_runs(arguments.seeds, runs)
    print(json.dumps(summary(arguments.seeds, runs), indent=2))


def planned(arguments: argparse.Namespace, seed: int, precision: str) -> Experiment:
    values = {
        "train.seed": seed,
        "train.precision": precision,
        "train.epochs": arguments.epochs,
        "train.device": arguments.device,
        "data.subset": arguments.subset,
        "quality.samples": arguments.samples,
    }
    return experiments.load("notebook").with_values(values)


def trained(plan: Experiment, splits: Splits) -> dict[str, object]:
    """One run from its first step to its score."""
    training = Training(plan, splits.train)
    began, seconds, diverged = time.perf_counter(), 0.0, None
    for report in training:
        diverged = report.diverged
        seconds = time.perf_counter() - began
        speed = report.metrics["speed/images_per_second"]
        print(
            f"seed {plan.train.seed}, {plan.train.precision}, epoch {report.epoch}: {seconds:,.0f} s, "
            f"{speed:,.0f} images/s",
            file=sys.stderr,
        )
        if diverged:
            break
    scoring = Scoring(plan, splits, message=lambda line: print(line, file=sys.stderr))
    scores = None if diverged else scoring.score(plan, training.generator_ema, "test").metrics("test")
    return {
        "scores": scores,
        "diverged": diverged,
        "training_seconds": seconds,
        "judge": scoring.identity,
        **circumstances(plan.train.device),
    }


def read(file: Path) -> list[dict[str, object]]:
    """The finished runs; a line that was cut off when the command was killed counts as none."""
    runs = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return runs


def append(file: Path, run: dict[str, object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cut_off = file.exists() and file.read_text()[-1:] not in ("", "\n")
    with file.open("a") as lines:
        lines.write(("\n" if cut_off else "") + json.dumps(run) + "\n")


def log_frechet(run: dict[str, object] | None) -> float | None:
    """None for a run that is missing or diverged."""
    scores = run["scores"] if run else None
    return math.log(scores["test/frechet"]) if scores else None


def print_runs(seeds: int, runs: dict[tuple[int, str], dict[str, object]]) -> None:
    rows = []
    for seed in range(seeds):
        cells = []
        for precision in PRECISIONS:
            run = runs.get((seed, precision))
            value = log_frechet(run)
            cells.append("not trained" if run is None else "diverged" if value is None else f"{value:.3f}")
        rows.append([str(seed), *cells])
    print_table(["seed", *(f"log Frechet, {precision}" for precision in PRECISIONS)], rows)


def summary(seeds: int, runs: dict[tuple[int, str], dict[str, object]]) -> dict[str, object]:
    """The difference of the pairs that are whole; two of them or more make an interval."""
    logs = {run: log_frechet(runs.get(run)) for run in ((seed, name) for seed in range(seeds) for name in PRECISIONS)}
    pairs = [(logs[seed, "fp32"], logs[seed, "bf16"]) for seed in range(seeds)]
    differences = [bf16 - fp32 for fp32, bf16 in pairs if fp32 is not None and bf16 is not None]
    found: dict[str, object] = {
        "log_frechet": {name: [logs[seed, name] for seed in range(seeds)] for name in PRECISIONS},
        "differences": differences,
    }
    diverged = sum(run["diverged"] is not None for run in runs.values())
    if diverged:
        print(f"\n{diverged} runs diverged; their seeds are left out of what follows")
    if len(differences) < 2:
        print(f"\n{len(differences)} whole pairs: an interval needs two")
        return found
    mean = statistics.fmean(differences)
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    within = abs(mean) + half <= MARGIN
    print(
        f"\nbf16 less fp32, log Frechet, {len(differences)} seeds: mean {mean:+.3f}, 95 % interval "
        f"[{mean - half:+.3f}, {mean + half:+.3f}], {'within' if within else 'NOT within'} +-{MARGIN}"
    )
    return {**found, "mean": mean, "interval_95": [mean - half, mean + half], "margin": MARGIN, "within": within}


if __name__ == "__main__":
    main()
