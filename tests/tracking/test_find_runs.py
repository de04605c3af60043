"""Runs are found again by what people remember of them; where that is not enough, the error says what there is."""

import time

import pytest

from harness.errors import DeletedRunError, HarnessError
from harness.tracking import Store


def make(store: Store, name: str, kind: str = "run", parent: str | None = None, project: str = "gan") -> str:
    time.sleep(0.002)  # so that start times differ
    run = store.start_run(project=project, name=name, kind=kind, params={}, parent=parent)
    assert run.finish("FINISHED")
    return run.run_id


def test_an_empty_store_says_so(store: Store) -> None:
    assert store.runs() == []
    with pytest.raises(HarnessError, match=r"there is no run in sqlite:.* yet"):
        store.find("latest")
    with pytest.raises(HarnessError, match="there is no run 'abc'"):
        store.find("abc")


def test_ids_prefixes_names_and_latest(store: Store) -> None:
    first = make(store, "notebook-1")
    second = make(store, "it's one", project="other")
    study = make(store, "study", kind="study")
    trial = make(store, "trial-0", kind="trial", parent=study)
    check = make(store, "check", kind="check")
    store.client.create_run("0", run_name="not ours")

    for text, run_id in {
        first: first,
        first[:8]: first,
        "notebook-1": first,
        "it's one": second,
        "trial-0": trial,
        "latest": study,
    }.items():
        assert store.find(text).info.run_id == run_id
    assert [run.info.run_id for run in store.runs()] == [check, study, second, first]
    assert [run.info.run_id for run in store.runs(limit=2)] == [check, study]
    assert [run.info.run_id for run in store.runs(project="other")] == [second]
    assert store.runs(project="nothing") == []
    assert trial in [run.info.run_id for run in store.runs(children=True)]
    assert [run.info.run_id for run in store.children(study)] == [trial]
    assert store.children(first) == []
    assert store.link(store.find("latest")) is None


def test_runs_are_paged_through(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tracking.find_runs._PAGE", 2)
    study = make(store, "study", kind="study")
    for number in range(5):
        make(store, f"trial-{number}", kind="trial", parent=study)
    assert store.find("latest").info.run_id == study
    assert len(store.runs(children=True)) == 6
    assert len(store.children(study)) == 5


def test_unknown_ambiguous_and_deleted_runs_are_errors_that_help(store: Store) -> None:
    first, second = make(store, "notebook"), make(store, "notebook")
    with pytest.raises(HarnessError, match="the nearest names are notebook;"):
        store.find("notebok")
    with pytest.raises(HarnessError) as caught:
        store.find("notebook")
    for run_id in (first, second):
        assert f"{run_id[:12]} notebook started 2" in str(caught.value)
    store.client.delete_run(first)
    with pytest.raises(
        HarnessError,
        match=f"{first} is deleted; `MLFLOW_TRACKING_URI=sqlite:.*mlflow runs restore --run-id {first}` brings it back",
    ):
        store.find(first)
    assert store.find("notebook").info.run_id == second
    with pytest.raises(HarnessError, match="is deleted"):
        store.resume_run(first)


def test_a_name_is_suggested_after_one_small_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tracking.find_runs._RECENT", 3)
    study = make(store, "study", kind="study")
    make(store, "too old")
    for number in range(4):
        make(store, f"study-{number}", kind="trial", parent=study)
    for name in ("one", "two", "three"):
        make(store, name)
    fetched: list[object] = []
    search_runs = store.client.search_runs

    def counted(*arguments: object, **options: object) -> object:
        found = search_runs(*arguments, **options)
        fetched.extend(run.info.run_name for run in found)
        return found

    monkeypatch.setattr(store.client, "search_runs", counted)
    with pytest.raises(HarnessError, match=r"there is no run 'latets' in sqlite:.*; the nearest names are latest; `"):
        store.find("latets")
    assert fetched == ["three", "two", "one"]
    with pytest.raises(HarnessError, match="the nearest names are three;"):
        store.find("thre")


def test_what_is_deleted_with_its_project_is_restored_with_it(store: Store) -> None:
    run_id = make(store, "gone", project="old")
    experiment = store.client.get_experiment_by_name("old").experiment_id
    store.client.delete_experiment(experiment)
    said = f"project 'old' is deleted, too: .* experiments restore -x {experiment}`"
    for text in ("gone", run_id, run_id[:8]):
        with pytest.raises(DeletedRunError, match=said):
            store.find(text)
    make(store, "again")
    make(store, "again")
    for found in store.runs():
        store.client.delete_run(found.info.run_id)
    with pytest.raises(DeletedRunError, match=r"the newest of several called 'again', is deleted"):
        store.find("again")


def test_odd_texts_are_just_unknown(store: Store) -> None:
    for text in ("", "'", "\"'", "%", "abc%", "x' OR 1=1", "0" * 32):
        with pytest.raises(HarnessError, match="there is no run"):
            store.find(text)
