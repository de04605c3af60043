"""Optuna's gRPC storage proxy: one process reaches the database, and workers reach that process.

    harness storage serve --storage postgresql://...     on a machine that reaches the database
    harness worker --study NAME --storage grpc://host:13000

The connection is not encrypted and asks for no password: use it inside a cluster.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.errors import HarnessError, brief

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

DEFAULT_PORT = 13000
_CONNECT_TIMEOUT = 8.0  # seconds
_INSTALL = "grpc:// storages need grpcio: pip install 'gan-harness[grpc]'"


def is_grpc(url: str) -> bool:
    """Whether a URL is the address of a proxy."""
    return url.startswith("grpc://")


def parse_address(url: str) -> tuple[str, int]:
    """Return host and port of grpc://HOST:PORT.

    Raises:
        HarnessError: The URL has another form.
    """
    found = re.fullmatch(r"grpc://([\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})/?", url)
    if found is None or not 0 < int(found[2]) < 65536:
        raise HarnessError(f"--storage {url}: expected grpc://HOST:PORT, such as grpc://login1:{DEFAULT_PORT}")
    return found[1], int(found[2])


def open_proxy(url: str) -> BaseStorage:
    """Return the storage behind a proxy.

    Raises:
        HarnessError: The URL has another form, grpcio is missing, or no proxy answers.
    """
    host, port = parse_address(url)
    try:
        import grpc  # noqa: F401
        from optuna.storages import GrpcStorageProxy
    except ImportError as error:
        raise HarnessError(_INSTALL) from error
    storage: BaseStorage = GrpcStorageProxy(host=host, port=port)
    try:
        storage.wait_server_ready(timeout=_CONNECT_TIMEOUT)
        storage.get_all_studies()
    except Exception as error:
        start = f"`harness storage serve --host {host} --port {port}`"
        raise HarnessError(f"--storage {url}: no storage proxy answers; start it with {start}") from error
    return storage


def serve(storage: BaseStorage, host: str, port: int, message: Callable[[str], None]) -> None:
    """Serve a storage until SIGTERM or Ctrl-C.

    Args:
        storage: The storage.
        host: Address to listen on.
        port: Port to listen on.
        message: Called with one line when the proxy answers.

    Raises:
        HarnessError: grpcio is missing, or the port is taken.
    """
    try:
        import grpc  # noqa: F401
        from optuna.storages import run_grpc_proxy_server
    except ImportError as error:
        raise HarnessError(_INSTALL) from error
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise HarnessError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error

    def announce() -> None:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), timeout=1).close()
                message(f"the storage is served at grpc://{host}:{port}; Ctrl-C ends it")
                return
            time.sleep(0.1)

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # Of SIGINT, too: a shell script starts its background jobs with SIGINT ignored.
    previous = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    threading.Thread(target=announce, name="announce", daemon=True).start()
    try:
        run_grpc_proxy_server(storage, host=host, port=port)
    except KeyboardInterrupt:
        message("the storage is no longer served")
    except RuntimeError as error:
        raise HarnessError(f"cannot listen on {host}:{port}: {brief(error)}") from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
