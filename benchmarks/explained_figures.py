"""The figures of docs/gan.md, out of what benchmarks/explained.py has measured.

D and what is real are blue, G and what is generated vermilion, held-out images green (Okabe and Ito's colours).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from harness.gan.objectives import OBJECTIVES
from harness.media.pictures import grid

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

REAL, FAKE, HELD_OUT, OTHER, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
PALETTE = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00")
WIDTH = 9.5  # inches, at 110 dots: the width of a page
LN2 = float(np.log(2))

Runs = Mapping[str, Mapping[str, Any]]
Arrays = Mapping[str, Mapping[str, Any]]


def draw_all(runs: Runs, arrays: Arrays, folder: Path) -> None:
    """Every figure, as gan-NAME.png."""
    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    pyplot.rcParams.update({"axes.titlesize": 9, "lines.linewidth": 1.6, "legend.frameon": False})
    figures: dict[str, Callable[[Runs, Arrays], Figure]] = {
        "advice": advice,
        "logits": logits,
        "curves": curves,
        "epochs": epochs,
        "collapse": collapse,
        "divergence": divergence,
        "overfitting": overfitting,
        "overfitting-samples": overfitting_samples,
        "losses": losses,
        "objectives": objectives,
        "saturation": saturation,
        "slopes": slopes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in figures.items():
        figure = draw(runs, arrays)
        save(figure, folder / f"gan-{name}.png")


def save(figure: Figure, file: Path) -> None:
    """A PNG in 256 colours: a third of the size, and no eye misses the others here."""
    figure.savefig(memory := io.BytesIO(), dpi=110)
    pyplot.close(figure)
    Image.open(memory).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def panels(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, Any]:
    return pyplot.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False, **options)


def curve(run: Mapping[str, Any], name: str, across: str = "epoch") -> tuple[list[float], list[float]]:
    """Where a metric stands, and its values."""
    points = [point for point in run["points"] if name in point]
    return [point[across] for point in points], [point[name] for point in points]


def line(panel: Axes, run: Mapping[str, Any], name: str, label: str, color: str, **looks: Any) -> None:
    panel.plot(*curve(run, name, looks.pop("across", "epoch")), color=color, label=label, **looks)


def level(panel: Axes, value: float, label: str) -> None:
    """A dashed line at what is known beforehand, named beside the panel."""
    panel.axhline(value, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    where = {"xy": (1.01, value), "xycoords": ("axes fraction", "data"), "annotation_clip": False}
    panel.annotate(label, **where, va="center", color=GREY, fontsize=8)


def plain_log(axis: Axis) -> None:
    """A log scale in plain numbers: 0.05, not 5 times ten to the minus two."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def whole(*panels: Axes) -> None:
    """Epochs are whole numbers."""
    for panel in panels:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def show(panel: Axes, samples: Any, title: str = "", columns: int = 10, count: int = 100) -> None:
    picture = grid(torch.from_numpy(samples[:count]), columns, gap=1) // 16 * 17  # 16 greys: a smaller file
    panel.imshow(picture, cmap="gray", vmin=0, vmax=255)
    panel.set_title(title)
    panel.axis("off")


# The networks and one step ---------------------------------------------------------------------------------------


def advice(runs: Runs, arrays: Arrays) -> Figure:
    """Generated images, and which of their pixels D would have lighter or darker."""
    shown = (1, 12)
    figure, rows = panels(4, 10, 4.2)
    for block, epoch in enumerate(shown):
        whats = ("advised", "advice", "advised_logits")
        images, told, logit = (arrays["good"][what][epoch - 1] for what in whats)
        most = float(np.quantile(np.abs(told), 0.995))
        for column in range(10):
            above, below = rows[2 * block][column], rows[2 * block + 1][column]
            above.imshow(images[column], cmap="gray", vmin=-1, vmax=1)
            below.imshow(told[column], cmap="PuOr_r", vmin=-most, vmax=most)
            above.set_title(f"{logit[column]:+.1f}", fontsize=8, pad=2)
            for panel in (above, below):
                panel.set_xticks([])
                panel.set_yticks([])
                panel.spines[:].set_visible(False)
        rows[2 * block][0].set_ylabel(f"epoch {epoch}:\nG draws")
        rows[2 * block + 1][0].set_ylabel("D's gradient")
    return figure


