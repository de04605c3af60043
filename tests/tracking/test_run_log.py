"""What a run logs is in the store, as it was logged; what the store refuses stands in nobody's way."""

import errno
import json
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from mlflow.models import Model

from harness.errors import HarnessError
from harness.media.pictures import Picture
from harness.tracking import RunLog, Store, SystemMetrics
from harness.tracking.logged_items import LoggedItems
from harness.tracking.spool import Spool


def begin(store: Store, **more: object) -> RunLog:
    return store.start_run(**({"project": "gan", "name": "one", "kind": "run", "params": {}} | more))  # type: ignore[arg-type]


def history(store: Store, run: RunLog, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store.client.get_metric_history(run.run_id, metric)]


def fake_model(folder: Path) -> Path:
    """A folder that MLflow takes for a model; a real one is in test_models."""
    folder.mkdir()
    Model().save(str(folder / "MLmodel"))
    (folder / "weights").write_bytes(b"1234")
    return folder


def test_everything_logged_is_in_the_store(store: Store, tmp_path: Path) -> None:
    run = begin(
        store, params={"optimizer.lr": 2e-4, "train.epochs": 3}, tags={"harness.device": "cpu"}, note="a *note*"
    )
    picture = np.arange(28 * 56, dtype=np.uint32).reshape(28, 56).astype(np.uint8)
    for epoch in (1, 2, 3):
        run.metrics(epoch, {"loss/generator": 1 / epoch, "loss/discriminator": float(epoch)})
    run.image("samples", 2, picture)
    run.image("samples", 3, np.zeros((8, 8, 3), np.uint8))
    run.text("seed: 0\n", "experiment.yaml")
    run.text("deep", "a/b/c.txt")
    (tmp_path / "grid.bin").write_bytes(b"grid")
    run.artifact(tmp_path / "grid.bin", "samples")
    run.dataset(name="mnist", fingerprint="f" * 64, context="training", size=60_000, shape=(1, 28, 28))
    run.model("generator", fake_model(tmp_path / "model"), 3, "a key")
    assert run.finish("FINISHED")

    found = store.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.end_time >= found.info.start_time
    assert found.data.params == {"optimizer.lr": "0.0002", "train.epochs": "3"}
    assert found.data.tags["harness.device"] == "cpu"
    assert found.data.tags["mlflow.note.content"] == "a *note*"
    assert found.data.tags["harness.id"] == run.harness_id
    assert history(store, run, "loss/generator") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert_files_are_in_the_store(store, run, picture, tmp_path / "back")
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("mnist", "f" * 36)
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]
    (output,) = found.outputs.model_outputs
    logged = store.client.get_logged_model(output.model_id)
    assert (logged.name, logged.source_run_id, str(logged.status)) == ("generator", run.run_id, "READY")
    assert not run.folder.exists()


def assert_files_are_in_the_store(store: Store, run: RunLog, picture: Picture, folder: Path) -> None:
    """Those of the test above; picture: the grid of step 2."""
    images = [info.path for info in store.client.list_artifacts(run.run_id, "images")]
    assert len(images) == 4
    assert LoggedItems.read(store.client, run.run_id).images["samples"] == {2, 3}
    (full,) = [path for path in images if "+step+2+" in path and path.endswith(".png")]
    from PIL import Image

    with Image.open(store.download(run.run_id, full, folder)) as image:
        assert np.array_equal(np.asarray(image), picture)
    assert store.download(run.run_id, "a/b/c.txt", folder).read_text() == "deep"
    assert store.download(run.run_id, "samples/grid.bin", folder).read_bytes() == b"grid"
    assert store.download(run.run_id, "generator/weights", folder).read_bytes() == b"1234"


def test_images_are_named_as_mlflow_names_them(store: Store) -> None:
    ours, theirs = begin(store), begin(store)
    picture = np.zeros((8, 8), np.uint8)
    ours.image("grids/best one", 7, picture)
    assert ours.finish("FINISHED")
    store.client.log_image(theirs.run_id, picture, key="grids/best one", step=7)

    def shapes(run: RunLog) -> list[list[str]]:
        names = [info.path for info in store.client.list_artifacts(run.run_id, "images")]
        # The time and the unique part differ from call to call.
        return [[piece for i, piece in enumerate(name.split("+")) if i not in (4, 5)] for name in names]

    assert shapes(ours) == shapes(theirs)
    assert LoggedItems.read(store.client, theirs.run_id).images["grids/best one"] == {7}
    assert store.client.get_run(ours.run_id).data.tags["mlflow.loggedImages"] == "True"
    assert theirs.finish("FINISHED")


