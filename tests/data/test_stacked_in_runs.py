"""Stacked MNIST by command: trained, scored by modes, chosen by their KL, searched, compared, drawn in colour."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import experiment as experiments
from harness.errors import HarnessError
from harness.gan import checkpoints
from harness.tracking import Store, views

from ..commands import Harness, client, run_named

STACKED = """
name: stacked
data: {name: stacked-mnist, subset: 200}
generator: {kind: mlp, latent: 8, widths: [16, 16]}
discriminator: {kind: mlp, widths: [16, 16], dropout: 0.3}
optimizer: {lr: 1e-3}
train: {epochs: 3, batch_size: 20, precision: fp32, device: cpu}
track: {samples_every: 1, checkpoint_every: 1, score_every: 1}
quality: {samples: 60, samples_while_training: 30}
search:
  optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
"""
RUN = ("run", "stacked.yaml", "--no-system-metrics")


@pytest.fixture(autouse=True)
def _stacked_file(workplace: Path) -> None:
    (workplace / "stacked.yaml").write_text(STACKED)


def test_counts_are_the_published_ones_unless_told() -> None:
    plain = experiments.from_mapping({"name": "x", "data": {"name": "stacked-mnist"}}, "x")
    assert (plain.data.validation, plain.quality.samples) == (0, 26_000)
    told = {"name": "x", "data": {"name": "stacked-mnist", "validation": 5}, "quality": {"samples": 50}}
    assert experiments.from_mapping(told, "x").quality.samples == 50
    assert experiments.from_mapping(told, "x").data.validation == 5
    assert experiments.from_mapping({"name": "x"}, "x").quality.samples == 10_000
    assert experiments.from_yaml(plain.to_yaml()) == plain
    for faulty in ({"data": 3}, {"data": {"name": ["a"]}}, {"data": {"name": "stacked-mnist"}, "quality": []}):
        with pytest.raises(HarnessError):
            experiments.from_mapping({"name": "x", **faulty}, "x")


def test_a_run_is_scored_by_modes_and_keeps_the_epoch_of_the_lowest_kl(harness: Harness, tmp_path: Path) -> None:
    said = harness(*RUN, "--name", "one", "--set", "optimizer.lr=1e-2")
    assert said.code == 0, said.err
    assert "no neighbour grids" in said.out
    assert "no validation images" not in said.out
    run = run_named("one")
    curve = [point.value for point in client().get_metric_history(run.info.run_id, "quality/mode_kl")]
    assert len(curve) == 3
    assert {name for name in run.data.metrics if name.startswith(("quality/", "test/"))} == {
        "quality/mode_kl",
        "quality/modes",
        "test/mode_kl",
        "test/modes",
    }
    best = curve.index(min(curve)) + 1
    assert run.data.tags["harness.best_epoch"] == str(best)
    assert float(run.data.tags["harness.best_mode_kl"]) == min(curve)
    assert "harness.best_kid" not in run.data.tags
    assert run.data.tags["harness.judge"].startswith("mnist-first ")
    kept = checkpoints.load(Path(client().download_artifacts(run.info.run_id, "checkpoints/best.pt", str(tmp_path))))
    assert (kept.epoch, kept.score) == (best, min(curve))
    assert f"mode KL {run.data.metrics['test/mode_kl']:.4f}  modes {run.data.metrics['test/modes']:.0f}" in said.out
    assert not client().list_artifacts(run.info.run_id, "neighbours")
    grid = Path(client().download_artifacts(run.info.run_id, "samples/epoch-0003.png", str(tmp_path)))
    with Image.open(grid) as picture:
        assert (picture.mode, picture.size) == ("RGB", (302, 302))
        colours = np.asarray(picture)
    assert not np.array_equal(colours[..., 0], colours[..., 1]), "the channels are drawn as such"
    listed = harness("runs").out
    assert "mode KL" in listed
    assert "KID" not in listed


def test_evaluate_shows_both_references_and_writes_back(harness: Harness) -> None:
    assert harness(*RUN, "--name", "one", "--epochs", "1").code == 0
    before = run_named("one").data.metrics
    said = harness("evaluate", "one")
    assert said.code == 0, said.err
    lines = [line.split() for line in said.out.splitlines() if line.strip()]
    assert lines[0] == ["run", "epoch", "mode", "KL", "modes"]
    assert [line[0] for line in lines[2:4]] == ["uniform", "digits"]
    assert lines[4][0] == "one"
    assert "60 samples, judge mnist-first" in said.out
    assert "split" not in said.out
    second = json.loads(harness("evaluate", "one", "--judge", "second", "--json").out)
    assert [row["name"] for row in second] == ["uniform digits", "digits as frequent as MNIST's", "one"]
    assert second[0]["spread"]["mode_kl"] > 0
    assert second[2]["spread"] is None
    after = run_named("one").data.metrics
    assert after["test/mode_kl"] == before["test/mode_kl"]
    assert after["test/second/mode_kl"] == second[2]["scores"]["mode_kl"]
    assert run_named("one").data.tags["harness.judge.second"].startswith("mnist-second ")


def test_seeds_are_trained_and_scored_together(harness: Harness) -> None:
    said = harness(*RUN, "--name", "seeds", "--seeds", "2", "--batch-runs", "2", "--epochs", "2")
    assert said.code == 0, said.err
    assert "mode KL" in said.out
    children = [run_named(f"seeds-seed{seed}") for seed in (0, 1)]
    for child in children:
        assert len(client().get_metric_history(child.info.run_id, "quality/mode_kl")) == 2
    parent = run_named("seeds").data.metrics
    scores = [child.data.metrics["test/mode_kl"] for child in children]
    assert parent["test/mode_kl"] == pytest.approx(sum(scores) / 2)
    assert parent["quality/mode_kl"] == pytest.approx(
        sum(child.data.metrics["quality/mode_kl"] for child in children) / 2
    )
    rows = json.loads(harness("evaluate", "seeds", "--json").out)
    assert rows[-1]["name"] == "seeds, mean"
    assert rows[-1]["scores"]["mode_kl"] == pytest.approx(parent["test/mode_kl"])
    drawn = harness("sample", "seeds", "--out", "best.npz", "--count", "4")
    assert drawn.code == 0, drawn.err


def test_a_search_goes_by_mode_kl(harness: Harness) -> None:
    said = harness(
        "tune", "stacked.yaml", "--trials", "2", "--batch-runs", "1", "--pruner", "none", "--no-system-metrics"
    )
    assert said.code == 0, said.err
    study = run_named("stacked")
    assert study.data.params["study.metric"] == "mode_kl"
    trials = [run_named(f"stacked-{number}") for number in (0, 1)]
    scores = [trial.data.metrics["validation/mode_kl"] for trial in trials]
    assert study.data.metrics["best/mode_kl"] == min(scores)
    assert [trial.data.params["data.validation"] for trial in trials] == ["0", "0"], "nothing is held out for it"
    images = [item.path for item in client().list_artifacts(study.info.run_id, "images") if "samples" in item.path]
    path = next(image for image in images if image.endswith(".png"))
    with Image.open(client().download_artifacts(study.info.run_id, path)) as picture:
        assert picture.mode == "RGB"
    compared = json.loads(harness("compare", "--study", "stacked", "--json").out)
    assert compared["score"] == "validation/mode_kl"
    assert [row["score"] for row in compared["runs"]] == sorted(scores)


@pytest.mark.parametrize(
    ("name", "metric", "said"),
    [
        ("stacked.yaml", "kid", "--metric kid: stacked-mnist is not scored by that; expected one of mode_kl, modes"),
        ("tiny.yaml", "mode_kl", "--metric mode_kl: mnist is not scored by that; expected one of kid, frechet"),
    ],
)
def test_a_search_by_the_other_kind_of_score_is_refused(
    harness: Harness, workplace: Path, name: str, metric: str, said: str
) -> None:
    before = sorted((workplace / "mlruns").iterdir())
    result = harness("tune", name, "--trials", "1", "--metric", metric)
    assert result.code == 2
    assert result.err.startswith(f"harness: {said}")
    assert result.err.count("\n") == 1
    assert sorted((workplace / "mlruns").iterdir()) == before


def test_runs_of_both_kinds_are_compared_as_far_as_they_can_be(harness: Harness, tmp_path: Path) -> None:
    assert harness(*RUN, "--name", "stack", "--epochs", "1").code == 0
    assert harness(*RUN, "--name", "stack2", "--epochs", "1", "--set", "optimizer.lr=1e-2").code == 0
    assert harness("run", "tiny.yaml", "--name", "digits", "--epochs", "1", "--no-system-metrics").code == 0
    out = (tmp_path / "page.html", tmp_path / "side.png")
    files = ("--html", str(out[0]), "--picture", str(out[1]))
    said = harness("compare", "stack", "digits", "stack2", *files)
    assert said.code == 0, said.err
    told = [line for line in said.err.splitlines() if "different scores" in line]
    assert len(told) == 1
    assert told[0].startswith("the runs have different scores, which cannot be compared (KID: digits; mode KL: ")
    heads = next(line for line in said.out.splitlines() if "name" in line)
    assert all(label in heads for label in ("KID", "Frechet", "mode KL", "modes"))
    kid = f"{run_named('digits').data.metrics['test/kid']:.4f}"
    assert any("digits" in line and kid in line for line in said.out.splitlines())
    assert all(path.is_file() for path in out)
    with Image.open(out[1]) as picture:
        assert picture.mode == "RGB"
    both = json.loads(harness("compare", "stack", "digits", "stack2", "--json").out)
    assert both["score"] is None
    assert [row["score"] for row in both["runs"]] == [
        run_named(row["name"]).data.metrics["test/kid" if row["name"] == "digits" else "test/mode_kl"]
        for row in both["runs"]
    ]
    refused = harness("compare", "stack", "digits", "stack2", "--best", "2")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "--best 2: the runs have different scores" in refused.err
    alike = json.loads(harness("compare", "stack", "stack2", "--best", "2", "--json").out)
    assert alike["score"] == "test/mode_kl"


def test_the_view_and_the_registry_speak_of_modes(harness: Harness) -> None:
    for name in ("one", "two"):
        assert harness(*RUN, "--name", name, "--epochs", "1", "--seed", "3").code == 0
    store = Store.open(create=False)
    runs = [store.find(name) for name in ("one", "two")]
    state = views.experiment_state(runs, runs)
    assert {"metrics.`test/mode_kl`", "metrics.`test/modes`"} <= set(state["selectedColumns"])
    charted = {chart.get("metricKey") for chart in state["compareRunCharts"]}
    assert {"quality/mode_kl", "quality/modes", "trial/mode_kl"} <= charted
    assert not any("kid" in str(metric) or "frechet" in str(metric) for metric in charted)
    assert harness("promote", "one", "--as", "stacked").code == 0
    (version,) = client().search_model_versions("name = 'stacked'")
    assert float(version.tags["harness.test_mode_kl"]) == runs[0].data.metrics["test/mode_kl"]
    assert harness("check", "stacked.yaml").code == 0


def test_images_and_histories_are_in_colour(harness: Harness, tmp_path: Path) -> None:
    assert harness(*RUN, "--name", "one", "--epochs", "2").code == 0
    assert harness("sample", "one", "--count", "20", "--out", "some.npz").code == 0
    with np.load("some.npz") as arrays:
        assert arrays["images"].shape == (20, 3, 28, 28)
    said = harness("evaluate", "--images", "some.npz", "--data", "stacked-mnist", "--samples", "20")
    assert said.code == 0, said.err
    assert "some.npz" in said.out
    assert "mode KL" in said.out
    few = harness("evaluate", "--images", "some.npz", "--data", "stacked-mnist")
    assert few.code == 2
    assert "holds 20 images, but 26,000 are compared" in few.err
    for out in ("walk.png", "walk.gif"):
        assert harness("sample", "one", "--interpolate", "--count", "2", "--frames", "4", "--out", out).code == 0
    for out in ("history.png", "history.webp"):
        assert harness("history", "one", "--out", out).code == 0
        with Image.open(out) as picture:
            assert picture.mode in {"RGB", "RGBA"}
    assert harness("run", "stacked.yaml", "--preview", "--epochs", "1", "--no-system-metrics").code == 0


def test_an_own_judge_without_classes_is_refused_before_anything_is_tracked(harness: Harness, workplace: Path) -> None:
    (workplace / "flat.py").write_text(
        "from torch import nn\nclass Flat(nn.Module):\n    def forward(self, x):\n        return x.float().flatten(1)\n"
    )
    said = harness(*RUN, "--set", "quality.judge=flat:Flat")
    assert said.code == 2
    assert said.err.startswith("harness: judge flat:Flat returns features only, but modes are counted by class")
    assert said.err.count("\n") == 1
    assert client().search_runs([e.experiment_id for e in client().search_experiments()]) == []
