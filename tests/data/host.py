"""A host on loopback that serves a folder: with ranges or without, whole or breaking off in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Host:
    """files: by their path. ranges: whether it understands `Range`. breaks: how many answers it sends half of.

    asked: (path, Range) of every request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.breaks = 0
        self.asked: list[tuple[str, str | None]] = []
        self.url = ""

    def serve_folder(self, folder: Path) -> None:
        for file in folder.rglob("*"):
            if file.is_file():
                self.files[file.relative_to(folder).as_posix()] = file.read_bytes()


@contextmanager
def serving() -> Iterator[Host]:
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, wanted = self.path.lstrip("/"), self.headers.get("Range")
            host.asked.append((name, wanted))
            if name not in host.files:
                self.send_error(404)
                return
            content, start = host.files[name], 0
            if wanted and host.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            rest = content[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if host.breaks:
                host.breaks -= 1
                rest = rest[: len(rest) // 2]
                self.close_connection = True
            with suppress(ConnectionError):  # who asked may have given up
                self.wfile.write(rest)

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
