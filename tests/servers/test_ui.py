"""`ui`: which page is opened, and what is kept for it; the pages themselves are looked at in tests/browser."""

from __future__ import annotations

import copy
import json
import signal
import socket
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.servers import ui
from harness.tracking import Store, views

from ..commands import Harness, Server, client, spawn, wait_for


@pytest.fixture
def store(gallery: Harness) -> Store:
    return Store.open(create=False)


def test_a_study_opens_as_its_trials_sorted_by_its_objective(store: Store) -> None:
    study = store.find("small")
    page = ui.choose_page(store, [study])
    key = f"harness-study-{study.info.run_id}"
    assert f"viewStateShareKey={key}" in page.path
    assert page.title == "5 trials of study small"
    view = json.loads(client().get_experiment(study.info.experiment_id).tags[f"mlflow.sharedViewState.{key}"])
    assert view["name"] == "study small"
    state = json.loads(view["state"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`validation/kid`", True)
    (plot,) = [chart for chart in state["compareRunCharts"] if chart["type"] == "PARALLEL"]
    assert plot["selectedMetrics"] == ["validation/kid"]
    assert plot["selectedParams"] == ["optimizer.lr", "generator.latent", "discriminator.dropout"]
    found = client().search_runs([study.info.experiment_id], state["searchFilter"])
    assert {run.info.run_name for run in found} == {f"small-{number}" for number in range(5)}


def test_a_study_that_maximises_shows_the_highest_first(store: Store) -> None:
    study = store.find("small")
    study.data.params.update({"study.metric": "coverage", "study.direction": "maximize"})
    state = views.study_state(study, [])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`validation/coverage`", False)


def test_one_run_and_several_runs(store: Store) -> None:
    quick, slow = store.find("quick"), store.find("slow")
    page = ui.choose_page(store, [quick])
    assert page.path.startswith(f"#/experiments/{quick.info.experiment_id}/runs?workflowType=machine_learning&")
    key = f"harness-run-{quick.info.run_id}"
    assert page.path.endswith(f"viewStateShareKey={key}")
    view = json.loads(client().get_experiment(quick.info.experiment_id).tags[f"mlflow.sharedViewState.{key}"])
    assert view["name"] == "run quick"
    state = json.loads(view["state"])
    (found,) = client().search_runs([quick.info.experiment_id], state["searchFilter"])
    assert found.info.run_id == quick.info.run_id
    assert [section["name"] for section in state["compareRunSections"]][:2] == ["samples", "quality"]
    assert unquote(ui.choose_page(store, [quick, slow]).path).startswith(
        f'#/compare-runs?runs=["{quick.info.run_id}", "'
    )


def test_a_study_of_one_trial_opens_on_its_own_page(harness: Harness, workplace: Path) -> None:
    from ..tuning.common import SMALL

    (workplace / "small.yaml").write_text(SMALL)
    assert harness("tune", "small.yaml", "--trials", "1", "--batch-runs", "1", "--no-system-metrics").code == 0
    store = Store.open(create=False)
    study = store.find("small")
    page = ui.choose_page(store, [study])
    assert study.info.run_id in page.path
    assert page.messages == ("study small has one trial yet: its own page is opened",)


def test_the_view_has_what_differs_and_is_written_once(store: Store) -> None:
    page = ui.choose_page(store, [])
    assert f"viewStateShareKey={views.KEY}" in page.path
    experiment = store.experiment_id("gan")
    kept = client().get_experiment(experiment).tags[views.TAG]
    state = json.loads(json.loads(kept)["state"])
    assert {"metrics.`test/kid`", "params.`optimizer.lr`", "params.`generator.latent`"} <= set(state["selectedColumns"])
    assert not any("widths" in column or "train.seed" in column for column in state["selectedColumns"])
    (samples,) = [chart for chart in state["compareRunCharts"] if chart.get("imageKeys") == ["samples"]]
    assert samples["step"] == 3, "the epoch with which the runs ended"
    assert (state["orderByAsc"], state["searchFilter"]) == (True, ""), "MLflow shows the pictures of the last run first"
    ui.choose_page(store, [])
    assert client().get_experiment(experiment).tags[views.TAG] == kept


def test_of_many_runs_the_newest_are_listed(store: Store) -> None:
    quick = store.find("quick")
    runs = [copy.deepcopy(quick) for _ in range(11)]
    for age, run in enumerate(runs):
        run.info._start_time = 1000 - age
    assert views.experiment_state(runs, runs)["searchFilter"] == "attributes.start_time >= 993"
    assert views.experiment_state(runs, runs[:10])["searchFilter"] == ""


def test_a_param_that_some_runs_lack_does_not_differ(store: Store) -> None:
    slow, quick, older = store.find("slow"), store.find("quick"), copy.deepcopy(store.find("quick"))
    del older.data.params["augment.cutout"]
    check = copy.deepcopy(quick)
    check.data.tags["harness.kind"] = "check"
    check.data.params.update({"train.epochs": "1", "data.subset": "500"})
    assert views.differing_params([slow, quick, older, check, store.find("seeds")]) == [
        "optimizer.lr",
        "generator.latent",
    ]


def test_a_parent_has_pictures_where_runs_have_them(store: Store) -> None:
    seeds = store.find("seeds")
    paths = [item.path for item in client().list_artifacts(seeds.info.run_id, "images")]
    steps = {int(path.split("+")[2]) for path in paths if path.startswith("images/samples+") and path.endswith(".png")}
    assert steps == {1, 2, 3}
    assert f"Mean test KID {seeds.data.metrics['test/kid']:.4f}" in seeds.data.tags["mlflow.note.content"]


def test_a_run_without_pictures_opens_on_its_own_page(store: Store) -> None:
    quick = store.find("quick")
    del quick.data.tags["mlflow.loggedImages"]
    assert f"/runs/{quick.info.run_id}?workflowType=machine_learning" in ui.choose_page(store, [quick]).path


def test_a_store_without_runs_has_no_page(harness: Harness) -> None:
    said = harness("ui", "--no-open")
    assert said.code == 2
    assert "there is no run" in said.err


def test_a_port_that_is_taken_is_refused(gallery: Harness) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = gallery("ui", "--no-open", "--port", str(port))
    assert said.code == 2
    assert said.err.startswith(f"harness: port {port} of 127.0.0.1 cannot be used")
    assert said.err.count("\n") == 1


@pytest.mark.slow
def test_a_server_that_runs_already_is_opened_as_it_is(harness: Harness, server: Server) -> None:
    there = ("--tracking-uri", server.uri)
    assert harness("run", "tiny.yaml", "--name", "far", "--epochs", "1", "--no-system-metrics", *there).code == 0
    said = harness("ui", "far", "--no-open", *there)
    assert said.code == 0
    assert said.out.startswith(f"run far: {server.uri}/#/experiments/")
    assert harness("ui", "--port", "5000", *there).code == 2


@pytest.mark.slow
def test_sigterm_ends_the_server_too(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    monkeypatch.chdir(filled)
    process = spawn("ui", "quick", "--no-open")
    address = wait_for(process, "run quick: ").rpartition("run quick: ")[2].split("/#")[0]
    assert urllib.request.urlopen(f"{address}/health", timeout=5).status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/health", timeout=5)
