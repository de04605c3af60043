"""Studies through Optuna's gRPC proxy."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.servers.ports import free_port
from harness.tuning.grpc_storage import open_proxy
from harness.tuning.storage import open_storage

from ..commands import Harness, spawn, wait_for
from .common import QUIET, SMALL, assert_one_to_one, runs


@contextlib.contextmanager
def proxy(*options: str) -> Iterator[str]:
    """A proxy of the storage of the working directory, and its address."""
    port = free_port(0)
    process = spawn("storage", "serve", "--port", str(port), *options)
    try:
        wait_for(process, f"the storage is served at grpc://127.0.0.1:{port}")
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert "the storage is no longer served" in output


def test_a_study_of_two_workers_through_a_proxy(harness: Harness) -> None:
    Path("small.yaml").write_text(SMALL)
    with proxy() as address:
        said = harness("tune", "small.yaml", "--trials", "4", *QUIET, "--workers", "2", "--storage", address)
        assert said.code == 0, said.err
        assert "small" in harness("studies", "--storage", address).out
        joined = harness("worker", "--study", "small", "--storage", address)
        assert joined.code == 0, joined.err
        assert "no trial is left to train" in joined.out
    assert_one_to_one(4)  # in the journal that the proxy served
    assert len(runs("trial")) == 4


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://host", "--storage grpc://host: expected grpc://HOST:PORT"),
        ("grpc://host:99999", "expected grpc://HOST:PORT"),
        (
            "grpc://127.0.0.1:9",
            "no storage proxy answers; start it with `harness storage serve --host 127.0.0.1 --port 9`",
        ),
    ],
)
def test_a_wrong_address_is_one_line(tmp_path: Path, url: str, expected: str) -> None:
    with pytest.raises(HarnessError) as refused:
        open_storage(url, tmp_path, "")
    assert expected in str(refused.value)


def test_without_grpcio_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(HarnessError, match=r"pip install 'gan-harness\[grpc\]'"):
        open_proxy("grpc://127.0.0.1:9")


def test_a_port_that_is_taken_is_one_line(harness: Harness) -> None:
    with proxy() as address:
        said = harness("storage", "serve", "--port", address.rpartition(":")[2])
        assert said.code == 2
        assert "choose another --port" in said.err
