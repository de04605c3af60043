"""Every experiment under the same protocol: trained under several seeds at one budget, scored on the test split.

    python benchmarks/leaderboard.py [EXPERIMENT ...] [--images 100000 | --full] [--seeds 3] [--part 1/2]
                                     [--out build/leaderboard.jsonl] [--write docs/results.md]

The budget is the images that D sees, to the nearest whole epoch: it is the same on every machine, and the time that
it takes stands beside it. `--full` trains an experiment's own epochs instead. Weights are the last epoch's (their
average where the experiment keeps one): nothing is chosen. Collapsed seeds count, diverged ones are named. Every
finished run is a line of the file, and is not repeated when the command is started again; `--part 1/2` and
`--part 2/2` share the work between two processes. `--write` puts the tables, references first, between the two marks of
that page. What is not in the file is not measured, and the page says so.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quality import append, read, trained
from timing import print_table

from harness import data
from harness import experiment as experiments
from harness.data import Splits
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.scores import SCORES
from harness.gan import resolve
from harness.quality.scoring import Scoring

MARKS = "<!-- leaderboard: {} -->"
FULL = "own epochs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="experiments (default: all whose data is here)")
    parser.add_argument("--images", type=int, default=100_000, help="that D sees (default: 100,000)")
    parser.add_argument("--full", action="store_true", help="the experiments' own epochs")
    parser.add_argument("--seeds", type=int, default=3, help="trained: 0, 1, ... (default: 3)")
    parser.add_argument("--part", default="1/1", help="this process's share of the runs, as 1/2")
    parser.add_argument("--out", type=Path, default=Path("build/leaderboard.jsonl"), help="the runs, one a line")
    parser.add_argument("--write", type=Path, help="a page to put the tables in; nothing is trained")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", help="in place of the experiments' own, where auto would time a busy machine")
    arguments = parser.parse_args()
    try:
        if arguments.write:
            write(arguments.write, read(arguments.out), arguments.seeds)
        else:
            measure(arguments)
    except HarnessError as error:
        sys.exit(f"leaderboard: {error}")


def measure(arguments: argparse.Namespace) -> None:
    share, of = map(int, arguments.part.split("/"))
    names = arguments.names or [name for name in experiments.available() if not missing(name)]
    jobs = [(seed, name) for seed in range(arguments.seeds) for name in names]
    known: dict[Any, Splits] = {}
    for seed, name in jobs[share - 1 :: of]:
        changes = [f"train.seed={seed}", f"train.device={arguments.device}"]
        changes += [f"train.precision={arguments.precision}"] if arguments.precision else []
        plan = experiments.load(name, changes)
        section = plan.data
        if section not in known:
            known = {section: data.load(**section.model_dump(), message=lambda line: print(line, file=sys.stderr))}
        splits = known[section]
        budget = FULL if arguments.full else f"{arguments.images:,} images"
        if not arguments.full:
            epochs = max(1, round(arguments.images / len(splits.train)))
            plan = plan.with_values({"train.epochs": epochs})
        done = any(
            run["experiment"] == name and run["budget"] == budget and same(run, plan) for run in read(arguments.out)
        )
        if done:
            continue
        resolved = resolve(plan, splits.train)
        print(f"{name}, seed {seed}, {resolved.train.epochs} epochs in {resolved.train.precision}", file=sys.stderr)
        run = trained(resolved, splits)
        batches = len(splits.train) // resolved.train.batch_size
        images = resolved.train.epochs * batches * resolved.train.batch_size
        append(
            arguments.out,
            {
                "experiment": name,
                "budget": budget,
                "seed": seed,
                "images": images,
                "run": resolved.flatten(),
                "floors": references(resolved, splits),
                **run,
            },
        )
        print_table(["experiment", "seed", "scores"], [[name, str(seed), str(run["scores"])]])


def missing(name: str) -> str | None:
    return data.create_source(**experiments.load(name).data.source_options()).missing()


def same(run: Mapping[str, Any], plan: Experiment) -> bool:
    """Whether it is a run of this plan, whatever `auto` was there, and however it was described."""
    free = ("train.device", "train.precision", "description")
    leaves = plan.flatten()
    return all(run["run"].get(path) == value for path, value in leaves.items() if path not in free)


def references(plan: Experiment, splits: Splits) -> dict[str, tuple[dict[str, float], dict[str, float] | None]]:
    """What a perfect generator would get: scores by name, and their deviation where it is known."""
    found = Scoring(plan, splits).test.references()
    return {
        name: (mean.metrics("test"), None if sd is None else sd.metrics("test")) for name, (mean, sd) in found.items()
    }


# The page --------------------------------------------------------------------------------------------------------


def write(page: Path, runs: Sequence[Mapping[str, Any]], seeds: int) -> None:
    begin, end = MARKS.format("begin"), MARKS.format("end")
    text = page.read_text()
    if begin not in text or end not in text:
        raise HarnessError(f"{page} has no lines {begin} and {end} for the tables to stand between")
    before, rest = text.split(begin, 1)
    page.write_text(before + begin + "\n\n" + "\n\n".join(sections(runs, seeds)) + "\n\n" + end + rest.split(end, 1)[1])


def sections(runs: Sequence[Mapping[str, Any]], seeds: int) -> Iterator[str]:
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        key = (run["run"]["data.name"], run["budget"], run["judge"])
        groups.setdefault(key, []).append(run)
    for (dataset, budget, judge), group in sorted(groups.items(), key=lambda item: (item[0][1] == FULL, item[0][0])):
        yield f"### {dataset}, {budget}"
        yield table(group)
        few = [f"{name} {count}" for name, count in counts(group).items() if count < seeds]
        yield " ".join(
            [
                f"Judge {judge}; {circumstances(group)}.",
                *([f"Fewer than {seeds} seeds: {', '.join(few)}."] if few else []),
            ]
        )
    measured = {run["experiment"] for run in runs}
    rest = [name for name in experiments.available() if name not in measured]
    if rest:
        yield f"Not measured: {', '.join(name + (' (not downloaded)' if missing(name) else '') for name in rest)}."


def counts(group: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {name: sum(run["experiment"] == name for run in group) for name in {run["experiment"]: 0 for run in group}}


def table(group: Sequence[Mapping[str, Any]]) -> str:
    scored = [run for run in group if run["scores"]]
    names = [name for name in SCORES if any(f"test/{name}" in run["scores"] for run in scored)]
    header = ["experiment", *(SCORES[name].label for name in names), "images D saw", "training, s", "seeds"]
    lines = [header, ["---"] * len(header)]
    for name, (mean, sd) in group[0]["floors"].items():
        lines.append([f"*{name}*", *(cell(mean, sd, each) for each in names), "", "", ""])
    order = sorted(counts(group), key=lambda name: ranked(name, group))
    for name in order:
        of = [run for run in group if run["experiment"] == name]
        alive = [run["scores"] for run in of if run["scores"]]
        cells = []
        for each in names:
            values = [scores[f"test/{each}"] for scores in alive if f"test/{each}" in scores]
            spread = {f"test/{each}": statistics.stdev(values)} if len(values) > 1 else None
            cells.append(cell({f"test/{each}": statistics.fmean(values)}, spread, each) if values else "diverged")
        seconds = [run["training_seconds"] for run in of]
        dead = len(of) - len(alive)
        told = f"{len(of)}" + (f", {dead} diverged" if dead else "")
        lines.append([name, *cells, f"{of[0]['images']:,}", f"{statistics.median(seconds):,.0f}", told])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ranked(name: str, group: Sequence[Mapping[str, Any]]) -> float:
    primary = experiments.load(name).primary.key
    values = [run["scores"][f"test/{primary}"] for run in group if run["experiment"] == name and run["scores"]]
    return statistics.fmean(values) if values else float("inf")


def cell(mean: Mapping[str, float], sd: Mapping[str, float] | None, name: str) -> str:
    score = SCORES[name]
    key = f"test/{name}"
    if key not in mean:
        return ""
    return score.format(mean[key]) + (f" ± {score.format(sd[key])}" if sd and key in sd else "")


def circumstances(group: Sequence[Mapping[str, Any]]) -> str:
    first = group[0]
    commits = dict.fromkeys(run["commit"][:7] for run in group)
    threads = dict.fromkeys(str(run["threads"]) for run in group)
    precisions = dict.fromkeys(run["run"]["train.precision"] for run in group)
    device = re.sub(r"\(R\)|\(TM\)", "", first["device"])
    return (
        f"{device}, threads a run: {' or '.join(threads)}, {' or '.join(precisions)}, torch {first['torch']}, "
        f"commit {', '.join(commits)}"
    )


if __name__ == "__main__":
    main()
