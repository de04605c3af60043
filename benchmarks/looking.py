"""How long it takes to look at runs: `runs`, `compare` and the first view of the UI, in a store of few and of many.

    python benchmarks/looking.py [--runs 10 1000] [--turns 5] [--json FILE]

Half of a store's runs are trials of one study, half lie open; each has five epochs of metrics, 45 params and two sample
grids. Commands are whole processes, from their start to their end; the stores take turns. The UI's first view is
measured in Chromium without a cache (left out where there is none): from asking for the address that `harness ui`
prints to the list of runs, and to the first curve. Prints a table in Markdown, then JSON.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from timing import alternate, print_table, report, spread

from harness import experiment
from harness.media import pictures
from harness.servers.ports import free_port
from harness.tracking import Store

EPOCHS = 5
METRICS = (
    "quality/kid",
    "quality/kid_se",
    "quality/frechet",
    "quality/density",
    "quality/coverage",
    "quality/class_kl",
    "quality/memorisation",
    "loss/discriminator",
    "loss/generator",
    "logit/real",
    "logit/held_out",
    "logit/fake",
    "accuracy/real",
    "accuracy/held_out",
    "accuracy/fake",
    "gradient/discriminator",
    "gradient/generator",
    "speed/images_per_second",
)
COMMANDS = {
    "harness runs": ("runs",),
    "harness compare --experiment default --best 5": ("compare", "--experiment", "default", "--best", "5"),
    "harness compare --study many --best 5": ("compare", "--study", "many", "--best", "5"),
    "the same with --html": ("compare", "--study", "many", "--best", "5", "--html", "page.html"),
}
VIEWS = ("UI: list of runs", "UI: first curve")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="harness-looking-") as scratch:
        stores = {count: fill(Path(scratch) / str(count), count) for count in wanted.runs}
        sides: dict[str, Callable[[], float]] = {
            f"{name}|{count}": lambda arguments=arguments, folder=folder: command(folder, arguments)
            for count, folder in stores.items()
            for name, arguments in COMMANDS.items()
        }
        seconds: dict[str, list[float]] = alternate(sides, wanted.turns, warm_up=1, show="{:.2f} s".format)
        for count, folder in stores.items():
            for name, values in first_views(folder, wanted.turns).items():
                seconds[f"{name}|{count}"] = values
    rows = [[name, *(shown(seconds.get(f"{name}|{count}")) for count in wanted.runs)] for name in (*COMMANDS, *VIEWS)]
    print_table(["seconds: median (least to most)", *(f"{count:,} runs" for count in wanted.runs)], rows)
    report({"looking": seconds}, "cpu", wanted.json)


def shown(values: list[float] | None) -> str:
    if not values:
        return "not measured"
    median, least, most = spread(values)
    return f"{median:.1f} ({least:.1f} to {most:.1f})"


def fill(folder: Path, count: int) -> Path:
    """A working directory with a store of `count` runs, as many open as trials; returns it."""
    from mlflow.entities import Metric, Param, RunTag

    print(f"filling a store with {count:,} runs ...", file=sys.stderr)
    folder.mkdir()
    root = folder / "mlruns"
    store = Store.open(f"sqlite:///{root / 'mlflow.db'}", root=root)
    project = store.experiment_id("gan")
    random, now = np.random.default_rng(0), int(time.time() * 1000)
    leaves = {path: str(value) for path, value in experiment.load("default").flatten().items()}
    grid = random.integers(0, 255, (302, 302), np.uint8)

    def make(name: str, kind: str, start: int, tags: Mapping[str, str]) -> str:
        ours = {"harness.kind": kind, "harness.id": name, "harness.experiment": "default", "harness.epoch": str(EPOCHS)}
        run = store.client.create_run(project, start_time=start, run_name=name, tags={**ours, **tags})
        run_id = str(run.info.run_id)
        if kind == "study":
            return run_id
        own = {
            "optimizer.lr": f"{10 ** random.uniform(-4, -2):.6g}",
            "generator.latent": str(random.integers(16, 256)),
            "discriminator.dropout": f"{random.uniform(0, 0.5):.4f}",
        }
        params = [Param(key, value) for key, value in (leaves | own).items()]
        points = [
            Metric(name, float(random.uniform(0.01, 1)), start + epoch, epoch)
            for epoch in range(1, EPOCHS + 1)
            for name in METRICS
        ]
        final = "validation" if kind == "trial" else "test"
        points += [
            Metric(f"{final}/{name}", float(random.uniform(0.01, 1)), start, EPOCHS) for name in ("kid", "frechet")
        ]
        store.client.log_batch(
            run_id, points, params, [RunTag("harness.dataset", "mnist"), RunTag("harness.judge", "j")]
        )
        for epoch in (1, EPOCHS):
            pictures.save_png(root / f"artifacts/gan/{run_id}/artifacts/samples/epoch-{epoch:04d}.png", grid)
        store.client.set_terminated(run_id, "FINISHED", end_time=start + 60_000)
        return run_id

    study = make("many", "study", now - 1_000_000, {"harness.study": "many", "harness.best_trial": "0"})
    store.client.log_batch(study, [Metric("best/kid", 1 / (step + 1), now, step) for step in range(count // 2)])
    store.client.set_terminated(study, "FINISHED")
    for index in range(count // 2):
        below = {"mlflow.parentRunId": study, "harness.study": "many", "harness.trial": str(index)}
        make(f"many-{index}", "trial", now - 1_000_000 + index, below)
        make(f"default-{index:04x}", "run", now + index, {})
    return folder


def command(folder: Path, arguments: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "harness", *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


def first_views(folder: Path, turns: int) -> dict[str, list[float]]:
    """Seconds to the list of runs and to the first curve, each turn in a browser context of its own."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        return {}
    from playwright.sync_api import sync_playwright

    words = ["ui", "--no-open", "--port", str(free_port(0))]
    served = subprocess.Popen([sys.executable, "-m", "harness", *words], cwd=folder, stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    found: dict[str, list[float]] = {view: [] for view in VIEWS}
    try:
        while not (match := re.search(r"project gan: (\S+)", served.stdout.readline())):
            pass
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            for turn in range(turns + 1):
                context = browser.new_context(viewport={"width": 1400, "height": 1600})
                context.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
                page = context.new_page()
                page.set_default_timeout(120_000)
                began = time.perf_counter()
                page.goto(match[1])
                page.get_by_role("link", name=re.compile(r"^default-")).first.wait_for()
                listed = time.perf_counter() - began
                page.locator(".js-plotly-plot .scatterlayer .js-line").first.wait_for()
                drawn = time.perf_counter() - began
                if turn:  # the first is the warm-up
                    found[VIEWS[0]].append(listed)
                    found[VIEWS[1]].append(drawn)
                context.close()
            browser.close()
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(30)
    return found


if __name__ == "__main__":
    main()
