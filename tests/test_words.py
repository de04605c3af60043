"""The word list: the tree has no old term, and one that is added is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def check_words(root: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "tools" / "check_words.py"
    return subprocess.run([sys.executable, script, root], capture_output=True, text=True, timeout=60)


def test_the_tree_has_no_old_words() -> None:
    answer = check_words(ROOT)
    assert (answer.returncode, answer.stdout) == (0, "no old words\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("harness/gan/new.py", "from harness.gan import Population"),
        ("harness/gan/new.py", "for leaf in fields:"),
        ("docs/new.md", "A study that is stopped is gone on with."),
        ("README.md", "harness tune --timeout 30m"),
        ("tests/test_new.py", "class ApartError(Exception):"),
        ("benchmarks/new.py", "training = standing(study)"),
    ],
)
def test_an_old_word_is_found(tmp_path: Path, name: str, line: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"A first line.\n{line}\n")
    answer = check_words(tmp_path)
    assert answer.returncode == 1
    assert answer.stdout.startswith(f"{name}:2: write ")
    assert line in answer.stdout


def test_other_words_are_not(tmp_path: Path) -> None:
    file = tmp_path / "harness" / "new.py"
    file.parent.mkdir()
    file.write_text("# Of course warming up leaves no trace; outstanding events are sent later.\n")
    assert check_words(tmp_path).returncode == 0