def test_nan_and_infinity_are_kept(store: Store) -> None:
    run = begin(store)
    run.metrics(1, {"loss/generator": math.nan, "loss/discriminator": math.inf})
    run.metrics(2, {"loss/generator": float(np.float32(0.5)), "loss/discriminator": 1.0})
    assert run.finish("FAILED")
    (first, second) = history(store, run, "loss/generator")
    assert math.isnan(first[1])
    assert second == (2, 0.5)
    assert history(store, run, "loss/discriminator")[0][1] > 1e300


def test_more_than_one_call_takes_arrives(store: Store) -> None:
    run = begin(store, params={f"p{i}": "x" * 5000 for i in range(250)})
    run.tags({f"t{i}": "y" for i in range(150)})
    run.metrics(1, {f"m{i}": i for i in range(1500)})
    assert run.finish("FINISHED")
    data = store.client.get_run(run.run_id).data
    assert len([key for key in data.params if key[0] == "p"]) == 250
    assert len([key for key in data.tags if key[0] == "t"]) == 150
    assert len([key for key in data.metrics if key[0] == "m"]) == 1500


def test_short_epochs_share_a_call(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(store)
    assert run.flush(10)
    calls: list[int] = []
    log_batch = store.client.log_batch

    def counted(run_id: str, metrics: list[object], **more: object) -> None:
        calls.append(len(metrics))
        log_batch(run_id, metrics=metrics, **more)

    monkeypatch.setattr(store.client, "log_batch", counted)
    for epoch in range(1, 101):
        run.metrics(epoch, {"loss/generator": 1.0, "loss/discriminator": 2.0})
    assert run.finish("FINISHED")
    assert sum(calls) == 200
    assert len(calls) <= 4


def test_what_the_store_refuses_is_set_aside_and_nothing_else(store: Store) -> None:
    run = begin(store, params={"optimizer.lr": 1})
    run.metrics(1, {"loss/generator": 1.0, "bad#name": 2.0})
    run.params({"optimizer.lr": 2, "late": 3})
    run.artifact(Path("/nowhere/at/all"))
    run.metrics(2, {"loss/generator": 3.0})
    assert not run.finish("FINISHED")
    assert run.shipping_error is not None
    assert "refused 3 events" in run.shipping_error
    found = store.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"optimizer.lr": "1", "late": "3"}
    assert history(store, run, "loss/generator") == [(1, 1.0), (2, 3.0)]
    assert store.sync(repeat=False) == [], "the end of the run has said it"
    (line,) = store.sync()
    assert "the store refused 3" in line
    assert len(Spool(run.folder).refused()) == 3


def test_a_refusal_that_nobody_has_reported_is_reported_by_one_command(store: Store) -> None:
    run = begin(store)
    run.metrics(1, {"loss/generator": 1.0, "bad#name": 2.0})
    assert not run.finish("FINISHED")
    (run.folder / "reported.jsonl").unlink()  # as where the process died before it could say so
    (line,) = store.sync(repeat=False)
    assert "the store refused 1" in line
    assert store.sync(repeat=False) == []
    assert len(Spool(run.folder).refused()) == 1, "it is kept all the same"


def test_an_event_that_fails_for_long_does_not_block_the_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tracking.shipping._MAX_FAILURES", 2)

    def broken(*_: object) -> None:
        raise RuntimeError("no credentials for the bucket")

    run = begin(store)
    assert run.flush(10)
    with monkeypatch.context() as patch:
        patch.setattr(store.client, "log_artifact", broken)
        run.text("text", "note.txt")
        run.metrics(1, {"loss/generator": 1.0})
        assert not run.finish("FINISHED")
        assert history(store, run, "loss/generator") == [(1, 1.0)]
        assert run.shipping_error is not None
        assert "no credentials for the bucket" in run.shipping_error
    (line,) = store.sync()
    assert "shipped" in line
    assert [info.path for info in store.client.list_artifacts(run.run_id)] == ["note.txt"]