def logits(runs: Runs, arrays: Arrays) -> Figure:
    """How sure D is of single images."""
    shown = (1, 3, 12)
    figure, ((*row,),) = panels(1, len(shown), 2.5, sharex=True, sharey=True)
    values = arrays["good"]["logits"]
    bins = np.linspace(*np.quantile(values[[each - 1 for each in shown]], [0.002, 0.998]), 45)
    for panel, epoch in zip(row, shown, strict=True):
        real, held_out, fake = values[epoch - 1]
        panel.hist(fake, bins, color=FAKE, alpha=0.6, label="generated")
        panel.hist(real, bins, color=REAL, alpha=0.6, label="real, trained on")
        panel.hist(held_out, bins, color=HELD_OUT, histtype="step", linewidth=1.4, label="real, held out")
        panel.axvline(0, color=GREY, linewidth=0.8, linestyle="--")
        panel.set_title(f"epoch {epoch}")
        panel.set_xlabel("logit")
    row[0].set_ylabel("images of 500")
    row[0].legend(fontsize=8)
    return figure


# A good run ------------------------------------------------------------------------------------------------------


def curves(runs: Runs, arrays: Arrays) -> Figure:
    run = runs["good"]
    figure, rows = panels(2, 3, 4.6, sharex=True)
    loss, logit, accuracy, gradient, kid, variety = rows.flat
    both = (("discriminator", REAL, "D"), ("generator", FAKE, "G"))
    for which, color, label in both:
        line(loss, run, f"loss/{which}", label, color, marker=".")
        line(gradient, run, f"gradient/{which}", label, color, marker=".")
    level(loss, 2 * LN2, "2 ln 2")
    level(loss, LN2, "ln 2")
    loss.set_ylim(0)
    gradient.set_ylim(0)
    for which, color in (("real", REAL), ("fake", FAKE)):
        line(logit, run, f"logit/{which}", which, color, marker=".")
        line(accuracy, run, f"accuracy/{which}", which, color, marker=".")
    level(logit, 0, "")
    level(accuracy, 0.5, "a guess")
    accuracy.set_ylim(0, 1.02)
    line(kid, run, "quality/kid", "KID", "black", marker=".")
    plain_log(kid.yaxis)
    whole(*rows.flat)
    line(variety, run, "quality/coverage", "coverage", HELD_OUT, marker=".")
    line(variety, run, "quality/density", "density", OTHER, marker=".")
    variety.set_ylim(0, 1.02)
    titles = ("loss/*", "logit/*", "accuracy/*", "gradient/*", "quality/kid, log scale", "quality/*")
    for panel, title in zip(rows.flat, titles, strict=True):
        panel.set_title(title)
        if panel is not kid:
            panel.legend(fontsize=8, loc="best")
    for panel in rows[1]:
        panel.set_xlabel("epoch")
    return figure


def epochs(runs: Runs, arrays: Arrays) -> Figure:
    shown = (0, 1, 2, 12)
    figure, ((*row,),) = panels(1, len(shown), 1.75)
    kids = dict(zip(*curve(runs["good"], "quality/kid"), strict=True))
    for panel, epoch in zip(row, shown, strict=True):
        title = f"epoch {epoch}, KID {kids[epoch]:.3f}" if epoch else "before the first step"
        show(panel, arrays["good"]["samples"][epoch], title, count=60)
    return figure


# What goes wrong -------------------------------------------------------------------------------------------------


def collapse(runs: Runs, arrays: Arrays) -> Figure:
    """The notebook's networks with either beta1: curves, then what they draw."""
    figure = pyplot.figure(figsize=(WIDTH, 3.9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.2, 1))
    names = {"notebook": ("beta1 0.9", FAKE), "notebook-fixed": ("beta1 0.5", REAL)}
    metrics = {"quality/class_kl": "quality/class_kl, nats", "quality/coverage": "quality/coverage"}
    titles = {**metrics, "loss/generator": "loss/generator", "quality/kid": "quality/kid, log scale"}
    for panel, (metric, title) in zip(above.subplots(1, 4), titles.items(), strict=True):
        for name, (label, color) in names.items():
            line(panel, runs[name], metric, label, color, marker=".")
        panel.set_title(title)
        panel.set_xlabel("epoch of 20,000 images")
        if metric == "quality/class_kl":
            level(panel, float(np.log(10)), "ln 10")
            panel.legend(fontsize=8)
        elif metric == "quality/kid":
            plain_log(panel.yaxis)
        whole(panel)
        panel.set_ylim(None if metric == "quality/kid" else 0)
    shown = (1, 3, 6, 10)
    for row, (name, (label, _)) in zip(below.subplots(2, len(shown)), names.items(), strict=True):
        for panel, epoch in zip(row, shown, strict=True):
            digits = sum(count >= 10 for count in runs[name]["points"][epoch - 1]["digits"])
            show(panel, arrays[name]["samples"][epoch], f"{label}, epoch {epoch}, digits: {digits}", count=20)
    return figure


