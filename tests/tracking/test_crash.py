"""Killed processes: their events are shipped, their runs do not stay RUNNING, and can be resumed."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from harness.errors import HarnessError
from harness.tracking import RunLog, Store
from harness.tracking.logged_items import LoggedItems
from harness.tracking.spool import Spool

LOGS_AND_DIES = """
import os, signal, sys
import numpy as np
from pathlib import Path
from harness.tracking import Store
from harness.tracking.event_writer import EventWriter

store = Store.open(root=Path(sys.argv[1]))
run = store.start_run(project="gan", name="dies", kind="run", params={"optimizer.lr": 1})
run.metrics(1, {"loss/generator": 1.0})
assert run.flush(30)
def away(*_):
    raise ConnectionError("away")
EventWriter.write = away  # from here on nothing gets through
run.metrics(2, {"loss/generator": 2.0})
run.image("samples", 2, np.zeros((8, 8), np.uint8))
(run.folder / "checkpoints").mkdir()
(run.folder / "checkpoints" / "last.pt").write_text("weights")
run.artifact(run.folder / "checkpoints" / "last.pt", "checkpoints")
with (run.folder / "events.jsonl").open("ab") as journal:
    journal.write(b'{"kind": "metrics", "ti')
print(run.run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

OPENS = """
import sys
from pathlib import Path
from harness.tracking import Store

lines = []
store = Store.open(root=Path(sys.argv[1]), message=lines.append)
run = store.start_run(project=sys.argv[2], name="one", kind="run", params={"a": 1})
run.metrics(1, {"loss/generator": 1.0})
assert run.finish("FINISHED"), run.shipping_error
print(len(lines))
"""


def steps(store: Store, run_id: str) -> list[int]:
    return [point.step for point in store.client.get_metric_history(run_id, "loss/generator")]


def die(run: RunLog, **more: str) -> None:
    """Leave the run as a process leaves it that is gone: its thread has ended, its lock is free."""
    run._shipper.stop()
    run._shipper.join()
    run._spool.release()
    meta = json.loads((run.folder / "meta.json").read_text())
    (run.folder / "meta.json").write_text(json.dumps(meta | {"harness.process_start": "1.0"} | more))


def leave(run: RunLog, event: dict[str, object]) -> None:
    """One more event in the spool of a run that is not written any more."""
    spool = Spool(run.folder)
    spool.append(event)
    spool.release()


@pytest.fixture
def dead(root: Path, python: Callable[..., "Popen[str]"]) -> str:
    """The id of a run whose process was killed with something in its spool, and half a line at its end."""
    output, errors = python(LOGS_AND_DIES, root).communicate(timeout=60)
    assert output, errors
    return output.split()[0]


def test_a_killed_process_leaves_nothing_behind(store: Store, dead: str, tmp_path: Path) -> None:
    assert store.client.get_run(dead).info.status == "RUNNING"
    assert store.reconcile() == [dead]
    assert store.client.get_run(dead).info.status == "KILLED"
    (line,) = store.sync()
    assert "shipped 3 events" in line
    assert steps(store, dead) == [1, 2]
    assert len(store.client.list_artifacts(dead, "images")) == 2
    assert store.download(dead, "checkpoints/last.pt", tmp_path / "back").read_text() == "weights"
    assert store.client.get_run(dead).info.status == "KILLED"
    assert store.sync() == []
    assert store.reconcile() == []
    (folder,) = store.spool.iterdir()
    assert (folder / "checkpoints" / "last.pt").exists()


def test_sync_alone_sets_the_status_right(store: Store) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={})
    assert run.flush(10)
    die(run)
    (line,) = store.sync()
    assert line.endswith("set to KILLED")
    assert store.client.get_run(run.run_id).info.status == "KILLED"
    assert not run.folder.exists()


def test_a_killed_run_goes_on_where_it_was(store: Store, dead: str) -> None:
    run = store.resume_run(dead)
    found = store.client.get_run(dead)
    assert found.info.status == "RUNNING"
    assert steps(store, dead) == [1, 2], "what was left is shipped first"
    assert run.last_step("loss/generator") == 2
    assert LoggedItems.read(store.client, dead).images["samples"] == {2}
    assert (run.folder / "checkpoints" / "last.pt").exists()
    assert store.reconcile() == [], "it is ours now"
    assert store.sync() == []
    run.metrics(3, {"loss/generator": 3.0})
    assert run.finish("FINISHED")
    assert steps(store, dead) == [1, 2, 3]
    assert store.client.get_run(dead).info.status == "FINISHED"
    assert not run.folder.exists()


def test_a_finished_run_goes_on_though_its_spool_is_gone(store: Store) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={})
    run.metrics(1, {"loss/generator": 1.0})
    assert run.finish("FINISHED")
    again = store.resume_run(run.run_id)
    assert again.harness_id == run.harness_id
    again.metrics(2, {"loss/generator": 2.0})
    assert again.finish("FINISHED")
    assert steps(store, run.run_id) == [1, 2]


