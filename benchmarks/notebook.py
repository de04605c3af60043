"""The notebook, all of it: 200 epochs, tracked, scored against the test split on the way. An hour on two cores.

    python benchmarks/notebook.py [--name notebook-200] [--pictures docs/images]

Trains `notebook` up to each epoch of STAGES in turn, as `harness run notebook --epochs 10` and then
`harness run --resume NAME --epochs 20` and so on would, in one MLflow run of ./mlruns; every stage ends with the test
scores. A stage that is there already is not trained again, so the command can be stopped and repeated. Prints the table
of docs/results.md and writes the sample grids beside it. The test split chooses nothing here: all stages are shown.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path

from harness import experiment
from harness.api.display import Terminal
from harness.cli.tables import console
from harness.errors import HarnessError
from harness.results import load
from harness.runs.options import RunOptions
from harness.runs.resumable import find_resumable
from harness.runs.train import resume_session, start_session, train
from harness.tracking import Store

STAGES = (10, 20, 50, 100, 200)
SCORES = ("kid", "kid_se", "frechet", "density", "coverage", "class_kl", "memorisation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="notebook-200", help="of the run in MLflow")
    parser.add_argument("--pictures", type=Path, help="folder for the sample grids")
    arguments = parser.parse_args()
    store, display = Store.open(), Terminal(console())
    for stage in STAGES:
        try:
            done = load.checkpoint(store, store.find(arguments.name)).epoch
        except HarnessError:
            plan = experiment.load("notebook", [f"train.epochs={stage}"])
            with start_session(plan, store, options(arguments.name), display) as session:
                train(session)
            continue
        if done < stage:
            known, more = find_resumable(store, arguments.name), {"train.epochs": stage}
            with resume_session(known, store, more, options(arguments.name), display) as session:
                train(session)
    report(store, arguments.name, arguments.pictures)


def options(name: str) -> RunOptions:
    return RunOptions(name=name)


def report(store: Store, name: str, pictures: Path | None) -> None:
    run_id = store.find(name).info.run_id

    def history(metric: str) -> dict[int, float]:
        return {point.step: point.value for point in store.client.get_metric_history(run_id, metric)}

    scores = {score: history(f"test/{score}") for score in SCORES}
    losses = {network: history(f"loss/{network}") for network in ("discriminator", "generator")}
    print("| epoch | KID | Frechet | density | coverage | class KL | memorisation | loss D | loss G |")
    print("|---|---|---|---|---|---|---|---|---|")
    for stage in STAGES:
        kid = f"{scores['kid'][stage]:.4f} ± {scores['kid_se'][stage]:.4f}"
        rest = [f"{scores[score][stage]:.3f}" for score in SCORES[3:]]
        cells = [str(stage), kid, f"{scores['frechet'][stage]:.2f}", *rest]
        print(f"| {' | '.join(cells)} | {losses['discriminator'][stage]:.3f} | {losses['generator'][stage]:.3f} |")
    speeds = history("speed/images_per_second").values()
    print(f"\nimages/s, median over the epochs: {statistics.median(speeds):,.0f}")
    if pictures is not None:
        for stage in STAGES:
            found = store.download(run_id, f"samples/epoch-{stage:04d}.png", pictures / "scratch")
            shutil.move(found, pictures / f"notebook-{stage:03d}.png")
        shutil.rmtree(pictures / "scratch")


if __name__ == "__main__":
    main()