def divergence(runs: Runs, arrays: Arrays) -> Figure:
    """Wasserstein with and without a penalty; a run that is dead; one that ends in infinity."""
    figure, ((logit, kid, dead, infinite),) = panels(1, 4, 2.7)
    sides = {"wasserstein": ("no penalty", FAKE), "wasserstein-gp": ("penalty 10", REAL)}
    for name, (label, color) in sides.items():
        line(logit, runs[name], "logit/real", label, color, marker=".")
        line(logit, runs[name], "logit/fake", "", color, marker=".", linestyle=":")
        line(kid, runs[name], "quality/kid", label, color, marker=".")
    logit.set_yscale("symlog", linthresh=10)
    logit.set_title("A: logit/real, logit/fake dotted")
    plain_log(kid.yaxis)
    kid.set_title("A: quality/kid, log scale")
    logit.legend(fontsize=8, loc="lower left")
    curves_of = {"loss/discriminator": ("loss D", REAL, "-"), "loss/generator": ("loss G", FAKE, "-")}
    curves_of |= {"gradient/discriminator": ("gradient D", REAL, ":"), "gradient/generator": ("gradient G", FAKE, ":")}
    for panel, name in ((dead, "dead"), (infinite, "diverged")):
        for metric, (label, color, style) in curves_of.items():
            where, values = curve(runs[name], metric)
            panel.plot(where, np.abs(values), color=color, linestyle=style, marker=".", label=label)
        panel.set_yscale("symlog", linthresh=1)
        panel.set_ylim(-0.5, 1e23)
        panel.set_yticks([0, 1e6, 1e12, 1e18])
        panel.yaxis.set_minor_locator(NullLocator())
    dead.set_title("B: learning rate 1")
    infinite.set_title("C: to infinity")
    infinite.legend(fontsize=8, loc="center right")
    whole(logit, kid, dead, infinite)
    for panel in (logit, kid, dead, infinite):
        panel.set_xlabel("epoch")
    return figure


FEW = {"few": ("as they are", "black"), "few-moved": ("moved", OTHER)}


def overfitting(runs: Runs, arrays: Arrays) -> Figure:
    """500 images as they are, and moved: what D makes of three sorts of images, and the scores."""
    figure, rows = panels(2, 3, 4.8, sharex=True)
    for column, (name, (told, color)) in enumerate(FEW.items()):
        logit, accuracy = rows[:, column]
        run, values = runs[name], arrays[name]["logits"]
        scored = curve(run, "quality/kid")[0]
        for sort, look, label in ((0, REAL, "trained on"), (1, HELD_OUT, "held out"), (2, FAKE, "generated")):
            logit.plot(scored, values[:, sort].mean(1), color=look, label=label)
            right = values[:, sort] < 0 if sort == 2 else values[:, sort] > 0
            accuracy.plot(scored, right.mean(1), color=look)
        logit.set_title(f"500 images {told}: mean logit")
        logit.set_ylim(-4.7, 4.7)
        accuracy.set_title(f"500 images {told}: judged rightly")
        accuracy.set_ylim(0, 1.02)
        for panel, (metric, title) in zip(rows[:, 2], SCORES.items(), strict=True):
            line(panel, run, metric, told, color)
            panel.set_title(title)
    rows[0][0].legend(fontsize=8, ncols=3, loc="upper left")
    plain_log(rows[0][2].yaxis)
    rows[0][2].legend(fontsize=8)
    for panel in rows[1]:
        panel.set_xlabel("epoch of 500 images")
    return figure


SCORES = {"quality/kid": "quality/kid, log scale", "quality/memorisation": "quality/memorisation"}


def overfitting_samples(runs: Runs, arrays: Arrays) -> Figure:
    """Of both runs halfway and at the end."""
    figure, ((*row,),) = panels(1, 4, 1.45)
    for pair, (name, (told, _)) in zip((row[:2], row[2:]), FEW.items(), strict=True):
        scored, kids = curve(runs[name], "quality/kid")
        for panel, epoch in zip(pair, (100, 200), strict=True):
            index = scored.index(epoch)
            title = f"{told}, epoch {epoch}: KID {kids[index]:.2f}"
            show(panel, arrays[name]["samples"][index + 1], title, count=50)
    return figure


# Objectives and penalties ----------------------------------------------------------------------------------------

NAMES = ("non-saturating", "minimax", "lsgan", "hinge", "wasserstein-gp", "relativistic")


