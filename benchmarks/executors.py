"""How many trials an hour a study completes with each executor, and what it costs to coordinate its workers.

    python benchmarks/executors.py [--executors local slurm ray] [--workers 1 2] [--trials 16] [--turns 3]
                                   [--storage journal|postgresql] [--json FILE]

Every study is one `harness tune` of short trials in a new folder with a new MLflow store. Executors and numbers of
workers take turns. Each worker has one thread. Slurm is a private cluster on this machine, as in the tests; Ray is
started by the command. Times are read from the study: a gap lies between the end of a trial and the start of the next
one of the same process. A last study, with one worker in the measured process, counts the seconds that are spent in
`Trials`, which does everything that processes coordinate; the first call imports the sampler, and is left out.
PostgreSQL is a private server, as in the tests. Prints tables in Markdown, then JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from timing import alternate, lines_of, print_table, report, spread

ROOT = Path(__file__).resolve().parents[1]
STUDY = """
name: short
data: {name: mnist, subset: 2000, validation: 500}
generator: {kind: mlp, latent: 16, widths: [64, 128]}
discriminator: {kind: mlp, widths: [128, 64]}
train: {epochs: EPOCHS, batch_size: 50, precision: fp32, device: cpu}
track: {score_every: 2}
quality: {samples: 500, samples_while_training: 300}
"""

# Runs in the measured process: the seconds that each call of `Trials` takes, by name.
INSIDE = """
import json, sys, time
from collections import defaultdict
from harness import cli
from harness.tuning.trials import Trials

spent, active = defaultdict(list), []

def timed(name):
    function = getattr(Trials, name)
    def call(self, *arguments, **options):
        if active:  # called by another of these
            return function(self, *arguments, **options)
        active.append(name)
        start = time.perf_counter()
        try:
            return function(self, *arguments, **options)
        finally:
            spent[name].append(time.perf_counter() - start)
            active.pop()
    setattr(Trials, name, call)

for name in ("claim", "report", "complete", "prune", "fail", "release", "is_incomplete"):
    timed(name)
sys.argv = ["harness", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(json.dumps(spent))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executors", nargs="+", default=["local", "slurm", "ray"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--storage", choices=["journal", "postgresql"], default="journal")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    options = ["--pruner", "none", "--batch-runs", "1", "--trials", str(arguments.trials)]
    with tempfile.TemporaryDirectory() as name, prepared(arguments, Path(name)) as storage:
        study = partial(measured, Path(name), itertools.count(), storage, options)
        sides: dict[str, Callable[[], dict[str, Any]]] = {
            f"{executor}, {count} {'worker' if count == 1 else 'workers'}": partial(
                study, ["--executor", executor, "--workers", str(count)]
            )
            for executor in arguments.executors
            for count in arguments.workers
        }
        found = alternate(sides, arguments.turns, warm_up=0, show=line)
        inside = study([], inside=True)["calls"]
    table(found)
    trials = arguments.trials
    inside["claim"].pop(0)
    rows = []
    for name, calls in inside.items():
        middle, least, most = (1e3 * seconds for seconds in spread(calls))
        per_trial = [f"{len(calls) / trials:.1f}", f"{1e3 * sum(calls) / trials:.1f}"]
        rows.append([name, f"{middle:.1f} ({least:.1f} to {most:.1f})", *per_trial])
    total = 1e3 * sum(sum(calls) for calls in inside.values()) / trials
    titles = ["call", "ms, median and range", "calls a trial", "ms a trial"]
    print_table(titles, [*rows, ["all", "", "", f"{total:.1f}"]])
    report({"studies": found, "calls": inside, "storage": arguments.storage}, "cpu", arguments.json)


