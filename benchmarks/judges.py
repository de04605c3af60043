"""Do the two judges rank generators alike? KID of sets of samples under both, and Kendall's tau.

    python benchmarks/judges.py SAMPLES.npz SAMPLES.npz ... [--data mnist] [--split test] [--samples 10000]

Each .npz holds the samples of one generator as `images`, uint8 [N, C, H, W] or [N, H, W]. Eight generators or more, of
different quality and with close ones among them, make a fair question. Prints a table, then JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agreement import agreement

from harness.data import load
from harness.errors import HarnessError
from harness.media.pictures import load_npz
from harness.quality import Scorer, load_judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help=".npz files, one a generator")
    parser.add_argument("--data", default="mnist", help="the data set (default: mnist)")
    parser.add_argument(
        "--split", choices=["validation", "test"], default="test", help="scored against (default: test)"
    )
    parser.add_argument("--samples", type=int, default=10_000, help="images on either side (default: 10,000)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    try:
        compare(arguments.files, arguments.data, arguments.split, arguments.samples, arguments.device)
    except HarnessError as error:
        sys.exit(f"judges: {error}")


def compare(files: list[Path], data: str, split: str, samples: int, device: str) -> None:
    splits = load(data, validation=10_000)
    real = splits.test if split == "test" else splits.validation
    assert real is not None
    kid: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    names = {}
    for which in ("first", "second"):
        judge = load_judge(which, splits.train, device, message=lambda line: print(line, file=sys.stderr))
        names[which] = f"{judge.name} {judge.sha256[:12]}"
        scorer = Scorer(judge, real, None, samples=samples)
        scored = []
        for file in files:
            scored.append(scorer.score(load_npz(file), full=False))
            print(f"{names[which]}: {file.stem}: KID {scored[-1]['kid']:.5f}", file=sys.stderr, flush=True)
        kid[which], errors[which] = [score["kid"] for score in scored], [score["kid_se"] for score in scored]

    print(f"KID against {real.name}, {samples:,} images     {names['first']}     {names['second']}")
    for row in sorted(range(len(files)), key=lambda row: kid["first"][row]):
        cells = [f"{kid[which][row]:10.5f} +- {errors[which][row]:.5f}" for which in ("first", "second")]
        print(f"{files[row].stem:40s}  {cells[0]}  {cells[1]}")
    found = agreement(kid["first"], kid["second"], errors["first"], errors["second"])
    plain = agreement(kid["first"], kid["second"], errors["first"], errors["second"], within=0)
    print(
        f"Kendall's tau {found.tau:.3f} ({found.same} pairs alike, {found.opposite} opposite, {found.tied} within "
        f"2 standard errors); {plain.tau:.3f} without ties"
    )
    report = {
        "files": [str(file) for file in files],
        "judges": names,
        "kid": kid,
        "kid_se": errors,
        "agreement": asdict(found),
        "without_ties": asdict(plain),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
