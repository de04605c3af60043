"""Can the digits of `harness write` be read? The share that the judges read as the digit that was asked for.

    python benchmarks/legible.py RUN [--count 1000] [--seed 0] [--weights last] [--raw] [--json FILE]

The digits are those that `harness write` sets into its lines, as the generator of a run in ./mlruns draws them: rows of
0123456789, under both styles, read by both shipped judges. Under `one` a row has one draw of noise, so that 1,000
digits are 100 draws. Prints a table in Markdown, then JSON.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from timing import print_table, report

from harness.api.stores import open_store
from harness.data import load
from harness.errors import HarnessError
from harness.quality import load_judge
from harness.results.handwriting import DIGITS, generate_digits, load_digit_generator

STYLES = ("one", "each")
JUDGES = ("first", "second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run of ./mlruns that is told the class")
    parser.add_argument("--count", type=int, default=1000, help="digits of either style (default: 1,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--weights", choices=["best", "last"], default="best")
    parser.add_argument("--raw", action="store_true", help="the trained weights, not their average")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    if wanted.count < len(DIGITS):
        parser.error(f"--count {wanted.count}: expected {len(DIGITS)} or more")
    try:
        read(wanted)
    except HarnessError as error:
        sys.exit(f"legible: {error}")


def read(wanted: argparse.Namespace) -> None:
    store = open_store(None)
    run = store.find(wanted.run)
    described, drawer = load_digit_generator(store, run, wanted.weights, raw=wanted.raw)
    asked = [index % len(DIGITS) for index in range(wanted.count)]
    rows = [asked[start : start + len(DIGITS)] for start in range(0, len(asked), len(DIGITS))]
    train = load(described.data.name, validation=10_000).train
    judges = {which: load_judge(which, train) for which in JUDGES}
    shares = {}
    for style in STYLES:
        images = torch.cat(generate_digits(drawer, described, rows, style=style, seed=wanted.seed)).unsqueeze(1)
        for which, judge in judges.items():
            _, classes = judge.features_and_classes(images)
            assert classes is not None
            right = classes == torch.tensor(asked)
            by_digit = {str(digit): right[digit :: len(DIGITS)].double().mean().item() for digit in range(len(DIGITS))}
            shares[f"{style}, {which}"] = {**by_digit, "all": right.double().mean().item()}
            print(f"{style}, {which}: {right.double().mean().item():.1%}", file=sys.stderr, flush=True)
    names = [*DIGITS, "all"]
    print_table(
        ["style, judge", *names],
        [[side, *(f"{100 * of[name]:.1f} %" for name in names)] for side, of in shares.items()],
    )
    found = {
        "run": run.info.run_id,
        "count": wanted.count,
        "seed": wanted.seed,
        "judges": {which: f"{judge.name} {judge.sha256[:12]}" for which, judge in judges.items()},
        "shares": shares,
    }
    report(found, "cpu", wanted.json)


if __name__ == "__main__":
    main()