@contextlib.contextmanager
def prepared(arguments: argparse.Namespace, folder: Path) -> Iterator[str | None]:
    """A folder with the experiment, an environment for workers, a Slurm cluster and a PostgreSQL server if needed.

    Yields the URL of the storage; None for the journal.
    """
    (folder / "short.yaml").write_text(STUDY.replace("EPOCHS", str(arguments.epochs)))
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    sys.path.insert(0, str(ROOT))
    with contextlib.ExitStack() as stack:
        if "slurm" in arguments.executors:
            from tests.executors import slurm_cluster

            if slurm_cluster.MISSING:
                sys.exit(slurm_cluster.MISSING)
            os.environ["SLURM_CONF"] = str(stack.enter_context(slurm_cluster.cluster()).config)
        if arguments.storage == "journal":
            yield None
            return
        from tests.tuning import postgresql

        if postgresql.PG_CTL is None:
            sys.exit(postgresql.MISSING)
        yield stack.enter_context(stack.enter_context(postgresql.server()).database("studies"))


def measured(
    root: Path,
    numbers: Iterator[int],
    storage: str | None,
    options: list[str],
    words: list[str],
    *,
    inside: bool = False,
) -> dict[str, Any]:
    """Run a study; return its seconds, trials per hour and gaps, or with `inside` the seconds of the calls."""
    name = f"bench-{os.getpid()}-{next(numbers)}"
    folder = root / name
    folder.mkdir()
    program = ["-c", INSIDE] if inside else ["-m", "harness"]
    command = [sys.executable, *program, "tune", str(root / "short.yaml"), "--study", name, *options, *words]
    command += ["--storage", storage] if storage else []
    start = time.time()
    if inside:
        return {"calls": json.loads(lines_of(command, folder)[-1])}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seconds = time.time() - start
    trials = trials_of(name, storage, folder)
    assert all(trial.state.name == "COMPLETE" for trial in trials)
    first = min(trial.datetime_start for trial in trials)
    last = max(trial.datetime_complete for trial in trials)
    return {
        "seconds": seconds,
        "seconds_to_first_trial": first.timestamp() - start,
        "trials_per_hour": 3600 * len(trials) / seconds,
        "trials_per_hour_while_training": 3600 * len(trials) / (last - first).total_seconds(),
        "seconds_of_trials": [(trial.datetime_complete - trial.datetime_start).total_seconds() for trial in trials],
        "gaps_ms": gaps(trials),
    }


def trials_of(name: str, storage: str | None, folder: Path) -> list[Any]:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stored = storage or JournalStorage(JournalFileBackend(str(folder / "mlruns" / "optuna.journal")))
    return list(optuna.load_study(study_name=name, storage=stored).get_trials())


def gaps(trials: list[Any]) -> list[float]:
    """Milliseconds from the end of a trial to the start of the next one of the same process."""
    by_process = defaultdict(list)
    for trial in trials:
        by_process[trial.user_attrs["harness.process"]["harness.pid"]].append(trial)
    found = []
    for worked in by_process.values():
        worked.sort(key=lambda trial: trial.datetime_start)
        for trial, following in itertools.pairwise(worked):
            found.append(1e3 * (following.datetime_start - trial.datetime_complete).total_seconds())
    return found


def line(result: Mapping[str, Any]) -> str:
    gap = spread(result["gaps_ms"])[0]
    return f"{result['seconds']:.1f} s, {result['trials_per_hour']:.0f} trials an hour, gap {gap:.0f} ms"


def table(found: Mapping[str, list[dict[str, Any]]]) -> None:
    def cell(results: list[dict[str, Any]], key: str, digits: int = 0) -> str:
        median, least, most = spread([result[key] for result in results])
        return f"{median:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"

    rows = []
    for side, results in found.items():
        gap = spread([each for result in results for each in result["gaps_ms"]])
        rows.append(
            [
                side,
                cell(results, "trials_per_hour"),
                cell(results, "trials_per_hour_while_training"),
                cell(results, "seconds_to_first_trial", 1),
                f"{spread([each for result in results for each in result['seconds_of_trials']])[0]:.2f}",
                f"{gap[0]:.0f} ({gap[1]:.0f} to {gap[2]:.0f})",
            ]
        )
    titles = ["", "trials an hour, whole command", "while trials run", "first trial after, s", "a trial, s", "gap, ms"]
    print_table(titles, rows)


if __name__ == "__main__":
    main()
