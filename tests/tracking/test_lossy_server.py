"""A server that loses answers, fails or hangs: everything arrives once, and the command does not fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from harness.errors import HarnessError
from harness.tracking import Store
from tests.commands import Harness
from tests.faults_lib.runs import RUN
from tests.faults_lib.servers import Proxy, first, mlflow_server
from tests.faults_lib.snapshot import differences, snapshot

pytestmark = pytest.mark.usefixtures("small_models")


@pytest.fixture
def uri(tmp_path: Path, database: Path) -> Iterator[str]:
    with mlflow_server(tmp_path / "server", database) as uri:
        yield uri


def runs(uri: str) -> list[Any]:
    client = MlflowClient(uri)
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


@pytest.mark.parametrize("fault", ["lose", "fail"])
def test_a_server_that_loses_or_fails_a_third_of_its_answers_gets_everything_once(
    harness: Harness, whole_run: dict[str, Any], uri: str, fault: str
) -> None:
    lose, fail = (0.3, 0.0) if fault == "lose" else (0.0, 0.3)
    with Proxy(uri, seed=3, lose=lose, fail=fail) as proxy:
        said = harness(*RUN, "--name", "flaky", "--tracking-uri", proxy.uri)
        assert proxy.lost + proxy.failed > 10
    assert said.code == 0, said.err
    assert said.err == ""
    assert "sync" not in said.out
    (run,) = runs(uri)
    assert differences(snapshot(MlflowClient(uri), run.info.run_id), whole_run) == []
    assert not list(Path("mlruns/spool").iterdir())


def test_a_run_whose_creation_was_not_answered_is_created_once(tmp_path: Path, uri: str) -> None:
    with Proxy(uri, choose=first("lose", "/runs/create", times=2)) as proxy:
        store = Store.open(proxy.uri, root=tmp_path / "mlruns")
        log = store.start_run(project="gan", name="one", kind="run", params={})
        assert proxy.lost == 1, "it was found by its id, not created again"
        assert log.finish("FINISHED")
    (run,) = runs(uri)
    assert (run.info.run_id, run.info.status) == (log.run_id, "FINISHED")


def test_a_server_that_hangs_for_good_ends_nothing_and_loses_nothing(
    harness: Harness, whole_run: dict[str, Any], uri: str
) -> None:
    with Proxy(uri) as proxy:

        def hang(method: str, path: str) -> None:
            if len(proxy.requests) > 25:
                proxy.mode = "hang"

        proxy.choose = hang
        said = harness(*RUN, "--name", "orphan", "--tracking-uri", proxy.uri)
        assert said.code == 0, said.err
        assert "does not answer; all data is stored on this machine: `" in said.out
        assert f"harness sync --tracking-uri {proxy.uri}` sends it later" in said.out
        (run,) = runs(uri)
        assert run.info.status == "RUNNING"
        proxy.choose = lambda method, path: None
        proxy.release()
        for thread in threading.enumerate():
            if thread.name.startswith("ship"):
                thread.join()
        said = harness("sync", "--tracking-uri", proxy.uri)
    assert "shipped" in said.out
    assert differences(snapshot(MlflowClient(uri), run.info.run_id), whole_run) == []


def test_a_server_that_hangs_between_two_runs_is_not_waited_for_long(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's client alone would repeat each request for 90 seconds."""
    monkeypatch.setattr("harness.tracking.store_reader._FRESH", 0.0)
    with Proxy(uri) as proxy:
        store = Store.open(proxy.uri, root=tmp_path / "mlruns")
        first_run = store.start_run(project="gan", name="one", kind="trial", params={})
        assert first_run.finish("FINISHED")

        proxy.mode = "hang"
        threading.Timer(3, proxy.release).start()
        second_run = store.start_run(project="gan", name="two", kind="trial", params={})  # it answers again
        assert second_run.finish("FINISHED")

        proxy.mode = "hang"
        store._hang_timeout = 2.0
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(HarnessError, match="does not answer"):
                store.start_run(project="gan", name="three", kind="trial", params={})
        assert time.monotonic() - began < 10
        assert [run.info.run_name for run in runs(uri)] == ["two", "one"]
        proxy.release()
