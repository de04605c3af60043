"""`serve` answers the lines that it prints; `promote` registers what it serves."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from harness.servers.ports import free_port
from harness.tracking import Store

from ..commands import Harness, Server, client, give_time_for_one_epoch, run_named, size_of, spawn, wait_for


def _processes_of(address: str) -> list[str]:
    """Command lines of this machine that name the port."""
    port = address.rpartition(":")[2]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if port in words and "mlflow" in " ".join(words):
            found.append(" ".join(words))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_the_printed_lines_work_and_a_signal_ends_everything(
    harness: Harness, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    conditional = number == signal.SIGINT
    told = ("--set", "conditional=true") if conditional else ()
    assert harness("run", "tiny.yaml", "--name", "served", *told, "--no-system-metrics").code == 0
    port = free_port(0)
    address = f"http://127.0.0.1:{port}"
    process = spawn("serve", "served", "--port", str(port))
    said = wait_for(process, "print(len(found)")
    picture, array = [line for line in said.splitlines() if "curl" in line]
    assert ('"digits"' in picture) == conditional
    subprocess.run(["bash", "-ec", picture], check=True, cwd=tmp_path)
    assert size_of(tmp_path / "digits.png") == (302, 62)
    answer = subprocess.run(["bash", "-ec", array], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.strip() == "20 images of 28 x 28"
    assert _ask(address, {"count": 2}) == _ask(address, {"count": 2, "seed": 0})
    with pytest.raises(urllib.error.HTTPError) as refused:
        _ask(address, {"count": 0, "seed": 0})
    assert refused.value.code == 400
    assert "count 0: expected 1 to 10,000" in refused.value.read().decode()
    assert harness("serve", "served", "--port", str(port)).err.startswith(f"harness: port {port} of 127.0.0.1")
    assert _processes_of(address)
    process.send_signal(number)
    assert process.wait(30) == code
    assert not [line for line in _processes_of(address) if "models" in line or "uvicorn" in line]


def _ask(address: str, row: dict[str, int]) -> dict[str, Any]:
    body = json.dumps({"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}).encode()
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return dict(json.load(answer))


@pytest.mark.slow
def test_a_run_without_a_sampler_is_served_from_its_checkpoint(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_time_for_one_epoch(monkeypatch)
    stopped = harness("run", "tiny.yaml", "--name", "short", "--max-time", "1h", "--no-system-metrics")
    assert stopped.code == 3, stopped.err
    port = free_port(0)
    process = spawn("serve", "short", "--port", str(port))
    said = wait_for(process, "print(len(found)")
    assert "run short is KILLED: the sampler is created from its checkpoint of epoch 1" in said
    assert harness("sample", "short", "--out", "x.npz", "--count", "2", "--seed", "4").code == 0
    answer = _ask(f"http://127.0.0.1:{port}", {"count": 2, "seed": 4})
    np.testing.assert_array_equal(np.array(answer["predictions"], np.uint8), np.load("x.npz")["images"])
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


@pytest.mark.slow
def test_promoting_twice_makes_one_version_and_the_alias_moves(harness: Harness) -> None:
    for name in ("one", "two"):
        assert harness("run", "tiny.yaml", "--name", name, "--epochs", "1", "--no-system-metrics").code == 0
    first = harness("promote", "one", "--as", "digits")
    assert first.code == 0, first.err
    assert "version 1 of digits is champion" in first.out
    assert "version 1 of digits (it existed already) is champion" in harness("promote", "one", "--as", "digits").out
    assert "version 2 of digits is champion" in harness("promote", "two", "--as", "digits").out
    versions = client().search_model_versions("name = 'digits'")
    assert {int(version.version): version.run_id for version in versions} == {
        1: run_named("one").info.run_id,
        2: run_named("two").info.run_id,
    }
    champion = client().get_model_version_by_alias("digits", "champion")
    assert champion.run_id == run_named("two").info.run_id
    assert float(champion.tags["harness.test_kid"]) == run_named("two").data.metrics["test/kid"]
    again = harness("promote", "one", "--as", "digits", "--alias", "old")
    assert "is old" in again.out
    port = free_port(0)
    process = spawn("serve", "models:/digits@old", "--port", str(port))
    said = wait_for(process, "print(len(found)")
    assert f"models:/digits@old on http://127.0.0.1:{port}/invocations" in said
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not list(Path().glob("*.db"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "nobody"], "there is no run 'nobody'"),
        (["serve", "models:/nobody@champion"], "there is no model 'models:/nobody@champion' in the registry"),
        (["serve", "models:/nobody/3"], "there is no model 'models:/nobody/3' in the registry"),
        (["serve", "models:/nobody"], "expected models:/NAME@ALIAS or models:/NAME/VERSION"),
        (["promote", "quick", "--as", "a/b"], "MLflow does not take the name 'a/b'"),
        (
            ["promote", "quick", "--as", "digits", "--alias", "v1"],
            "MLflow does not take the name 'digits' with the alias",
        ),
        (["promote", "nobody", "--as", "digits"], "there is no run 'nobody'"),
        (["ui", "nobody"], "there is no run 'nobody'"),
    ],
)
def test_bad_input_is_one_line(gallery: Harness, arguments: list[str], said: str) -> None:
    result = gallery(*arguments)
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1


def test_a_run_without_models_cannot_be_promoted(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    give_time_for_one_epoch(monkeypatch)
    assert harness("run", "tiny.yaml", "--name", "short", "--max-time", "1h", "--no-system-metrics").code == 3
    result = harness("promote", "short", "--as", "digits")
    assert result.code == 2
    assert "is KILLED and has no model `sampler` to promote" in result.err
    assert not client().search_registered_models()


def test_what_was_logged_before_a_run_was_gone_on_with_is_not_its_best(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert harness("run", "tiny.yaml", "--name", "longer", "--epochs", "1", "--no-system-metrics").code == 0
    give_time_for_one_epoch(monkeypatch)
    longer = ("run", "--resume", "longer", "--epochs", "9", "--max-time", "1h", "--no-system-metrics")
    assert harness(*longer).code == 3
    assert "is KILLED and has no model `sampler`" in harness("promote", "longer", "--as", "digits").err
    from harness.servers import model_server

    store = Store.open()
    heard: list[str] = []
    model = model_server._model(store, store.find("longer"), Path.cwd(), heard.append)
    assert heard == ["run longer is KILLED: the sampler is created from its checkpoint of epoch 2"]
    assert model.parent.name == "models"


def test_a_run_that_logged_no_sampler_says_so(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.runs import final

    def as_before(*_: object) -> None:
        """What runs logged before there were samplers."""

    monkeypatch.setattr(final, "log_models", as_before)
    assert harness("run", "tiny.yaml", "--name", "old", "--epochs", "1", "--no-system-metrics").code == 0
    refused = harness("promote", "old", "--as", "digits")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "an older version trained it" in refused.err
    from harness.servers import model_server

    store = Store.open()
    heard: list[str] = []
    assert model_server._model(store, store.find("old"), Path.cwd(), heard.append).parent.name == "models"
    assert "run old has no model `sampler`" in heard[0]


def test_an_alias_that_is_refused_leaves_nothing_in_the_registry(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", "--name", "one", "--epochs", "1", "--no-system-metrics").code == 0
    for alias in ("v1", "latest", "two words", ""):
        assert harness("promote", "one", "--as", "digits", "--alias", alias).code == 2, alias
    assert not client().search_registered_models()


def test_the_registry_is_the_store_s_own(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert harness("run", "tiny.yaml", "--name", "one", "--epochs", "1", "--no-system-metrics").code == 0
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{Path('other.db').absolute()}")
    assert harness("promote", "one", "--as", "it's mine").code == 0
    assert not Path("other.db").exists()
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    (model,) = client().search_registered_models()
    assert model.name == "it's mine"
    assert client().get_model_version_by_alias("it's mine", "champion").run_id == run_named("one").info.run_id
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{Path('other.db').absolute()}")
    again = harness("promote", "one", "--as", "it's mine")
    assert "version 1 of it's mine (it existed already) is champion" in again.out
    (line,) = [line for line in again.out.splitlines() if line.startswith("  serve")]
    assert shlex.split(line)[-1] == "models:/it's mine@champion"
    loads = again.out.split("  load ")[1].split("  serve ")[0]
    names: dict[str, object] = {}
    *lines, last = [line.strip() for line in loads.strip().splitlines()]
    exec("\n".join([*lines, f"loaded = {last}"]), names)
    assert "count" in str(names["loaded"].metadata.signature)  # type: ignore[attr-defined]
    for address, said in {
        "models:/it's mnie@champion": "the nearest names are it's mine;",
        "models:/it's mine@champoin": "; it's mine has @champion",
    }.items():
        refused = harness("serve", address)
        assert (refused.code, said in refused.err) == (2, True), refused.err


@pytest.mark.slow
def test_a_server_s_runs_are_promoted_and_served(harness: Harness, server: Server) -> None:
    there = ("--tracking-uri", server.uri)
    assert harness("run", "tiny.yaml", "--name", "far", "--epochs", "1", "--no-system-metrics", *there).code == 0
    promoted = harness("promote", "far", "--as", "digits", *there)
    assert promoted.code == 0, promoted.err
    assert f"mlflow.set_tracking_uri('{server.uri}')" in promoted.out
    assert harness("sample", "far", "--out", "x.npz", "--count", "2", "--seed", "4", *there).code == 0
    for wanted in ("far", "models:/digits/1"):
        port = free_port(0)
        with spawn("serve", wanted, "--port", str(port), *there) as process:
            wait_for(process, "print(len(found)")
            answer = _ask(f"http://127.0.0.1:{port}", {"count": 2, "seed": 4})
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        np.testing.assert_array_equal(np.array(answer["predictions"], np.uint8), np.load("x.npz")["images"])
    assert not list(Path().glob("*.db"))


def test_a_server_without_a_registry_is_named(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.rest_utils import verify_rest_response

    assert harness("run", "tiny.yaml", "--name", "one", "--epochs", "1", "--no-system-metrics").code == 0

    def not_found(*_: object, **__: object) -> None:
        answer = requests.Response()
        answer.status_code, answer._content = 404, b"<h1>Not Found</h1>"
        verify_rest_response(answer, "/api/2.0/mlflow/registered-models/search")

    monkeypatch.setattr(SqlAlchemyStore, "get_registered_model", not_found)
    refused = harness("promote", "one", "--as", "digits")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "has no model registry" in refused.err


def test_a_server_that_dies_is_quoted(harness: Harness, tmp_path: Path) -> None:
    import sys

    from harness.errors import HarnessError
    from harness.servers import child_process

    words = [sys.executable, "-c", "import sys; print('no room on this disk', file=sys.stderr); sys.exit(1)"]
    with (
        pytest.raises(HarnessError, match="the thing ended at once: no room on this disk"),
        child_process.run_server(words, "the thing", cwd=tmp_path, environment={}) as server,
    ):
        server.wait_until_ready(f"http://127.0.0.1:{free_port(0)}/")


@pytest.mark.slow
def test_a_damaged_model_is_named_as_the_reason(harness: Harness, workplace: Path) -> None:
    assert harness("run", "tiny.yaml", "--epochs", "1", "--no-system-metrics").code == 0
    (network,) = (workplace / "mlruns/artifacts").glob("gan/models/*/artifacts/artifacts/model.pt2")
    network.write_bytes(b"not a network")
    said = harness("serve", "latest", "--port", str(free_port(0)))
    assert said.code == 2
    assert said.err.startswith("harness: the model server ended at once: ")
    assert "Command '" not in said.err
    assert said.err.count("\n") == 1


def test_a_server_that_ignores_being_asked_is_killed_with_its_children(tmp_path: Path) -> None:
    import sys

    from harness.servers import child_process

    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {stubborn!r}]); {stubborn}"
    before = set(psutil.Process().children())
    with child_process.run_server([sys.executable, "-c", parent], "it", cwd=tmp_path, environment={}):
        (leader,) = set(psutil.Process().children()) - before
        time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.killpg(leader.pid, 0)
