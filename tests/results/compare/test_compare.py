"""`compare`: which runs, in which order, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.results.compare import compare, load_sample_grids
from harness.tracking import Store

from ...commands import Harness, client, run_named

RUNS = ("slow", "quick", "seeds")


def _plain(harness: Harness, *arguments: str) -> dict[str, object]:
    said = harness("compare", *arguments, "--json")
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert isinstance(result, dict)
    return result


def _column(out: str, title: str) -> list[str]:
    """The cells of a printed table below a title, by the place of the title."""
    lines = out.splitlines()
    top = next(index for index, line in enumerate(lines) if title in line.split())
    start = lines[top].index(f" {title}") + 1
    body = lines[top + 2 :]
    return [line[start:].split("  ")[0].strip() for line in body[: body.index(next(b for b in body if not b.strip()))]]


def test_a_table_has_the_best_first_and_only_the_params_that_differ(gallery: Harness) -> None:
    said = gallery("compare", "slow", "quick")
    assert said.code == 0, said.err
    metrics = {name: run_named(name).data.metrics["test/kid"] for name in ("slow", "quick")}
    best_first = sorted(metrics, key=lambda name: metrics[name])
    assert _column(said.out, "name") == best_first
    assert [cell.split()[0] for cell in _column(said.out, "KID")] == [f"{metrics[name]:.4f}" for name in best_first]
    assert all("±" in cell for cell in _column(said.out, "KID"))
    assert dict(zip(best_first, _column(said.out, "lr"), strict=True)) == {"slow": "0.0001", "quick": "0.01"}
    assert dict(zip(best_first, _column(said.out, "latent"), strict=True)) == {"slow": "8", "quick": "12"}
    assert "widths" not in said.out
    assert "test split" in said.out
    assert f"harness ui {run_named(best_first[0]).info.run_id[:8]}" in said.out


def test_replicates_are_a_row_with_their_deviation_and_a_study_is_its_best_trial(gallery: Harness) -> None:
    result = _plain(gallery, "seeds", "small", "quick", "quick")
    rows = {row["name"]: row for row in result["runs"]}  # type: ignore[attr-defined]
    study = run_named("small")
    best = f"small-{study.data.tags['harness.best_trial']}"
    assert set(rows) == {"seeds", best, "quick"}, "the same run is compared once"
    assert result["score"] == "quality/kid", "trials stay off the test split"
    only = _plain(gallery, "seeds", "quick")
    spread = {row["name"]: row["spread"] for row in only["runs"]}  # type: ignore[attr-defined]
    assert only["score"] == "test/kid"
    assert spread["seeds"] == pytest.approx(run_named("seeds").data.metrics["test/kid_std"])
    assert spread["quick"] == pytest.approx(run_named("quick").data.metrics["test/kid_se"])


def test_the_best_of_a_study(gallery: Harness) -> None:
    every = _plain(gallery, "--study", "small")
    assert every["score"] == "validation/kid"
    scores = [row["score"] for row in every["runs"]]  # type: ignore[attr-defined]
    assert len(scores) == 5
    assert scores == sorted(scores)
    assert set(every["params"]) == {  # type: ignore[call-overload]
        "optimizer.lr",
        "generator.latent",
        "discriminator.dropout",
    }
    best = _plain(gallery, "--study", "small", "--best", "2")
    assert [row["score"] for row in best["runs"]] == scores[:2]  # type: ignore[attr-defined]


def test_all_runs_of_an_experiment_without_its_trials_and_seeds(gallery: Harness) -> None:
    result = _plain(gallery, "--experiment", "tiny")
    assert {row["name"] for row in result["runs"]} == set(RUNS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("older", [False, True])
def test_replicates_have_the_data_and_the_judge_of_their_seeds(
    gallery: Harness, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    tagged = Store.tagged

    def without(self: Store, tags: dict[str, str], **options: Any) -> list[Any]:
        """As older versions left the tags of the parent."""
        found = tagged(self, tags, **options)
        for run in found:
            for key in ("harness.dataset", "harness.judge"):
                assert key in run.data.tags
                if run.data.tags["harness.kind"] == "replicates":
                    del run.data.tags[key]
        return found

    if older:
        monkeypatch.setattr(Store, "tagged", without)
    assert _plain(gallery, "--experiment", "tiny")["notices"] == []


def test_seeds_are_counted_where_runs_have_epochs(gallery: Harness) -> None:
    table = gallery("compare", *RUNS).out
    cells = dict(zip(_column(table, "name"), _column(table, "epoch"), strict=True))
    assert cells == {"slow": "3/3", "quick": "3/3", "seeds": "2/2 seeds"}
    listed = {row["name"]: row for row in json.loads(gallery("runs", "--json").out)}
    assert (listed["seeds"]["seeds_ended"], listed["seeds"]["seeds"], listed["seeds"]["epochs"]) == (2, 2, None)
    assert (listed["slow"]["epoch"], listed["slow"]["seeds"]) == (3, None)
    assert "2/2 seeds" in gallery("runs").out


def test_a_caption_has_the_score_of_the_table_and_names_its_split(gallery: Harness) -> None:
    store = Store.open()
    for wanted, split in ((["slow", "quick", "seeds"], "test"), (["small"], "validation")):
        found = compare(store, wanted) if len(wanted) > 1 else compare(store, study="small")
        tiles, _ = load_sample_grids(store, found)
        assert found.score == f"{split}/kid"
        for tile in tiles:
            name, said = tile.caption
            run = run_named(name)
            best = run.data.tags.get("harness.best_epoch")
            epoch = said.split()[1]
            score = f"epoch {epoch} · {split} KID {run.data.metrics[f'{split}/kid']:.4f}"
            where = " over seeds" if name == "seeds" else "" if best == epoch else f" of epoch {best}"
            assert said == score + where


def test_a_caption_of_scores_while_training_is_of_the_epoch_of_the_grid(gallery: Harness) -> None:
    store = Store.open()
    found = compare(store, ["slow", "small"])
    assert found.score == "quality/kid"
    tiles, _ = load_sample_grids(store, found, step=3)
    (tile,) = [tile for tile in tiles if tile.row.name == "slow"]
    score = store.history(run_named("slow").info.run_id, "quality/kid")[3]
    assert tile.caption == ["slow", f"epoch 3 · validation KID {score:.4f}"]


def test_the_picture_holds_the_logged_grids(gallery: Harness, filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "side.png"
    said = gallery("compare", "slow", "quick", "--picture", str(out), "--step", "2")
    assert said.code == 0, said.err
    sheet = np.asarray(Image.open(out))
    names = _column(said.out, "name")
    for index, name in enumerate(names):
        (path,) = (filled / "mlruns").glob(
            f"artifacts/gan/{run_named(name).info.run_id}/artifacts/samples/epoch-0002.png"
        )
        grid = np.asarray(Image.open(path))
        height, width = grid.shape
        left = 20 + index * (width + 20)
        np.testing.assert_array_equal(sheet[20 : 20 + height, left : left + width], grid)


def test_what_cannot_be_compared_is_said_and_the_rest_compared(
    harness: Harness, workplace: Path, tmp_path: Path
) -> None:
    quick = ("--no-system-metrics", "--epochs", "1")
    for name, change in (
        ("here", "data.subset=40"),
        ("there", "project=others"),
        ("gone", "data.seed=0"),
        ("blank", "data.seed=0"),
    ):
        assert harness("run", "tiny.yaml", "--name", name, "--set", change, *quick).code == 0
    store = client()
    gone, blank = (run_named(name).info.run_id for name in ("gone", "blank"))
    store.delete_run(gone)
    for path in (workplace / "mlruns/artifacts/gan" / blank / "artifacts/samples").glob("*.png"):
        path.unlink()
    store.update_run(run_named("there").info.run_id, status="RUNNING")
    out = tmp_path / "some.png"
    said = harness("compare", "here", "there", gone, blank, "--picture", str(out))
    assert said.code == 0, said.err
    assert out.is_file()
    assert sorted(_column(said.out, "name")) == ["blank", "here", "there"]
    lines = said.err.splitlines()
    for words in (
        "trained on different data",
        f"left out: the run {gone} is deleted",
        "different projects: gan, others",
        "there is still running",
    ):
        assert any(words in line for line in lines), (words, lines)
    assert any(line.startswith("no pictures: run blank") for line in lines), lines
    again = harness("compare", "here", gone[:10])
    assert again.code == 2
    assert again.err.count("\n") == 1
    assert "is deleted" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["slow"], "1 run to compare, expected two or more"),
        ([], "0 runs to compare, expected two or more"),
        (["slow", "quack"], "the nearest names are quick"),
        (["--study", "smal"], "the nearest names are small"),
        (["--experiment", "tinny"], "the nearest names are tiny"),
        (["--study", "xyz"], "there is no such study in sqlite:"),
        (["--experiment", "xyz"], "no run of it is here; there are runs of small, tiny"),
        (["slow", "quick", "--html", "page.txt"], "must end in .html"),
        (["slow", "quick", "--picture", "page.jpg"], "must end in .png"),
        (["slow", "quick", "--html", "nowhere/page.html"], "there is no folder"),
        (["slow", "quick", "--step", "2"], "--step 2: use it with --html or --picture"),
        (
            ["slow", "quick", "--picture", "x.png", "--step", "9"],
            "no run has a grid of that epoch; expected 1, 2, 3",
        ),
    ],
)
def test_bad_input_is_one_line(gallery: Harness, filled: Path, arguments: list[str], said: str) -> None:
    before = set(filled.iterdir())
    result = gallery("compare", *arguments)
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1
    assert set(filled.iterdir()) == before


def test_the_table_needs_no_torch(filled: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.argv = ['harness', 'compare', 'slow', 'quick']\n"
        "from harness.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: sys.exit(3 if 'torch' in sys.modules else end.code)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=filled, check=True, capture_output=True)
