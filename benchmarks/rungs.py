"""Does a trial's score on the way predict its score at the end? For the epoch at which pruning starts.

    harness tune conditional --study curves --pruner none --sampler qmc --trials 24
    python benchmarks/rungs.py curves:2 [--root mlruns] [--figure FILE.png]

STUDY:EPOCH draws a line at the epoch that pruning is to start at. Reads studies whose trials all ended, without
pruning, from the journal. For every epoch: Spearman's rank correlation of the scores there with those at the end, how
many of the best third at the end are in the best third there, and the place there of the trial that is best at the
end. Prints tables and JSON; draws the curves.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy import stats
from timing import print_table

from harness.tuning.storage import open_storage
from harness.tuning.trials import Trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+")
    parser.add_argument("--root", type=Path, default=Path("mlruns"))
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    storage = open_storage(None, arguments.root.absolute(), "")
    found: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    for wanted in arguments.studies:
        name, _, rung = wanted.partition(":")
        trials = Trials.find(storage, name, arguments.root.absolute())
        if trials is None:
            raise SystemExit(f"rungs: there is no study {name} in {arguments.root}")
        complete = [trial for trial in trials.all() if trial.state == TrialState.COMPLETE]
        found[name] = (*curves(complete), int(rung or trials.settings.min_resource))
        rows = predicted(*found[name][:2])
        header = ["epoch", "rank correlation", "of the best third", "place of the best"]
        print_table(header, [[str(row["epoch"]), *shown(row)] for row in rows])
        print(json.dumps({name: {"trials": len(found[name][1]), "rung": found[name][2], "epochs": rows}}))
    if arguments.figure:
        draw(found, arguments.figure)


def curves(trials: list[FrozenTrial]) -> tuple[np.ndarray, np.ndarray]:
    """Scores on the way [trials, epochs] and at the end [trials]."""
    epochs = sorted(set.union(*(set(trial.intermediate_values) for trial in trials)))
    on_the_way = [[trial.intermediate_values.get(epoch, np.nan) for epoch in epochs] for trial in trials]
    return np.array(on_the_way), np.array([trial.value for trial in trials])


def predicted(on_the_way: np.ndarray, end: np.ndarray) -> list[dict[str, float]]:
    third = max(1, len(end) // 3)
    best = set(np.argsort(end)[:third].tolist())
    rows = []
    for index, scores in enumerate(on_the_way.T):
        order = np.argsort(scores).tolist()
        rows.append(
            {
                "epoch": index + 1,
                "rank_correlation": float(stats.spearmanr(scores, end).statistic),
                "best_third_kept": len(best & set(order[:third])),
                "third": third,
                "place_of_the_best": order.index(int(np.argmin(end))) + 1,
            }
        )
    return rows


def shown(row: dict[str, float]) -> list[str]:
    kept = f"{row['best_third_kept']} of {row['third']}"
    return [f"{row['rank_correlation']:.2f}", kept, str(row["place_of_the_best"])]


def draw(found: dict[str, tuple[np.ndarray, np.ndarray, int]], path: Path) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("agg")
    figure, axes = pyplot.subplots(1, len(found), figsize=(6 * len(found), 4.2), squeeze=False)
    for axis, (name, (on_the_way, end, rung)) in zip(axes[0], found.items(), strict=True):
        epochs = np.arange(1, on_the_way.shape[1] + 1)
        ranks = np.argsort(np.argsort(end)) / max(1, len(end) - 1)
        for scores, rank in zip(on_the_way, ranks, strict=True):
            axis.plot(epochs, np.maximum(scores, 1e-3), color=mpl.colormaps["viridis"](rank), lw=1.2)
        axis.axvline(rung, color="black", lw=0.8, ls="--")
        axis.set(title=f"{name}: {len(end)} trials", xlabel="epoch", ylabel="validation KID", yscale="log")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