def test_shipping_twice_is_as_shipping_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch reaches the store twice, as after a crash between shipping it and noting that."""
    mark_shipped, seen = Spool.mark_shipped, set()

    def forgetful(spool: Spool, end: int, status: str | None) -> None:
        if end not in seen:
            seen.add(end)
            raise OSError("crashed")
        mark_shipped(spool, end, status)

    monkeypatch.setattr(Spool, "mark_shipped", forgetful)
    monkeypatch.setattr("harness.tracking.background_shipper._SHIPPING_INTERVAL", 0.01)
    monkeypatch.setattr("harness.tracking.background_shipper._MAX_RETRY_DELAY", 0.01)
    run = begin(store, params={"a": 1})
    run.metrics(1, {"loss/generator": math.nan, "loss/discriminator": math.inf})
    run.image("samples", 1, np.zeros((8, 8), np.uint8))
    run.model("generator", fake_model(tmp_path / "model"), 1, "a key")
    run.dataset(name="mnist", fingerprint="f", context="training", size=1, shape=(1, 28, 28))
    run.metrics(2, {"loss/generator": 0.5})
    deadline = time.monotonic() + 30
    while not run.shipped and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.finish("FINISHED")
    assert len(seen) >= 6
    found = store.client.get_run(run.run_id)
    assert [step for step, _ in history(store, run, "loss/generator")] == [1, 2]
    assert len(history(store, run, "loss/discriminator")) == 1
    assert len(store.client.list_artifacts(run.run_id, "images")) == 2
    assert len(found.outputs.model_outputs) == 1
    assert len(store.client.search_logged_models([run.experiment_id])) == 1
    assert len(found.inputs.dataset_inputs) == 1


def test_a_replaced_file_is_shipped_once_in_its_newest_form(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(store)
    assert run.flush(10)
    uploads: list[str] = []
    log_artifact = store.client.log_artifact

    def counted(run_id: str, path: str, folder: str | None) -> None:
        uploads.append(path)
        log_artifact(run_id, path, folder)

    monkeypatch.setattr(store.client, "log_artifact", counted)
    last = run.folder / "checkpoints" / "last.pt"
    last.parent.mkdir()
    for epoch in range(5):
        last.write_text(f"epoch {epoch}")
        run.artifact(last, "checkpoints")
    assert run.finish("KILLED")
    assert len(uploads) <= 2
    assert store.download(run.run_id, "checkpoints/last.pt", run.folder / "back").read_text() == "epoch 4"
    assert last.exists(), "somebody may want to go on from it"
    assert not (run.folder / "events.jsonl").exists()


def test_last_step_counts_what_is_not_shipped_yet(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(store)
    assert run.last_step("loss/generator") == 0
    run.metrics(3, {"loss/generator": 1.0})
    assert run.flush(10)

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(store.client, "log_batch", away)
    monkeypatch.setattr(store.client, "log_artifact", away)
    run.metrics(4, {"loss/generator": 1.0})
    run.image("samples", 4, np.zeros((8, 8), np.uint8))
    assert run.last_step("loss/generator") == 4
    assert run.last_step("loss/discriminator") == 0
    assert run.has_image("samples", 4)


def test_passwords_reach_neither_store_nor_spool(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "postgresql://anna:hunter2@host/db"

    def away(*_: object, **__: object) -> None:
        raise ConnectionError(f"cannot reach {secret}")

    run = begin(store, params={"storage": secret}, tags={"where": secret}, note=f"see {secret}")
    run.tags({"again": secret})
    run.text(f"from {secret}", "environment.txt")
    with monkeypatch.context() as patch:
        patch.setattr(store.client, "get_run", away)
        patch.setattr(store.client, "log_batch", away)
        run.metrics(1, {"loss/generator": 1.0})
        assert not run.flush(0.5)
        assert "hunter2" not in (run.shipping_error or "")
    for file in run.folder.rglob("*"):
        assert file.is_dir() or b"hunter2" not in file.read_bytes()
    assert run.finish("FINISHED")
    data = store.client.get_run(run.run_id).data
    assert "hunter2" not in json.dumps([data.params, data.tags])
    assert data.params["storage"] == "postgresql://***@host/db"


def test_a_run_deleted_meanwhile_is_named_and_its_numbers_kept(store: Store) -> None:
    run = begin(store)
    assert run.flush(10)
    store.client.delete_run(run.run_id)
    run.metrics(1, {"loss/generator": 1.0})
    assert not run.finish("FINISHED")
    assert run.shipping_error is not None
    assert "deleted" in run.shipping_error
    store.client.restore_run(run.run_id)
    (line,) = store.sync()
    assert "shipped" in line
    assert history(store, run, "loss/generator") == [(1, 1.0)]


def test_neither_logging_nor_the_end_waits_for_a_store_that_hangs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(store)
    assert run.flush(10)
    asked, answer, log_batch = threading.Event(), threading.Event(), store.client.log_batch

    def hanging(*arguments: object, **more: object) -> None:
        asked.set()
        answer.wait(60)
        log_batch(*arguments, **more)

    monkeypatch.setattr(store.client, "log_batch", hanging)
    run.metrics(1, {"loss/generator": 1.0})
    assert asked.wait(60)
    run.metrics(2, {"loss/generator": 1.0})
    run.params({"late": 1})
    run.tags({"harness.device": "cpu"})
    run.image("samples", 2, np.zeros((8, 8), np.uint8))
    run.text("seed: 0\n", "experiment.yaml")
    run.artifact(tmp_path / "mlruns" / "mlflow.db")
    run.dataset(name="mnist", fingerprint="f", context="training", size=1, shape=(1, 28, 28))
    run.model("generator", fake_model(tmp_path / "model"), 1, "a key")
    assert history(store, run, "loss/generator") == [], "it hangs to this moment"
    assert not run.finish("FINISHED", timeout=0.2)
    assert history(store, run, "loss/generator") == []
    assert run.shipping_error == "the store was too slow to receive everything"
    assert store.sync() == [], "the thread is still at it"
    answer.set()
    run._shipper.join()
    (line,) = store.sync()
    assert "shipped" in line
    assert history(store, run, "loss/generator") == [(1, 1.0), (2, 1.0)]
    assert store.client.get_run(run.run_id).info.status == "FINISHED"


def test_a_full_disk_does_not_leave_a_run_running(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run, hopeless = begin(store), begin(store)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "append", full)
        with pytest.raises(HarnessError, match="No space left"):
            run.metrics(1, {"loss/generator": 1.0})
        assert not run.finish("FAILED")
        assert run.shipping_error is not None
        assert run.shipping_error.startswith(f"cannot write to the spool {run.folder}: No space left")
        patch.setattr(store.client, "set_terminated", full)
        assert not hopeless.finish("FAILED")
    assert run.folder.exists()
    found = store.client.get_run(run.run_id)
    assert found.info.status == "FAILED"
    assert found.info.end_time is not None
    assert store.sync() == []
    assert store.client.get_run(run.run_id).info.status == "FAILED"


def test_a_second_end_changes_nothing(store: Store) -> None:
    run = begin(store)
    assert not run.ended
    assert run.finish("FAILED")
    assert run.ended
    assert run.finish("FINISHED")
    assert store.client.get_run(run.run_id).info.status == "FAILED"
    lost = begin(store)
    lost.artifact(Path("/nowhere/at/all"))
    assert [lost.finish("FINISHED"), lost.finish("FINISHED")] == [False, False]
    assert "refused 1 events" in (lost.shipping_error or "")


def test_an_end_that_was_cut_short_is_completed_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run = begin(store)
    with monkeypatch.context() as patch:
        patch.setattr(run, "flush", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.finish("FINISHED")
    assert run.ended
    assert run.finish("KILLED")
    assert store.client.get_run(run.run_id).info.status == "FINISHED"
    assert not run.folder.exists()


def test_wrong_pictures_and_late_calls_are_errors(store: Store) -> None:
    run = begin(store)
    with pytest.raises(ValueError, match="uint8"):
        run.image("samples", 1, np.zeros((8, 8)))
    assert run.finish("FINISHED")
    with pytest.raises(HarnessError, match="has ended"):
        run.metrics(1, {"loss/generator": 1.0})


def test_system_metrics_go_through_the_spool(store: Store) -> None:
    run = begin(store)
    with SystemMetrics(run):
        pass
    assert run.finish("KILLED")
    again = store.resume_run(run.run_id)
    SystemMetrics(again).stop()  # never started
    with SystemMetrics(again):
        time.sleep(0.1)
    assert again.finish("FINISHED")
    assert [step for step, _ in history(store, run, "system/cpu_utilization_percentage")] == [0, 1]


def test_the_machine_is_not_the_first_thing_that_is_logged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's comparison of runs shows the metric that was logged first."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    logged: list[list[str]] = []
    metrics = RunLog.metrics

    def watching(self: RunLog, step: int, values: Mapping[str, float]) -> None:
        logged.append(sorted(values))
        metrics(self, step, values)

    monkeypatch.setattr(RunLog, "metrics", watching)
    run = begin(store)
    with SystemMetrics(run):
        time.sleep(1)
        run.metrics(1, {"quality/kid": 0.5})
        deadline = time.monotonic() + 30
        while len(logged) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert run.finish("FINISHED")
    assert logged[0] == ["quality/kid"]
    assert len(logged) > 2
    assert all(key.startswith("system/") for keys in logged[1:] for key in keys)
