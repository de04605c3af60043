"""A tracking server that goes away in mid-run costs the run nothing: neither time nor anything that was logged."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow.models import Model

from harness.errors import HarnessError
from harness.tracking import RunLog, Store, SystemMetrics

from ..commands import Server


def once_released(store: Store) -> list[str]:
    """`sync`, as soon as the log's last attempt to reach the server is over: until then the spool is being written."""
    deadline = time.monotonic() + 60
    while not (lines := store.sync()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return lines


def test_what_is_logged_while_the_server_is_gone_arrives_once_by_sync(server: Server, tmp_path: Path) -> None:
    store = Store.open(server.uri, root=tmp_path / "mlruns")
    run = store.start_run(project="gan", name="lost", kind="run", params={"optimizer.lr": 2e-4})
    run.metrics(1, {"loss/generator": 1.0})
    run.image("samples", 1, np.zeros((8, 8), np.uint8))
    assert run.flush(20)
    assert run.shipping_error is None
    link = store.link(store.find("latest"))
    assert link == f"{server.uri}/#/experiments/{run.experiment_id}/runs/{run.run_id}?workflowType=machine_learning"

    lasting = store.start_run(project="gan", name="lasting", kind="run", params={})
    assert lasting.flush(20)

    server.kill()
    lasting.metrics(1, {"loss/generator": 1.0})
    log_everything(run, tmp_path / "model")
    assert not run.finish("FINISHED", timeout=3)
    assert run.shipping_error == "the tracking server does not answer"
    assert lasting.shipping_error == "the tracking server does not answer"
    with pytest.raises(HarnessError, match="does not answer"):
        store.find("latest")
    (line,) = once_released(store)
    assert "could not be shipped" in line

    server.start()
    (line,) = store.sync()
    assert "lost" in line
    assert "shipped" in line
    assert store.sync() == []
    lasting.metrics(2, {"loss/generator": 2.0})
    assert lasting.finish("FINISHED"), "a run that is still there when the server comes back needs no sync"
    assert lasting.shipping_error is None
    assert [point.step for point in store.client.get_metric_history(lasting.run_id, "loss/generator")] == [1, 2]
    assert_everything_arrived_once(store, run, tmp_path / "back")


def log_everything(run: RunLog, model: Path) -> None:
    """An item of each kind, one after the other. model: a folder to make a model in."""
    model.mkdir()
    Model().save(str(model / "MLmodel"))
    calls: list[Callable[[], None]] = [
        lambda: run.metrics(2, {"loss/generator": float("nan"), "loss/discriminator": 0.5}),
        lambda: run.image("samples", 2, np.zeros((8, 8), np.uint8)),
        lambda: run.tags({"harness.diverged": "true"}),
        lambda: run.params({"late": 1}),
        lambda: run.text("seed: 0\n", "experiment.yaml"),
        lambda: run.dataset(name="mnist", fingerprint="f", context="training", size=9, shape=(1, 28, 28)),
        lambda: run.model("generator", model, 1, "a key"),
        lambda: run.metrics(3, {"loss/generator": 3.0}),
    ]
    for call in calls:
        call()
        time.sleep(0.2)
    with SystemMetrics(run):
        pass


def assert_everything_arrived_once(store: Store, run: RunLog, folder: Path) -> None:
    found = store.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"optimizer.lr": "0.0002", "late": "1"}
    assert found.data.tags["harness.diverged"] == "true"
    history = store.client.get_metric_history(run.run_id, "loss/generator")
    assert [point.step for point in history] == [1, 2, 3]
    assert np.isnan(history[1].value)
    assert len(store.client.get_metric_history(run.run_id, "system/cpu_utilization_percentage")) == 1
    assert len(store.client.list_artifacts(run.run_id, "images")) == 4
    assert store.download(run.run_id, "experiment.yaml", folder).read_text() == "seed: 0\n"
    assert len(found.inputs.dataset_inputs) == 1
    assert len(found.outputs.model_outputs) == 1
    assert (store.download(run.run_id, "generator", folder) / "MLmodel").is_file()
    assert list(store.spool.iterdir()) == []


def test_a_server_that_is_dead_at_the_start_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"http://\*\*\*@127.0.0.1:9 does not answer: start it") as caught:
        Store.open("http://anna:hunter2@127.0.0.1:9", root=tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_accepts_and_says_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("harness.tracking.connect._PROBE_TIMEOUT", 1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(HarnessError, match="does not answer"):
            Store.open(f"http://127.0.0.1:{deaf.getsockname()[1]}", root=tmp_path)


def test_a_web_server_that_is_not_mlflow_is_told_apart(tmp_path: Path) -> None:
    import http.server
    import threading

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(HarnessError, match="not as an MLflow tracking server"):
            Store.open(f"http://127.0.0.1:{other.server_port}", root=tmp_path)
        other.shutdown()
