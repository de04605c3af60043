"""How images a second, the time of a step and memory grow with the batch, the width and the size of a population.

    python benchmarks/growth.py [--turns 3] [--device cpu] [--json FILE] [--figure docs/images/growth.png]

The notebook's networks and the convolutional pair in fp32; each sweep changes one thing and leaves the others at batch
100 or 64, the usual width and one member. A point is a population (of one: a lone training), after one turn of warm-up;
images are those of all members, seconds are training alone. Memory is what training adds: on a CPU the growth of a
fresh process, one for each point, looked at every 5 ms; on a GPU what tensors take at most. Prints a table in Markdown,
then JSON; the figure needs matplotlib.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from plans import BATCH, KINDS, plan, some_images
from timing import GrowingTable, PeakMemory, on_cuda, report, spread

from harness.data import Images
from harness.gan import BatchedTraining, Training

BATCHES = (16, 32, 64, 100, 200, 400)
WIDTHS = {"mlp": (0.25, 0.5, 1, 2), "conv": (0.25, 0.5, 1, 2, 4)}  # times the usual: of conv 4, 8, 16, 32, 64
MEMBERS = (1, 2, 4, 8, 16, 32)
HEADER = ["networks", "batch", "width", "members", "images/s", "least", "most", "ms a step", "MiB"]
LEAST_STEPS = {"cpu": 8, "cuda": 200}  # of a turn
LEAST_IMAGES = 1_000  # of a turn
SWEEPS = {"batch": "batch size, images", "width": "width, times the usual", "members": "population, members"}
LOOKS = {"mlp": ("#0072B2", "o"), "conv": ("#D55E00", "s")}  # Okabe and Ito's blue and vermilion


@dataclass(frozen=True)
class Point:
    """width: times the usual one."""

    kind: str
    batch: int
    width: float = 1
    members: int = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3, help="counted turns of every point (default: 3)")
    parser.add_argument("--most-members", type=int, default=MEMBERS[-1], help="of a population (default: 32)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the JSON there too")
    parser.add_argument("--figure", type=Path, help="draw it there, a .png file")
    arguments = parser.parse_args()
    measured: dict[Point, dict[str, float]] = {}  # the usual point is in every sweep
    table = GrowingTable(HEADER, [8, 5, 5, 7, 8, 8, 8, 10, 7])
    sweeps: dict[str, dict[str, list[dict[str, object]]]] = {sweep: {} for sweep in SWEEPS}
    for sweep in SWEEPS:
        for kind in KINDS:
            points = [point for point in _points(sweep, kind) if point.members <= arguments.most_members]
            for point in points:
                if point not in measured:
                    measured[point] = _apart(point, arguments.turns, arguments.device)
                    table.add(_row(point, measured[point]))
            sweeps[sweep][kind] = [{**asdict(point), **measured[point]} for point in points]
    report({"growth": sweeps}, arguments.device, arguments.json)
    if arguments.figure:
        draw(sweeps, arguments.figure)


def _points(sweep: str, kind: str) -> Iterator[Point]:
    usual = Point(kind, BATCH[kind])
    for value in {"batch": BATCHES, "width": WIDTHS[kind], "members": MEMBERS}[sweep]:
        yield replace(usual, **{sweep: value})


def _apart(point: Point, turns: int, device: str) -> dict[str, float]:
    """Measured in a fresh process, but on a GPU, where memory is counted exactly."""
    if on_cuda(device):
        return measure(point, turns, device)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(measure, point, turns, device).result()


def measure(point: Point, turns: int, device: str) -> dict[str, float]:
    steps = max(LEAST_STEPS["cuda" if on_cuda(device) else "cpu"], LEAST_IMAGES // point.batch)
    images = some_images(steps * point.batch).to(device)
    gc.collect()  # what the point before this one has left
    with PeakMemory(device) as memory:
        population = BatchedTraining([_training(point, seed, images, device) for seed in range(point.members)])
        seconds = [population.train_epoch()[0][1].seconds for _ in range(1 + turns)][1:]
    rates = [point.members * steps * point.batch / each for each in seconds]
    middle, least, most = spread(rates)
    return {
        "images_per_second": middle,
        "images_per_second_least": least,
        "images_per_second_most": most,
        "milliseconds_a_step": 1e3 * spread(seconds)[0] / steps,
        "memory_mib": memory.mebibytes,
    }


def _training(point: Point, seed: int, images: Images, device: str) -> Training:
    changes = [f"train.batch_size={point.batch}", f"train.seed={seed}"]
    for network in ("generator", "discriminator"):
        usual = getattr(plan(point.kind, device), network)
        if point.kind == "conv":
            changes.append(f"{network}.width={round(point.width * usual.width)}")
        else:
            changes.append(f"{network}.widths={[round(point.width * width) for width in usual.widths]}")
    return Training(plan(point.kind, device, *changes), images)


def _row(point: Point, found: dict[str, float]) -> list[str]:
    rates = [f"{found[f'images_per_second{which}']:,.0f}" for which in ("", "_least", "_most")]
    sizes = [f"{point.batch}", f"{point.width:g}", f"{point.members}"]
    return [point.kind, *sizes, *rates, f"{found['milliseconds_a_step']:,.3f}", f"{found['memory_mib']:,.0f}"]


def draw(sweeps: dict[str, dict[str, list[dict[str, object]]]], file: Path) -> None:
    """Three panels, one a sweep, of images a second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    pyplot.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = pyplot.subplots(1, 3, figsize=(11, 4), sharey=True, layout="constrained")
    for panel, (sweep, label) in zip(panels, SWEEPS.items(), strict=True):
        ticks: set[float] = set()
        for kind, rows in sweeps[sweep].items():
            color, marker = LOOKS[kind]
            values = [row[sweep] for row in rows]
            rates = [row["images_per_second"] for row in rows]
            panel.plot(values, rates, color=color, marker=marker, label=KINDS[kind].split(",")[0])
            ticks.update(values)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_minor_locator(ticker.NullLocator())
        panel.grid(alpha=0.3)
        panel.set_xlabel(label)
    panels[0].set_ylabel("images a second, of all members")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(KINDS), frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
