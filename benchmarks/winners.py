"""How often the winner of a search is better than the baseline: one seed for each trial, several seeds, a race.

    python benchmarks/winners.py [--experiments default notebook-fixed] [--studies 5] [--fresh 5] [--store FOLDER]
                                 [--out benchmarks/winners.jsonl] [--minutes M] [--json FILE]

For every experiment, study seed and method, one `harness tune` with about the same total of images: 20 trials; 7 trials
with 3 seeds; a race of 10 trials with up to 4 seeds (21 trainings at most). The winner and the baseline values are then
trained under fresh seeds, the same ones for both and for all methods, as long as a trial, and scored on the test split.
Each finished study is a line of --out, and is not repeated when the command is started again; one that was killed is
resumed from the store. Hours on two CPU cores. Prints tables in Markdown, then JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from timing import print_table, report, spread

import harness
from harness.tuning.confirm import compare_scores

METHODS: dict[str, dict[str, Any]] = {
    "one seed": {"trials": 20},
    "3 seeds": {"trials": 7, "seeds": 3},
    "race": {"trials": 10, "seeds": 4, "race": True},
}
# A trial is 30,000 images of the default, and 60,000 of the notebook's networks, which learn more slowly.
BUDGETS = {
    "default": {"data.subset": 15_000, "train.epochs": 2},
    "notebook-fixed": {"data.subset": 20_000, "train.epochs": 3, "track.score_every": 1},
}
RESULTS = Path(__file__).with_name("winners.jsonl")  # of the machine that docs/results.md names
FRESH = 10_000  # from the seed of a study to its first fresh seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", nargs="+", default=[*BUDGETS])
    parser.add_argument("--studies", type=int, default=5, help="studies of each method (default: 5)")
    parser.add_argument("--fresh", type=int, default=5, help="fresh seeds of each winner (default: 5)")
    parser.add_argument("--store", type=Path, default=Path("build/winners"), help="folder of studies and runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the studies, one a line")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no study after this time")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    store = Store(arguments.store.absolute())
    known = [json.loads(text) for text in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    found: list[dict[str, Any]] = []
    for seed in range(arguments.studies):
        for experiment in arguments.experiments:
            for method in METHODS:
                wanted = {"experiment": experiment, "method": method, "study": seed}
                row = next((each for each in known if wanted.items() <= each.items()), None)
                if row is None and time.monotonic() > 60 * arguments.minutes + STARTED:
                    continue
                if row is None:
                    row = {**wanted, **store.measure(experiment, method, seed, arguments.fresh)}
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                print(f"{experiment}, {method}, study {seed}: {line(row)}", file=sys.stderr, flush=True)
                found.append(row)
    table(found)
    report({"studies": found, "budgets": BUDGETS, "methods": METHODS}, "cpu", arguments.json)


STARTED = time.monotonic()


class Store:
    """The studies and runs in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.places = {
            "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
            "progress": False,
        }
        self.storage = f"sqlite:///{folder / 'studies.db'}"

    def measure(self, experiment: str, method: str, seed: int, fresh: int) -> dict[str, Any]:
        """Run or read one study, and train its winner and the baseline under fresh seeds."""
        study = harness.tune(
            experiment,
            study=f"{experiment}, {method}, {seed}",
            storage=self.storage,
            seed=seed,
            batch_runs=1,
            set={f"search_budget.{path}": value for path, value in BUDGETS[experiment].items()},
            system_metrics=False,
            **METHODS[method],
            **self.places,
        )
        winner = dict(study.best_params)
        scores = {
            "winner": self.fresh_scores(experiment, winner, f"{study.name}, winner, fresh", seed, fresh, study.metric),
            "baseline": self.fresh_scores(
                experiment, {}, f"{experiment}, baseline, {seed}, fresh", seed, fresh, study.metric
            ),
        }
        gain, interval = compare_scores(scores["baseline"], scores["winner"], lower_is_better=True)
        return {
            "images": images(study),
            "claimed": study.best.score,
            "winner": winner,
            "is_baseline": study.best.number == 0,
            "scores": scores,
            "gain": gain,
            "interval": interval,
            "verdict": study.verdict,
        }

    def fresh_scores(
        self, experiment: str, values: dict[str, Any], name: str, seed: int, fresh: int, metric: str
    ) -> list[float]:
        """Test scores of an experiment with these values, as long as a trial, under fresh seeds."""
        budget = {path: value for path, value in BUDGETS[experiment].items() if path != "track.score_every"}
        values = {**budget, **values, "train.seed": FRESH + 100 * seed, "track.score_every": 1}
        # One after the other, so that a winner with the baseline's values has the baseline's scores.
        options: dict[str, Any] = {"seeds": fresh, "batch_runs": 1, "resume": "auto", "system_metrics": False}
        run = harness.run(experiment, name=name, set=values, **options, **self.places)
        return [seed_run.metrics[f"test/{metric}"] for seed_run in run.seeds]


def images(study: Any) -> int:
    """Images that all runs of a study have trained on."""
    trials = study.store.children(study.run.id)
    runs = [run for trial in trials for run in (study.store.children(trial.info.run_id) or [trial])]
    return sum(int(run.data.params["data.subset"]) * int(run.data.tags.get("harness.epoch", 0)) for run in runs)


def line(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    winner, baseline = (statistics.fmean(row["scores"][which]) for which in ("winner", "baseline"))
    return (
        f"{row['images']:,} images, claimed {row['claimed']:.4f}, fresh {winner:.4f} against {baseline:.4f}, "
        f"gain {row['gain']:.4f} ({low:.4f} to {high:.4f})"
    )


def table(rows: list[dict[str, Any]]) -> None:
    lines = []
    for experiment in dict.fromkeys(row["experiment"] for row in rows):
        for method in METHODS:
            some = [row for row in rows if (row["experiment"], row["method"]) == (experiment, method)]
            if not some:
                continue
            gains = [row["gain"] / statistics.fmean(row["scores"]["baseline"]) for row in some]
            optimism = [statistics.fmean(row["scores"]["winner"]) / row["claimed"] for row in some]
            middle, least, most = spread(gains)
            lines.append(
                [
                    experiment,
                    method,
                    f"{statistics.fmean(row['images'] for row in some) / 1e6:.2f}",
                    f"{sum(row['gain'] > 0 for row in some)} of {len(some)}",
                    f"{sum(row['interval'][0] > 0 for row in some)}",
                    f"{sum(row['interval'][1] < 0 for row in some)}",
                    f"{sum(row['is_baseline'] for row in some)}",
                    f"{100 * middle:+.0f} % ({100 * least:+.0f} to {100 * most:+.0f})",
                    f"{spread(optimism)[0]:.2f}",
                ]
            )
    titles = ["experiment", "search", "million images", "winner better", "beyond the spread", "worse beyond it"]
    print_table([*titles, "baseline won", "gain (median, range)", "fresh score / claimed"], lines)


if __name__ == "__main__":
    main()
