"""What pip installs is whole: data, judges and experiments travel in the wheel, and it runs from an empty directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_an_installed_wheel_runs_from_an_empty_directory(tmp_path: Path, database: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = archive.namelist()
    assert "harness/experiments/notebook.yaml" in names
    assert "harness/py.typed" in names
    assert "harness/quality/weights/mnist-first.safetensors" in names
    assert any(name.endswith("entry_points.txt") for name in names)
    empty.mkdir()
    shutil.copy(database, tmp_path / "mlflow.db")
    code = (
        "import harness, sys; from harness.cli import main; "
        f"assert harness.__file__.startswith({str(site)!r}), harness.__file__; main()"
    )
    arguments = ["run", "notebook", "--epochs", "1", "--subset", "200", "--set", "quality.samples=100"]
    environment = {**os.environ, "PYTHONPATH": str(site), "HARNESS_DATA": str(tmp_path / "cache")}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=empty, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "FINISHED" in ran.stdout
    assert (tmp_path / "cache" / "MNIST" / "raw").is_dir()
