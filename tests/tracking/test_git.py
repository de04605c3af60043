"""What a run says about the code it ran with."""

import subprocess
from pathlib import Path

import pytest

from harness.tracking import git, source_diff


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    run("init", "--quiet", "--initial-branch=main")
    run("config", "user.email", "a@b")
    run("config", "user.name", "a")
    run("config", "commit.gpgsign", "false")
    return tmp_path


def run(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True)


def commit(folder: Path) -> None:
    (folder / "code.py").write_text("a = 1\n")
    run("add", "code.py")
    run("commit", "--quiet", "-m", "first")


def test_outside_a_repository_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.git_tags() == {}
    assert source_diff() is None
    monkeypatch.setenv("PATH", "")
    assert git.git_tags() == {}


def test_a_repository_without_a_commit(repository: Path) -> None:
    (repository / "code.py").write_text("a = 1\n")
    tags = git.git_tags()
    assert tags["harness.git.dirty"] == "true"
    assert "mlflow.source.git.commit" not in tags
    assert source_diff() == "# untracked: code.py\n"


def test_clean_then_dirty_also_from_below(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(repository)
    run("remote", "add", "origin", "https://anna:hunter2@host/repo.git")
    tags = git.git_tags()
    assert tags["harness.git.dirty"] == "false"
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["mlflow.source.git.branch"] == "main"
    assert tags["mlflow.source.git.repoURL"] == "https://***@host/repo.git"
    assert source_diff() is None

    (repository / "below").mkdir()
    monkeypatch.chdir(repository / "below")
    (repository / "code.py").write_text("a = 'http://anna:hunter2@host'\n")
    (repository / "new.py").touch()
    assert git.git_tags()["harness.git.dirty"] == "true"
    diff = source_diff()
    assert diff is not None
    assert diff.startswith("# untracked: new.py\n")
    assert "-a = 1" in diff
    assert "+a = 'http://***@host'" in diff


def test_a_long_difference_is_cut(repository: Path) -> None:
    commit(repository)
    (repository / "code.py").write_text("b = 2\n" * 400_000)
    diff = source_diff()
    assert diff is not None
    assert len(diff) < 1_100_000
    assert "cut here" in diff.splitlines()[-1]
