"""The Python API does what the commands do, and its results render."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness import HarnessError
from harness.api.options import merge_overrides

from ..commands import Harness, client, only_run, run_named, size_of

QUIET: dict[str, Any] = {"system_metrics": False, "progress": False}
SCORED = {"data.validation": 100, "track.score_every": 1}


def test_import_harness_imports_nothing_else() -> None:
    heavy = "('torch', 'mlflow', 'optuna', 'pandas', 'numpy', 'rich', 'pydantic', 'click')"
    code = f"import sys, harness, harness.api; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert set(harness.__all__) <= set(dir(harness))
    for name in harness.__all__:
        assert getattr(harness, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'tunee'"):
        harness.tunee  # noqa: B018


def test_overrides_are_those_of_the_command_line() -> None:
    assert merge_overrides({"optimizer.lr": 1e-5, "optimizer.betas": (0.5, 0.9), "data.subset": None}, seed=3) == [
        "optimizer.lr=1e-05",
        "optimizer.betas=[0.5, 0.9]",
        "data.subset=null",
        "train.seed=3",
    ]
    assert merge_overrides(["a.b=1"], epochs=2) == ["a.b=1", "train.epochs=2"]
    with pytest.raises(HarnessError, match=r"optimizer.lr is .* expected a number"):
        merge_overrides({"optimizer.lr": object()})


def test_run_does_what_the_command_does(harness_command: Harness) -> None:
    assert harness_command("run", "tiny.yaml", "--seed", "3", "--name", "typed", "--no-system-metrics").code == 0
    run = harness.run("tiny.yaml", seed=3, name="called", tags={"lesson": "gan"}, note="from a notebook", **QUIET)
    typed, called = run_named("typed"), run_named("called")
    assert (run.id, run.name, run.status, run.kind) == (called.info.run_id, "called", "FINISHED", "run")
    assert called.data.params == typed.data.params == run.params
    timed = {name for name in run.metrics if name.startswith("speed/")}
    assert run.metrics.keys() == typed.data.metrics.keys()
    assert {name: value for name, value in run.metrics.items() if name not in timed} == {
        name: value for name, value in typed.data.metrics.items() if name not in timed
    }
    assert run.scores["test/kid"] == typed.data.metrics["test/kid"]
    assert set(run.scores) == {name for name in run.metrics if name.startswith(("test/", "quality/"))}
    assert (run.tags["lesson"], run.tags["mlflow.note.content"].splitlines()[0]) == ("gan", "from a notebook")
    assert run.url is None
    assert "called" in repr(run)


def test_what_a_run_offers(harness_command: Harness) -> None:
    run = harness.run("tiny.yaml", set=SCORED, name="looked-at", **QUIET)
    assert harness_command("sample", "looked-at", "--count", "7", "--seed", "5", "--out", "x.npz").code == 0
    assert_samples(run)
    assert_history_and_grids(run)
    with torch.no_grad():
        drawn = run.generator(torch.zeros(2, run.experiment.generator.latent))
    assert drawn.shape == (2, 1, 28, 28)
    page = run._repr_html_()
    assert "looked-at" in page
    assert f"{run.scores['test/kid']:.4f}" in page
    assert "data:image/png;base64," in page
    loaded = harness.load_run("latest")
    assert loaded.id == run.id
    assert loaded.scores == run.scores


def assert_samples(run: harness.Run) -> None:
    """Those that `harness sample` has drawn to x.npz."""
    samples = run.samples(7, seed=5)
    assert len(samples) == 7
    np.testing.assert_array_equal(np.asarray(samples), np.load("x.npz")["images"])
    assert samples.save("grid.png") == Path("grid.png")
    assert size_of(Path("grid.png")) == samples.grid().size == (7 * 30 + 2, 32)
    samples.save("again.npz")
    np.testing.assert_array_equal(np.load("again.npz")["images"], samples.images)
    with pytest.raises(HarnessError, match=r"grid.jpg: the name must end in .png"):
        samples.save("grid.jpg")
    with pytest.raises(HarnessError, match=r"--digits 7: the generator of run looked-at is unconditional"):
        run.samples(7, digits=7)
    with pytest.raises(HarnessError, match="count is 0; expected 1 or more"):
        run.samples(0)
    assert samples._repr_png_().startswith(b"\x89PNG")


def assert_history_and_grids(run: harness.Run) -> None:
    history = run.history()
    assert list(history.index) == [1, 2, 3]
    assert history.index.name == "epoch"
    assert history.loc[3, "quality/kid"] == run.metrics["quality/kid"]
    assert not [name for name in history if name.startswith(("test/", "system/"))]
    assert history.notna().all().all()

    assert run.grid().size == (302, 302)
    assert np.asarray(run.grid(1)).any()
    with pytest.raises(HarnessError, match="epoch 9 has no sample grid; expected 1, 2, 3"):
        run.grid(9)


def test_a_run_is_repeated_from_its_experiment_and_resumed(harness_command: Harness) -> None:
    run = harness.run("tiny.yaml", name="first", **QUIET)
    again = harness.run(run.experiment, name="again", **QUIET)
    assert again.metrics["loss/generator"] == run.metrics["loss/generator"]
    longer = run.resume(epochs=4, progress=False)
    assert longer.id == run.id
    assert list(longer.history().index) == [1, 2, 3, 4]
    whole = harness.run("tiny.yaml", epochs=4, name="whole", **QUIET)
    assert longer.metrics["loss/generator"] == whole.metrics["loss/generator"]
    with pytest.raises(HarnessError, match=r"only train\.epochs may change"):
        harness.resume(run, set={"optimizer.lr": 1.0}, progress=False)


def test_seeds_are_one_run_with_runs_below(harness_command: Harness) -> None:
    parent = harness.run("tiny.yaml", seeds=2, batch_runs=1, set=SCORED, **QUIET)
    assert parent.kind == "replicates"
    assert [seed.params["train.seed"] for seed in parent.seeds] == ["0", "1"]
    mean = sum(seed.scores["test/kid"] for seed in parent.seeds) / 2
    assert parent.scores["test/kid"] == pytest.approx(mean)
    assert parent.samples(5).images.shape == (5, 28, 28)
    with pytest.raises(HarnessError, match="--batch-runs is 3; expected 1 to 2"):
        harness.run("tiny.yaml", seeds=2, batch_runs=3, **QUIET)


def test_bad_input_raises_and_leaves_no_run(harness_command: Harness) -> None:
    with pytest.raises(HarnessError, match=r"optimizer.lrr"):
        harness.run("tiny.yaml", set={"optimizer.lrr": 1}, **QUIET)
    with pytest.raises(HarnessError, match=r"--max-time 'soon': expected a time"):
        harness.run("tiny.yaml", max_time="soon", **QUIET)
    with pytest.raises(HarnessError, match="nosuch"):
        harness.load_run("nosuch")
    assert client().search_runs([e.experiment_id for e in client().search_experiments()]) == []


def test_a_thread_can_train(harness_command: Harness) -> None:
    """Signals are handled in the main thread alone; elsewhere nothing is to be stopped by them."""
    found: list[harness.Run] = []
    thread = threading.Thread(target=lambda: found.append(harness.run("tiny.yaml", **QUIET)))
    thread.start()
    thread.join()
    assert [run.status for run in found] == ["FINISHED"]


def test_a_study_is_searched_read_back_and_confirmed(harness_command: Harness, small_file: Path) -> None:
    study = harness.tune(small_file, trials=3, batch_runs=1, pruner="none", **QUIET)
    assert (study.name, study.metric, study.run.kind) == ("small", "kid", "study")
    trials = study.trials()
    assert list(trials.index) == [0, 1, 2]
    assert {"state", "kid", "seconds", "run_id", "optimizer.lr", "generator.latent"} <= set(trials.columns)
    best = study.best
    assert best.score == trials["kid"].min() == study.optuna.best_value
    assert study.best_params == study.optuna.best_params
    assert study.best_run.scores["validation/kid"] == best.score
    assert study.best_experiment.flatten()["optimizer.lr"] == best.values["optimizer.lr"]
    page = study._repr_html_()
    assert page.index(f"{best.score:.4f}") < page.index(f"{trials['kid'].max():.4f}")
    longer = harness.load_study("small").resume(trials=4, progress=False)
    assert len(longer.trials()) == 4
    with pytest.raises(HarnessError, match="there is no study 'smal'"):
        harness.load_study("smal")
    with pytest.raises(HarnessError, match="seeds is 1; expected 2 or more"):
        longer.confirm(1)
    confirmed = longer.confirm(2, budget="tuning", progress=False)
    assert {name: len(scores) for name, scores in confirmed.scores.items()} == {"baseline": 2, "best": 2}
    assert confirmed.interval[0] < confirmed.gain < confirmed.interval[1]
    assert confirmed.verdict in confirmed._repr_html_()


def test_runs_and_studies_are_compared(gallery: Harness, tmp_path: Path) -> None:
    slow, study = harness.load_run("slow"), harness.load_study("small")
    found = harness.compare([slow, "quick", study])
    table = found.table()
    assert len(found) == len(table) == 3
    assert set(table.index) >= {"slow", "quick"}
    assert table["score"].is_monotonic_increasing
    assert {run.name for run in found.runs} == set(table.index)
    assert found.picture().size[0] > 302
    page = found._repr_html_()
    assert all(name in page for name in table.index)
    assert found.save(tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert size_of(found.save(tmp_path / "grids.png")) == found.picture().size
    with pytest.raises(HarnessError, match=r"page.pdf: the name must end in .html"):
        found.save(tmp_path / "page.pdf")
    with pytest.raises(HarnessError, match="1 run to compare, expected two or more"):
        harness.compare(slow)
    assert len(harness.compare(study="small")) == 5


def test_progress_in_a_terminal_is_on_standard_error(
    harness_command: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    harness.run("tiny.yaml", system_metrics=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "epoch 3/3" in said.err
    assert only_run().info.status == "FINISHED"


@pytest.fixture
def harness_command(harness: Harness) -> Harness:
    """The fixture `harness`, which has the name of the package."""
    return harness


@pytest.fixture
def small_file(workplace: Path) -> Path:
    from ..tuning.common import SMALL

    (workplace / "small.yaml").write_text(SMALL)
    return workplace / "small.yaml"