def losses(runs: Runs, arrays: Arrays) -> Figure:
    """What one generated image's logit costs G, and how hard G is pushed, by the objectives' own code."""
    figure, ((cost, push),) = panels(1, 2, 3.0)
    logit = torch.linspace(-8, 8, 161, requires_grad=True)
    for name, color in zip(NAMES, PALETTE, strict=True):
        objective = OBJECTIVES[name.removesuffix("-gp")]()
        # One at a time, for a loss is a mean over the batch; relativistic beside a real image of logit 0.
        values = torch.stack([objective.generator(each[None], torch.zeros(1)) for each in logit])
        (gradient,) = torch.autograd.grad(values.sum(), logit)
        looks = {"color": color, "linestyle": "--" if name in ("wasserstein-gp", "relativistic") else "-"}
        cost.plot(logit.detach(), values.detach(), label=name.removesuffix("-gp"), **looks)
        push.plot(logit.detach(), -gradient, **looks)
    cost.set_ylim(-8, 8)
    push.set_ylim(-1.5, 3)
    cost.set_title("G's loss")
    push.set_title("how hard it pushes the logit up: minus its slope")
    for panel in (cost, push):
        panel.set_xlabel("logit of a generated image")
        panel.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def objectives(runs: Runs, arrays: Arrays) -> Figure:
    figure, rows = panels(4, len(NAMES), 6.2)
    for column, name in zip(rows.T, NAMES, strict=True):
        loss, logit, kid, picture = column
        run = runs[name]
        for which, color, label in (("discriminator", REAL, "D"), ("generator", FAKE, "G")):
            line(loss, run, f"loss/{which}", label, color, marker=".")
        for which, color in (("real", REAL), ("fake", FAKE)):
            line(logit, run, f"logit/{which}", which, color, marker=".")
        line(kid, run, "quality/kid", "", "black", marker=".")
        plain_log(kid.yaxis)
        kid.set_ylim(0.3, 1.2)
        kid.set_xlabel("epoch")
        loss.set_title(name.replace("-gp", ", penalty"))
        for panel in (loss, logit, kid):
            panel.set_xticks([1, 2, 3, 4])
            panel.tick_params(labelsize=8)
        show(picture, arrays[name]["samples"][4], columns=5, count=25)
    for panel, label in zip(rows[:, 0], ("loss/*", "logit/*", "quality/kid, log"), strict=False):
        panel.set_ylabel(label)
    rows[0][0].legend(fontsize=8)
    rows[1][0].legend(fontsize=8)
    return figure


def saturation(runs: Runs, arrays: Arrays) -> Figure:
    """The first steps under either form of the original loss."""
    figure, ((loss, gradient),) = panels(1, 2, 2.7)
    for name, color in (("non-saturating", REAL), ("minimax", FAKE)):
        steps = runs[name]["steps"]
        first = np.arange(1, len(steps["loss/discriminator"]) + 1)
        loss.plot(first, steps["loss/discriminator"], color=color, linewidth=0.9, label=name)
        gradient.plot(first, steps["gradient/generator"], color=color, linewidth=0.9)
    gradient.set_yscale("log")
    loss.set_title("D's loss")
    level(loss, 2 * LN2, "2 ln 2")
    gradient.set_title("norm of G's gradient, log scale")
    for panel in (loss, gradient):
        panel.set_xlabel("step")
    loss.legend(fontsize=8)
    return figure


def slopes(runs: Runs, arrays: Arrays) -> Figure:
    """Norms of D's gradient with respect to images, at the end of five runs."""
    names = {
        "wasserstein": "wasserstein, no penalty",
        "wasserstein-gp": "wasserstein, gradient_penalty 10",
        "non-saturating": "non-saturating, no penalty",
        "dragan": "non-saturating, dragan 10",
        "r1": "non-saturating, r1 1",
    }
    sorts = {"real": (0, REAL), "between": (2, HELD_OUT), "generated": (1, FAKE)}
    figure, ((panel,),) = panels(1, 1, 3.2)
    for row, name in enumerate(names):
        for offset, (sort, (index, color)) in enumerate(sorts.items()):
            values = np.quantile(arrays[name]["slopes"][index], [0.05, 0.25, 0.5, 0.75, 0.95])
            height = -row - 0.22 * (offset - 1)
            panel.plot(values[[0, 4]], [height] * 2, color=color, linewidth=1)
            panel.plot(values[[1, 3]], [height] * 2, color=color, linewidth=5, label=sort if not row else None)
            panel.plot(values[2], height, "o", color="white", markersize=3.5)
    panel.axvline(1, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    panel.set_yticks([-row for row in range(len(names))], list(names.values()))
    plain_log(panel.xaxis)
    panel.set_xlabel("slope of D: norm of its gradient with respect to an image, log scale")
    panel.legend(fontsize=8)
    return figure
