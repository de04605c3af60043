"""Measure the cost of a study in addition to training and scoring.

    python benchmarks/study.py                       the default study of 20 trials, as `harness tune` runs it
    python benchmarks/study.py --growth 10 100 1000  time and memory against the number of trials, few steps each

Each study runs in a new process, with a new store in a temporary folder. The first form measures the part of the time
that is neither training nor scoring. The second form trains three steps per trial, so nearly all of its time is such
cost. Prints a table and JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from circumstances import circumstances
from timing import GrowingTable, lines_of, print_table

FEW_STEPS = """
name: few
data: {name: mnist, subset: 60, validation: 100}
generator: {kind: mlp, latent: 8, widths: [16, 16]}
discriminator: {kind: mlp, widths: [16, 16], dropout: 0.3}
train: {epochs: 1, batch_size: 20, precision: fp32, device: cpu}
track: {score_every: 1}
quality: {samples: 50, samples_while_training: 30}
"""

INSIDE = """
import json, resource, sys, time
began = float(sys.argv[1])
from harness import cli
from harness.gan import BatchedTraining, Training
from harness.quality.scoring import Scoring

spent = {"training": 0.0, "scoring": 0.0}

def counted(owner, name, what):
    function = getattr(owner, name)
    def timed(*arguments, **options):
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[what] += time.perf_counter() - start
    setattr(owner, name, timed)

counted(Training, "__next__", "training")
counted(Scoring, "score_during_training", "scoring")
counted(Scoring, "of", "scoring")
marks, trial = [], None
from harness.api.study_display import StudyTerminal
show_trial = StudyTerminal.trial
def trial(self, summary, progress):
    marks.append(time.time() - began)
    show_trial(self, summary, progress)
StudyTerminal.trial = trial
sys.argv = ["harness", *sys.argv[2:]]
try:
    cli.main()
except SystemExit as ended:
    assert not ended.code, ended.code
whole = time.time() - began
rest = whole - sum(spent.values())
print(json.dumps({
    "seconds": whole,
    "seconds_of_training": spent["training"],
    "seconds_of_scoring": spent["scoring"],
    "seconds_of_all_else": rest,
    "share_of_all_else": rest / whole,
    "seconds_to_first_trials_end": marks[0],
    "seconds_after_last_trial": whole - marks[-1],
    "trial_ends": marks,
    "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--growth", type=int, nargs="+", metavar="TRIALS", help="studies of few steps, of these sizes")
    parser.add_argument("--trials", type=int, default=20, help="of the default study (default: 20)")
    arguments = parser.parse_args()
    if arguments.growth:
        found = {}
        table = GrowingTable(
            ["trials", "seconds", "a trial, ms", "the last tenth, ms", "after the last, s", "memory, MiB"]
        )
        for count in arguments.growth:
            found[count] = measured(["few.yaml", "--trials", str(count), "--batch-runs", "1"])
            table.add(growth_row(count, found[count]))
        result: dict[str, object] = {"growth": found}
    else:
        numbers = measured(["--trials", str(arguments.trials)])
        names = ("training", "scoring", "all_else")
        rows = [[name.replace("_", " "), f"{numbers[f'seconds_of_{name}']:.1f}"] for name in names]
        rows += [["share of all else", f"{numbers['share_of_all_else']:.1%}"], ["in all", f"{numbers['seconds']:.1f}"]]
        rows += [["memory, MiB", f"{numbers['peak_memory_mib']:,.0f}"]]
        print_table([f"default, {arguments.trials} trials", "seconds"], rows)
        result = {"study": numbers}
    print(json.dumps({**result, **circumstances("cpu")}, indent=2))


def growth_row(count: int, numbers: dict[str, object]) -> list[str]:
    ends = numbers["trial_ends"]
    assert isinstance(ends, list)
    tenth = max(1, count // 10)
    each, last = (ends[-1] - ends[0]) / max(1, count - 1), (ends[-1] - ends[-1 - tenth]) / tenth
    after, memory = numbers["seconds_after_last_trial"], numbers["peak_memory_mib"]
    return [
        f"{count:,}",
        f"{numbers['seconds']:.0f}",
        f"{1e3 * each:.0f}",
        f"{1e3 * last:.0f}",
        f"{after:.1f}",
        f"{memory:,.0f}",
    ]


def measured(words: list[str]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "few.yaml").write_text(FEW_STEPS)
        command = [sys.executable, "-c", INSIDE, repr(time.time()), "tune", *words]
        lines = lines_of(command, folder)
    numbers: dict[str, object] = json.loads(lines[-1])
    return numbers


if __name__ == "__main__":
    main()
