"""How long `harness run` and `harness tune` take from the command to the end of the first training step.

    python benchmarks/startup.py [--turns 5] [--commands run tune] [--trees OTHER_CHECKOUT .] [--json FILE]

Every turn starts a new process in a new folder, so the store is new, too. The data cache is in a temporary folder, one
for each checkout; the first row of each command starts with an empty one ("cold"), the others find it filled ("warm").
Checkouts and commands take turns. Seconds are by the clock, CPU seconds are user and system time of the process and its
children, and "first line" is when the first line of output arrives. Each row is printed as it is measured; at the end,
medians, least and most as a table in Markdown, then JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from circumstances import circumstances
from timing import print_table, spread

# Runs in the measured process: ends it when one step is done in a training that counts. One that only times what `auto`
# stands for is called from gan/auto.py (in older checkouts: gan/resolve.py).
INSIDE = """
import json, os, resource, sys, threading, time

def step_is_done():
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.endswith(("gan/resolve.py", "gan/auto.py", "gan/timing.py")):
            return
        frame = frame.f_back
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    numbers = {"at": time.time(), "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used)}
    with open("first-step.json", "w") as file:
        json.dump(numbers, file)
    os._exit(0)

def watch():
    while True:
        module = sys.modules.get("harness.gan.training")
        if module is not None and not module.__spec__._initializing:
            break
        time.sleep(0.01)
    end_of_step = module.Training.keep_average

    def keep_average(self):
        end_of_step(self)
        step_is_done()

    module.Training.keep_average = keep_average

threading.Thread(target=watch, daemon=True).start()
sys.argv[0] = "harness"
from harness.cli import main
main()
"""

NUMBERS = ("seconds", "cpu_seconds", "first_line")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="turns with a warm data cache (default: 5)")
    parser.add_argument("--commands", nargs="+", default=["run", "tune"], help="of harness (default: run tune)")
    parser.add_argument("--trees", nargs="+", type=Path, default=[Path(__file__).parent.parent], help="checkouts")
    parser.add_argument("--json", type=Path, help="write the JSON there too")
    arguments = parser.parse_args()
    trees = [tree.resolve() for tree in arguments.trees]
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(1 + arguments.turns):
            for command in arguments.commands:
                for index, tree in enumerate(trees):
                    cache = Path(scratch) / f"cache-{index}-{command}"
                    numbers = measure(tree, command.split(), cache)
                    side = f"{command}, {tree.name}, {'warm' if turn else 'cold'}"
                    found.setdefault(side, []).append(numbers)
                    values = "  ".join(f"{name} {numbers[name]:.2f}" for name in (*NUMBERS, "load"))
                    print(f"{side:40} {values}", flush=True)
    rows = []
    for side, turns in found.items():
        cells = []
        for name in NUMBERS:
            middle, least, most = spread([turn[name] for turn in turns])
            cells.append(f"{middle:.1f} ({least:.1f} to {most:.1f})")
        rows.append([side, str(len(turns)), *cells])
    print_table(
        ["harness, checkout, data cache", "turns", "seconds to the first step", "CPU seconds", "first line"], rows
    )
    text = json.dumps({"startup": found, **circumstances("cpu")}, indent=2)
    print(text, flush=True)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def measure(tree: Path, words: list[str], cache: Path) -> dict[str, float]:
    """One start of a command of the checkout, in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(tree), "HARNESS_DATA": str(cache)}
        environment.pop("MLFLOW_TRACKING_URI", None)
        load = psutil.getloadavg()[0]
        began = time.time()
        command = [sys.executable, "-c", INSIDE, *words]
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            first_line = time.time() - began
            lines += process.stdout.readlines()
        end = Path(folder) / "first-step.json"
        if not end.exists():
            output = b"".join(lines).decode()
            sys.exit(
                f"harness {' '.join(words)} of {tree} ended ({process.returncode}) before its first step:\n{output}"
            )
        numbers = json.loads(end.read_text())
    return {
        "seconds": numbers["at"] - began,
        "cpu_seconds": numbers["cpu_seconds"],
        "first_line": first_line,
        "load": load,
    }


if __name__ == "__main__":
    main()
