"""`tune --dashboard`: run optuna-dashboard on a storage."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError
from harness.interrupts import hangup_as_sigterm
from harness.servers.ports import free_port
from harness.tuning.list_studies import summaries
from harness.tuning.storage import no_studies, open_existing
from harness.tuning.trial_grids import open_artifact_store

PORT = 8080


def serve(url: str | None, root: Path, say: Callable[[str], None], study: str | None = None) -> None:
    """Serve the dashboard on 127.0.0.1 until Ctrl-C, and open the study of that name, or the only study."""
    storage = open_existing(url, root)
    ids = {summary.study_name: summary._study_id for summary in summaries(storage)} if storage else {}
    if storage is None or not ids:
        raise HarnessError(no_studies(url, root))
    if study is not None and study not in ids:
        raise HarnessError(f"there is no study {study!r} to open; there are {', '.join(sorted(ids))}")
    from optuna_dashboard import run_server

    port = free_port(PORT)
    address = f"http://127.0.0.1:{port}/dashboard"
    if study is not None or len(ids) == 1:
        address += f"/studies/{ids[study] if study is not None else next(iter(ids.values()))}"
    say(f"optuna-dashboard on {address} (Ctrl-C ends it)")
    threading.Timer(1.0, webbrowser.open, [address]).start()
    with hangup_as_sigterm():
        run_server(storage, host="127.0.0.1", port=port, artifact_store=open_artifact_store(root))
