"""`tune --dashboard`: optuna-dashboard on a storage."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError
from harness.ports import free_port
from harness.study import storage as storages

PORT = 8080


def serve(url: str | None, root: Path, say: Callable[[str], None]) -> None:
    """Serve the dashboard on loopback until Ctrl-C."""
    if url is None and not (root / storages.JOURNAL).is_file():
        raise HarnessError(
            f"there are no studies here: {root / storages.JOURNAL} does not exist; start with `harness tune`"
        )
    storage = storages.open_storage(url, root, "")
    from optuna_dashboard import run_server

    port = free_port(PORT)
    address = f"http://127.0.0.1:{port}/dashboard"
    say(f"optuna-dashboard on {address} (Ctrl-C ends it)")
    threading.Timer(1.0, webbrowser.open, [address]).start()
    run_server(storage, host="127.0.0.1", port=port)