def test_a_live_run_is_neither_resumed_nor_reconciled_nor_synced(store: Store) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={})
    with pytest.raises(HarnessError, match="still being written by process"):
        store.resume_run(run.run_id)
    run.metrics(1, {"loss/generator": 1.0})
    assert store.sync() == []
    # Even when its pid looks gone, as from inside another container.
    store.client.set_tag(run.run_id, "harness.pid", "4194303")
    assert store.reconcile() == []
    assert run.finish("FINISHED")


def test_runs_of_other_hosts_and_of_others_are_left_alone(store: Store) -> None:
    experiment = store.experiment_id("gan")
    elsewhere = store.client.create_run(experiment, tags={"harness.host": "elsewhere", "harness.pid": "1"})
    foreign = store.client.create_run(experiment)
    assert store.reconcile() == []
    for run in (elsewhere, foreign):
        assert store.client.get_run(run.info.run_id).info.status == "RUNNING"
    with pytest.raises(HarnessError, match="not made by harness"):
        store.resume_run(foreign.info.run_id)


def test_sync_leaves_a_run_alone_that_another_host_has_resumed(store: Store) -> None:
    """The spool of the first host keeps the checkpoints of a run that is KILLED."""
    run = store.start_run(project="gan", name="one", kind="run", params={})
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "last.pt").write_text("weights")
    assert run.finish("KILLED")
    die(run)
    store.client.set_tag(run.run_id, "harness.host", "elsewhere")
    store.client.update_run(run.run_id, status="RUNNING")
    assert store.sync() == []
    assert store.client.get_run(run.run_id).info.status == "RUNNING"


def test_runs_spooled_for_another_store_are_named_and_left(store: Store) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={})
    assert run.flush(10)
    die(run, uri="http://***@elsewhere:5000")
    assert store.sync() == [], "it has nothing to ship"
    leave(run, {"kind": "metrics", "time": 1, "step": 1, "values": {"loss/generator": 1.0}})
    (line,) = store.sync()
    assert "left alone, it belongs to http://***@elsewhere:5000" in line
    assert steps(store, run.run_id) == []
    assert (run.folder / "events.jsonl").exists()


def test_two_processes_that_start_on_an_empty_store_both_get_on(
    tmp_path: Path, python: Callable[..., "Popen[str]"]
) -> None:
    root = tmp_path / "with space" / "mlruns"
    processes = [python(OPENS, root, "gan") for _ in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert sorted(output.strip() for output, _ in results) == ["0", "1"], "one of them created it, and said so"
    assert [errors for _, errors in results] == ["", ""], "MLflow is kept quiet"
    store = Store.open(root=root)
    runs = store.runs()
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert len({run.info.experiment_id for run in runs}) == 1
    assert runs[0].info.artifact_uri.startswith((root / "artifacts").as_uri())
    assert sorted(path.name for path in root.iterdir()) == ["mlflow.db", "mlflow.db.lock", "spool"]


def test_a_journal_survives_what_a_power_cut_does_to_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"kind": "metrics", "n": 1})
    spool.release()
    with (tmp_path / "events.jsonl").open("ab") as journal:
        journal.write(b"\0\0\0\n" + b'{"half')
    (tmp_path / "shipped.json").write_text("")
    again = Spool(tmp_path)
    assert again.acquire()
    again.append({"kind": "metrics", "n": 2})
    kinds = [(entry.event["kind"], entry.event.get("n")) for entry in again.pending()]
    assert kinds == [("metrics", 1), ("unreadable", None), ("metrics", 2)]
    again.mark_shipped(again.pending()[-1].end, None)
    assert again.pending() == []
    again.release()


def test_what_is_left_of_a_run_that_is_not_in_the_store_is_named_and_the_others_are_shipped(
    store: Store, tmp_path: Path
) -> None:
    lost, empty, fine = (store.start_run(project="gan", name=name, kind="run", params={}) for name in "abc")
    for run in (lost, empty, fine):
        assert run.flush(10)
        (run.folder / "checkpoints").mkdir()
        die(run)
    for run in (lost, empty):  # as after `mlflow gc`
        meta = json.loads((run.folder / "meta.json").read_text())
        (run.folder / "meta.json").write_text(json.dumps(meta | {"run_id": "0" * 32}))
    for run in (lost, fine):
        leave(run, {"kind": "metrics", "time": 1, "step": 1, "values": {"loss/generator": 1.0}})
    lines = store.sync()
    (line,) = [line for line in lines if line.startswith("run a ")]
    assert "1 events cannot be shipped, the run is no longer in the store" in line
    assert f"they are in {lost.folder}, which can be deleted" in line
    assert [line for line in lines if line.startswith("run b ")] == [], "it has nothing to ship"
    assert len([line for line in lines if line.startswith("run c ") and "shipped 1 events" in line]) == 1
    assert steps(store, fine.run_id) == [1]
    assert store.sync() == [line]


