"""What a whole `harness run` costs beside its training: time to the first step, scores and tracker, memory.

    OMP_NUM_THREADS=2 python benchmarks/whole_run.py [EXPERIMENT] [--set PATH=VALUE ...]

Runs the experiment once in a process of its own, with a new store in a temporary folder. The share of everything else
while training is what of the time between the first step and the end of the last epoch was not spent in the training's
own loop. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time

from circumstances import circumstances
from timing import lines_of

INSIDE = """
import json, resource, sys, time
from pathlib import Path
began = float(sys.argv[1])
from harness import experiment
from harness.runs.display import NullDisplay
from harness.runs.options import RunOptions
from harness.runs.train import start_session, train
from harness.tracking import Store


class Watch(NullDisplay):
    first = last = seconds = 0.0

    def started(self, training, name):
        self.first = time.time()

    def epoch(self, report):
        self.seconds += report.seconds
        self.last = time.time()
        print(f"epoch {report.epoch}: {report.seconds:.1f} s", flush=True)


watch = Watch()
store = Store.open(root=Path.cwd())
with start_session(experiment.load(sys.argv[2], sys.argv[3:]), store, RunOptions(), watch) as session:
    outcome = train(session)
while_training = watch.last - watch.first
print(json.dumps({
    "status": outcome.status,
    "seconds_to_first_step": watch.first - began,
    "seconds_while_training": while_training,
    "share_of_scores_and_tracker": 1 - watch.seconds / while_training,
    "seconds_after_training": time.time() - watch.last,
    "seconds_in_all": time.time() - began,
    "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "images_per_second": outcome.metrics["speed/images_per_second"],
    "scores": dict(outcome.scores),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", nargs="?", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a leaf")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", INSIDE, repr(time.time()), arguments.experiment, *arguments.set]
        lines = lines_of(words, folder)
    print(json.dumps({**json.loads(lines[-1]), **circumstances("cpu")}, indent=2))


if __name__ == "__main__":
    main()
