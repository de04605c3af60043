"""Stores in folders of any name, and names that are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.tracking import Store


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\u2028b"])
def test_names_that_cannot_be_printed_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="cannot be printed: rename the folder"):
        Store.open(root=tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_question_mark_in_a_uri_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="write a question mark in a path as %3F"):
        Store.open(f"sqlite:///{tmp_path}/what?/mlflow.db")


def test_a_store_is_created_in_a_folder_of_any_name(tmp_path: Path) -> None:
    name = "100% a%20b what?#&token=x"
    store = Store.open(root=tmp_path / "projects" / name / "mlruns")
    assert_works(store, tmp_path, name)


@pytest.mark.parametrize("name", ["a%2520b", "it's", "日本", "me@host:5", "a;b"])
def test_a_store_works_in_a_folder_of_any_name(name: str, tmp_path: Path, database: Path) -> None:
    root = tmp_path / "projects" / name / "mlruns"
    root.mkdir(parents=True)
    shutil.copy(database, root / "mlflow.db")
    assert_works(Store.open(root=root), tmp_path, name)


def assert_works(store: Store, folder: Path, name: str) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={})
    run.text("kept", "texts/a.txt")
    assert run.finish("FINISHED")
    pasted = Store.open(store.redacted_uri, root=folder / "other")
    assert pasted.download(run.run_id, "texts/a.txt", folder / "into").read_text() == "kept"
    assert [path.name for path in (folder / "projects").iterdir()] == [name]
