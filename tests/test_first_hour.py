"""What a newcomer does in the first hour, in a fresh clone: train, search, compare, draw; and the notebook."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "experiments" / "tour.ipynb"
TINY = """
SUBSET, EPOCHS, TRIALS, TRIAL_SUBSET = 300, 2, 3, 300
SCORED = {"quality.samples": 200, "quality.samples_while_training": 100}
"""

SMALL = "--epochs 2 --subset 300 --set quality.samples=200 --set quality.samples_while_training=100"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone with a .venv of its own, whose packages are those of this environment."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    venv.create(folder / ".venv", symlinks=True, with_pip=True)
    python = folder / ".venv" / "bin" / "python"
    show = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip())
    (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", str(folder)]
    subprocess.run([str(python), *install], check=True)
    (folder / ".venv" / ".ready").touch()  # so that `make` does not install six gigabytes again
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout to clone")
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_train_search_compare_and_draw_in_a_fresh_clone(clone: Path) -> None:
    def said(*command: str) -> str:
        environment = {
            key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")
        }
        ended = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    where = said(".venv/bin/python", "-c", "import harness; print(harness.__file__)")
    assert Path(where.strip()).is_relative_to(clone)
    trained = said("make", "run", f"ARGS={SMALL} --name first")
    assert "FINISHED  first  2 of 2 epochs" in trained
    assert "FINISHED  study default  3 of 3 trials" in said(
        ".venv/bin/harness", "tune", "--trials", "3", *SMALL.split()
    )
    compared = said(".venv/bin/harness", "compare", "first", "default", "--html", "page.html")
    assert "first" in compared
    assert (clone / "page.html").read_text().startswith("<!doctype html>")
    drawn = said(".venv/bin/harness", "sample", "first")
    assert list(clone.glob("*.png")), drawn
    assert "first" in said(".venv/bin/harness", "runs")
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    written = {"page.html", *(path.name for path in clone.glob("*.png"))}
    assert {line.split()[1] for line in status.stdout.splitlines()} == written


@pytest.mark.slow
def test_the_tour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(TOUR, 4)
    (sizes,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    names = {line.split("=")[0].strip() for line in sizes.source.splitlines()}
    assert names == {"SUBSET", "EPOCHS", "TRIALS", "TRIAL_SUBSET", "SCORED"}
    sizes.source = TINY
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    cells = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    streams = [output for outputs in cells.values() for output in outputs if output.output_type == "stream"]
    assert streams == []  # progress is no text that scrolls, and nothing warns
    trained = [outputs for source, outputs in cells.items() if "harness.run(" in source or "harness.tune(" in source]
    assert len(trained) == 3
    for progress, result in trained:  # one output that was updated, then the result
        assert "harness-progress" in progress.data["text/html"]
        assert "finished: " in progress.data["text/html"]
        assert "<table>" in result.data["text/html"]
    first, _, tuned = trained
    assert "data:image/png;base64," in first[1].data["text/html"]
    assert "first" in tuned[1].data["text/html"]
    assert "tuned" in tuned[1].data["text/html"]
    pictures = [out for outputs in cells.values() for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 3  # samples, curves, sevens
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()
