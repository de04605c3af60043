"""What the commands that draw refuse is refused in Python too, before a store is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import HarnessError, api

from ..commands import Harness


@pytest.mark.usefixtures("workplace")
def test_arguments_that_contradict_each_other_are_refused() -> None:
    for call, text in (
        (lambda: api.save_samples("latest", "a.jpg"), r"a.jpg: the name must end in .png \(a grid\) or .npz"),
        (lambda: api.save_samples("latest", "a.gif"), "only walks are animated"),
        (lambda: api.save_walks("latest", "a.mp4"), r"must end in .png \(a grid\), .npz \(an array\), .gif or .webp"),
        (lambda: api.save_walks("latest", "a.png", count=1000, frames=1001), "are 1,001,000 images"),
        (lambda: api.save_history("latest", "a.png", fps=5), "--fps 5: a sheet does not move"),
        (lambda: api.save_handwriting("latest", "7", "a.pdf"), r"must end in .png \(a picture\) or .webp or .gif"),
        (lambda: api.save_handwriting("latest", " "), "the text is empty"),
        (lambda: api.save_samples("latest", count=0), "count is 0; expected 1 to 1,000,000"),
        (lambda: api.save_walks("latest", frames=1), "frames is 1; expected 2 or more"),
        (lambda: api.save_handwriting("latest", "7", scale=17), "scale is 17; expected 1 to 16"),
        (lambda: api.list_runs(limit=0), "limit is 0; expected 1 or more"),
        (lambda: api.evaluate(["latest"], samples=9), "samples is 9; expected 10 or more"),
        (lambda: api.plan_study("notebook", trials=0, progress=False), "trials is 0; expected 1 or more"),
        (
            lambda: api.plan_study("notebook", direction="up", progress=False),  # type: ignore[arg-type]
            "expected minimize or maximize",
        ),
        (lambda: api.evaluate(), "give one or more RUNs, or --images"),
        (lambda: api.evaluate(["latest"], data="kmnist"), "--data kmnist: use it with --images"),
        (lambda: api.evaluate(images="a.npz", split="validation"), "scored against the test split"),
        (lambda: api.plan_study(study="any"), "--dry-run shows a new study"),
    ):
        with pytest.raises(HarnessError, match=text):
            call()
    assert not list(Path().glob("a.*"))


def test_a_run_is_drawn_as_by_the_commands(harness: Harness, workplace: Path) -> None:
    assert harness("run", "tiny.yaml", "--name", "drawn", "--epochs", "2", "--no-system-metrics").code == 0
    run = api.load_run("drawn")
    assert api.save_samples(run, count=7, seed=5) == Path("drawn-samples.png")
    assert harness("sample", "drawn", "--count", "7", "--seed", "5", "--out", "typed.png").code == 0
    assert Path("drawn-samples.png").read_bytes() == Path("typed.png").read_bytes()
    assert api.save_walks("drawn", "walk.npz", count=2, frames=3) == (Path("walk.npz"), 3)
    path, grids = api.save_history(run)
    assert (path, [grid.epoch for grid in grids]) == (Path("drawn-history.webp"), [1, 2])
    (listed,) = api.list_runs()
    assert (listed["name"], listed["run_id"]) == ("drawn", run.id)
    assert api.list_studies() == []
    assert "default" in {experiment["name"] for experiment in api.list_experiments()}
    plan = api.plan_run("tiny.yaml", epochs=9)
    assert (plan.experiment.train.epochs, plan.steps_per_epoch) == (9, 3)
    assert set(plan.weights) == {"generator", "discriminator"}
    assert api.sync() == []
