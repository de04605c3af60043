"""An MLflow server in a thread of this process, and an HTTP proxy before it that loses answers, fails, hangs, refuses.

with mlflow_server(folder, database) as uri, Proxy(uri, seed=1, lose=0.3) as proxy:
    harness("run", "tiny.yaml", "--tracking-uri", proxy.uri)
    assert proxy.lost
"""

from __future__ import annotations

import http.client
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest

Fault = Literal["lose", "fail", "hang"]
_KEPT_BY_THE_PROXY = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "expect"}


class Proxy:
    """Passes HTTP requests on to `target`; faults are chosen by a generator with this seed.

    lose: share of the requests that arrive, but whose answer is cut. fail: share that is answered by 500 and does not
    arrive. choose: a fault for a request by its method and path, before chance is asked; see `first`.
    mode may be changed at any time: `pass`, or `hang`: connections are taken, and nothing is ever answered.
    """

    def __init__(
        self,
        target: str,
        *,
        seed: int = 0,
        lose: float = 0.0,
        fail: float = 0.0,
        choose: Callable[[str, str], Fault | None] = lambda method, path: None,
    ) -> None:
        self.target = urlsplit(target)
        self.lose, self.fail, self.choose = lose, fail, choose
        self.mode: Literal["pass", "hang"] = "pass"
        self.requests: list[tuple[str, str, str]] = []  # method, path, what became of it
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def lost(self) -> int:
        return sum(fate == "lose" for _, _, fate in self.requests)

    @property
    def failed(self) -> int:
        return sum(fate == "fail" for _, _, fate in self.requests)

    def __enter__(self) -> Proxy:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self.refuse()

    def accept(self) -> None:
        """Listen, after `refuse` on the same port again."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="proxy", daemon=True).start()

    def refuse(self) -> None:
        """Stop listening: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def release(self) -> None:
        """End a hang: what waits is cut, what comes from now on is passed."""
        self.mode = "pass"
        self._released.set()
        self._released = threading.Event()

    def fate(self, method: str, path: str) -> str:
        with self._lock:
            chance = self._random.random()
            fate: str = self.choose(method, path) or ("hang" if self.mode == "hang" else "pass")
            if fate == "pass" and chance < self.lose + self.fail:
                fate = "lose" if chance < self.lose else "fail"
            self.requests.append((method, path, fate))
            return fate

    def wait_until_released(self) -> None:
        self._released.wait()


def first(fault: Fault, path: str, times: int = 1) -> Callable[[str, str], Fault | None]:
    """For `Proxy(choose=)`: this fault for the first requests whose path contains `path`."""
    left = [times]

    def choose(method: str, requested: str) -> Fault | None:
        if path not in requested or not left[0]:
            return None
        left[0] -= 1
        return fault

    return choose


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None: ...


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    def log_message(self, format: str, *args: object) -> None: ...

    def _handle(self) -> None:
        proxy = self.proxy
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        fate = proxy.fate(self.command, self.path.split("?")[0])
        if fate == "hang":
            proxy.wait_until_released()
            self._cut()
            return
        if fate == "fail":
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        assert proxy.target.hostname is not None
        upstream = http.client.HTTPConnection(proxy.target.hostname, proxy.target.port, timeout=60)
        headers = {key: value for key, value in self.headers.items() if key.lower() not in _KEPT_BY_THE_PROXY}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fate == "lose":
            self._cut()
            return
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _KEPT_BY_THE_PROXY:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _chunks(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return None
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815


@contextmanager
def mlflow_server(folder: Path, database: Path) -> Iterator[str]:
    """MLflow's tracking server on a copy of an empty database. In a thread: a process takes seconds of CPU to start."""
    import mlflow.server.handlers as handlers
    from mlflow.server import app
    from mlflow.server.constants import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None: ...

    folder.mkdir(parents=True)
    shutil.copy(database, folder / "server.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{folder / 'server.db'}")
        patch.setenv(ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
        patch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, str(folder / "artifacts"))
        patch.setenv(SERVE_ARTIFACTS_ENV_VAR, "true")
        for cached in ("_tracking_store", "_model_registry_store", "_artifact_repo"):
            patch.setattr(handlers, cached, None)
        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
        server.daemon_threads = True  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="mlflow-server", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
