"""`serve`: a run's generator behind HTTP, by MLflow's own scoring server."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml

from harness.errors import HarnessError
from harness.results import summary
from harness.servers import child_process
from harness.servers.ports import free_port, refuse_taken
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run

PORT = 5001
REGISTERED = "models:/"


def serve(
    store: Store, wanted: str, *, port: int | None, say: Callable[[str], None], message: Callable[[str], None]
) -> str:
    """Serve the sampler of a run, or models:/NAME@ALIAS, on loopback until Ctrl-C or SIGTERM, whose name is returned.

    port: one that must be free, or None for the usual one, or another.
    Raises HarnessError for what is not there, a port that is taken, and a server that does not come up.
    """
    if port is not None:
        refuse_taken(port)
    with TemporaryDirectory(prefix="harness-serve-") as folder:
        if wanted.startswith(REGISTERED):
            title, model = wanted, store.download_registered(wanted, Path(folder) / "sampler")
        else:
            run = summary.single(store, store.find(wanted))
            title, model = f"run {run.info.run_name}", _model(store, run, Path(folder), message)
        chosen = port or free_port(PORT)
        address = f"http://127.0.0.1:{chosen}"
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(chosen), "--workers", "1"]
        quiet = {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_TRACKING_URI": store.uri}
        with child_process.running(command, "the model server", cwd=Path(folder), environment=quiet) as server:
            server.wait_until_answers(f"{address}/ping")
            say(f"{title} on {address}/invocations (Ctrl-C ends it)")
            for line in examples(address, conditional=_takes_digits(model)):
                say(line)
            return server.serve()


def examples(address: str, *, conditional: bool) -> list[str]:
    """Lines for a shell: one that writes a picture, one that shows the shape of an array."""
    row: dict[str, object] = {"count": 20, "seed": 1}
    if conditional:
        row["digits"] = "0123456789"
    # A table with one row, spelled out: MLflow takes a bare list of rows too, but not with params beside it.
    body = {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
    ask = f"curl -s {address}/invocations -H 'Content-Type: application/json' -d"
    read = "import base64, json, sys; found = json.load(sys.stdin)['predictions']; "
    picture = read + "sys.stdout.buffer.write(base64.b64decode(found[0]))"
    array = read + "print(len(found), 'images of', len(found[0]), 'x', len(found[0][0]))"
    return [
        f"  {ask} '{json.dumps(body | {'params': {'format': 'png'}})}' | python3 -c \"{picture}\" > digits.png",
        f"  {ask} '{json.dumps(body)}' | python3 -c \"{array}\"",
    ]


def _model(store: Store, run: Run, folder: Path, message: Callable[[str], None]) -> Path:
    """The sampler that a run has logged, or one that is made of its checkpoint.

    A run that was gone on with may have one from before: unless it is FINISHED again, that is not its best generator.
    """
    if run.info.status == "FINISHED":
        with contextlib.suppress(HarnessError):
            return store.download(run.info.run_id, "sampler", folder / "logged")
    from harness.results import load as recall
    from harness.results.export import save_models

    described, generator, epoch, like = recall.generator(store, run, message=message)
    why = "has no model `sampler`" if run.info.status == "FINISHED" else f"is {run.info.status}"
    message(f"run {run.info.run_name} {why}: the sampler is made of its checkpoint of epoch {epoch}")
    made = folder / "made"
    made.mkdir()
    save_models(described, like, generator, made)
    return made / "sampler"


def _takes_digits(model: Path) -> bool:
    described = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))
    settings = described["flavors"].get("python_function", {}).get("config") or {}
    return bool(settings.get("classes"))
