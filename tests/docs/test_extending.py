"""docs/extending.md: every diff applies to a copy of the package, and the commands below the diffs work there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.S | re.M))
# Runs every line of its input as a command, in one process: PyTorch and MLflow take seconds to import.
COMMANDS = """
import shlex, sys
from harness.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv = shlex.split(line)
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 0, line
"""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


@pytest.mark.parametrize("section", SECTIONS)
def test_an_addition_touches_two_code_files_at_most(section: str) -> None:
    changed = [
        path for diff in blocks(SECTIONS[section], "diff") for path in re.findall(r"^\+\+\+ b/(\S+)", diff, re.M)
    ]
    assert len(changed) <= 2
    assert blocks(SECTIONS[section], "sh"), "a command that shows that it works"


def test_every_addition_works(tmp_path: Path) -> None:
    package = tmp_path / "package"
    for folder in ("harness", "experiments"):
        shutil.copytree(ROOT / folder, package / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for diff in blocks(PAGE, "diff"):
        subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=package, check=True)
    work = tmp_path / "work"
    work.mkdir()
    (work / "toynets.py").write_text(blocks(PAGE, "python")[0])
    lines = "".join(blocks(PAGE, "sh"))
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{work}"}
    ended = subprocess.run(
        [sys.executable, "-c", COMMANDS], input=lines, cwd=work, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "5 runs" in ended.stdout, "what `harness count` prints"
    assert "mean_shift" in ended.stdout, "the plan of the search"

    runs = mlflow.MlflowClient(f"sqlite:///{work}/mlruns/mlflow.db").search_runs(["1"], order_by=["start_time ASC"])
    objective, penalty, network, images, score = (run.data for run in runs)
    assert objective.params["objective.kind"] == "exponential"
    assert penalty.metrics["loss/penalty"] > 0
    assert network.params["generator.kind"] == "toynets:Linear"
    assert images.params["data.name"] == "stripes"
    assert score.metrics["test/mean_shift"] > 0