def test_one_damaged_spool_does_not_keep_the_others_from_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {name: store.start_run(project="gan", name=name, kind="run", params={}) for name in "abcd"}
    for run in runs.values():
        assert run.flush(10)
        die(run)
        leave(run, {"kind": "metrics", "time": 1, "step": 1, "values": {"loss/generator": 1.0}})
    (runs["a"].folder / "meta.json").write_text('{"name": "a"}')
    (runs["b"].folder / "refused.jsonl").write_text('{"event": {"kind"{"event": {}}\n')
    read = Spool.all_pending

    def faulty(spool: Spool) -> object:
        if spool.folder == runs["c"].folder:
            raise PermissionError("not yours")
        return read(spool)

    monkeypatch.setattr(Spool, "all_pending", faulty)
    lines = {line.split()[1]: line for line in store.sync()}
    assert f"does not say which run it is; it is in {runs['a'].folder}, which can be deleted" in lines["a"]
    assert "2 events, of which the store refused 1 (this line of the spool cannot be read)" in lines["b"]
    assert lines["c"].endswith(f"could not be shipped, not yours; it stays in {runs['c'].folder}")
    assert "shipped 1 events" in lines["d"]
    assert steps(store, runs["b"].run_id) == steps(store, runs["d"].run_id) == [1]


def test_a_spool_that_is_being_made_is_left_alone(store: Store) -> None:
    fresh, old = store.spool / "fresh", store.spool / "old"
    for folder in (fresh, old):
        folder.mkdir()
    os.utime(old, (time.time() - 100,) * 2)
    assert store.sync() == []
    assert list(store.spool.iterdir()) == [fresh]
    assert list(fresh.iterdir()) == [], "whoever makes it finds it unlocked"


def test_a_run_that_is_written_from_another_folder_is_not_resumed(
    store: Store, tmp_path: Path, python: Callable[..., "Popen[str]"]
) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={})
    assert run.flush(10)
    die(run)
    other = Store.open(store.uri, root=tmp_path / "elsewhere")
    writer = python("import time; time.sleep(60)")
    writing = {"harness.pid": str(writer.pid), "harness.process_start": repr(psutil.Process(writer.pid).create_time())}
    store.add(run.run_id, 0, {}, writing)
    with pytest.raises(HarnessError, match=f"still being written by process {writer.pid}: wait for it"):
        other.resume_run(run.run_id)
    writer.kill()
    writer.communicate()
    store.add(run.run_id, 0, {}, {"harness.host": "fermi"})
    with pytest.raises(HarnessError, match=r"RUNNING on the host fermi .*set_terminated\(\"\w+\", \"KILLED\"\)"):
        other.resume_run(run.run_id)
    assert list(other.spool.iterdir()) == []
    store.client.set_terminated(run.run_id, "KILLED")
    again = other.resume_run(run.run_id)
    assert store.client.get_run(run.run_id).data.tags["harness.pid"] == str(os.getpid())
    assert again.finish("FINISHED")


def test_a_resumed_run_is_rid_of_how_it_ended(store: Store) -> None:
    run = store.start_run(project="gan", name="one", kind="run", params={}, tags={"harness.diverged": "nan"})
    assert run.flush(10)
    leave(run, {"kind": "tags", "time": 1, "values": {"harness.error": "OSError: gone", "other": "kept"}})
    die(run)
    again = store.resume_run(run.run_id)
    tags = store.client.get_run(run.run_id).data.tags
    assert tags["other"] == "kept"
    assert not {"harness.error", "harness.diverged"} & tags.keys()
    assert again.finish("FINISHED")


def test_only_checkpoints_and_what_was_refused_outlive_the_shipping(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    spool = Spool(folder)
    spool.write_meta({"run_id": "1"})
    spool.append({"kind": "artifact", "file": "samples/1.png", "folder": "samples"})
    for file in ("models/generator/MLmodel", "samples/1.png", "files/1/a.txt", "checkpoints/last.pt", "lock", "odd"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    spool.refuse({"kind": "artifact", "file": "files/1/a.txt"}, "too large")
    spool.refuse({"kind": "artifact", "file": "samples/1.png"}, "too large")
    spool.clear()
    kept = {"checkpoints", "lock", "meta.json", "refused.jsonl"}
    assert {path.name for path in folder.iterdir()} == kept | {"files", "samples"}
    (folder / "refused.jsonl").unlink()
    spool.clear()
    assert {path.name for path in folder.iterdir()} == kept - {"refused.jsonl"}
