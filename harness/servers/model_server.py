"""`serve`: serve a run's generator over HTTP, with MLflow's scoring server."""

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
from harness.servers.ports import check_port, free_port
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run

PORT = 5001
REGISTERED = "models:/"  # prefix of the address of a registered model


def serve(
    store: Store, wanted: str, *, port: int | None, say: Callable[[str], None], message: Callable[[str], None]
) -> str:
    """Serve the sampler of a run on 127.0.0.1 until Ctrl-C or SIGTERM.

    Args:
        store: The store.
        wanted: A run, as on the command line, or models:/NAME@ALIAS.
        port: One that must be free, or None for 5001 or any free one.
        say: Called with each line of output.
        message: Called with one line before something slow.

    Returns:
        The name of the signal.

    Raises:
        HarnessError: There is no such run or model, the port is taken, or the server does not start.
    """
    if port is not None:
        check_port(port)
    with TemporaryDirectory(prefix="harness-serve-") as folder:
        if wanted.startswith(REGISTERED):
            title, model = wanted, store.download_registered(wanted, Path(folder) / "sampler")
        else:
            run = summary.resolve_run(store, store.find(wanted))
            title, model = f"run {run.info.run_name}", _model(store, run, Path(folder), message)
        chosen = port or free_port(PORT)
        address = f"http://127.0.0.1:{chosen}"
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(chosen), "--workers", "1"]
        quiet = {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_TRACKING_URI": store.uri}
        with child_process.run_server(command, "the model server", cwd=Path(folder), environment=quiet) as server:
            server.wait_until_ready(f"{address}/ping")
            say(f"{title} on {address}/invocations (Ctrl-C ends it)")
            for line in examples(address, conditional=_takes_digits(model)):
                say(line)
            return server.wait_for_signal()


def examples(address: str, *, conditional: bool) -> list[str]:
    """Return two shell commands: one writes a picture, one prints the shape of the array.

    Args:
        address: The address of the server.
        conditional: Whether the generator takes digits.
    """
    row: dict[str, object] = {"count": 20, "seed": 1}
    if conditional:
        row["digits"] = "0123456789"
    # `dataframe_split`, because MLflow accepts a plain list of rows only without params.
    body = {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
    request = f"curl -s {address}/invocations -H 'Content-Type: application/json' -d"
    read = "import base64, json, sys; found = json.load(sys.stdin)['predictions']; "
    picture = read + "sys.stdout.buffer.write(base64.b64decode(found[0]))"
    array = read + "print(len(found), 'images of', len(found[0]), 'x', len(found[0][0]))"
    return [
        f"  {request} '{json.dumps(body | {'params': {'format': 'png'}})}' | python3 -c \"{picture}\" > digits.png",
        f"  {request} '{json.dumps(body)}' | python3 -c \"{array}\"",
    ]


def _model(store: Store, run: Run, folder: Path, message: Callable[[str], None]) -> Path:
    """The sampler that a run has logged, or one that is created from its checkpoint.

    A resumed run may have a sampler of its earlier end, which is not its best generator. So only that of a FINISHED run
    is used.
    """
    if run.info.status == "FINISHED":
        with contextlib.suppress(HarnessError):
            return store.download(run.info.run_id, "sampler", folder / "logged")
    from harness.results import load
    from harness.results.export import save_models

    experiment, generator, epoch, like = load.generator(store, run, message=message)
    why = "has no model `sampler`" if run.info.status == "FINISHED" else f"is {run.info.status}"
    message(f"run {run.info.run_name} {why}: the sampler is created from its checkpoint of epoch {epoch}")
    models = folder / "models"
    models.mkdir()
    save_models(experiment, like, generator, models)
    return models / "sampler"


def _takes_digits(model: Path) -> bool:
    mlmodel = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))
    settings = mlmodel["flavors"].get("python_function", {}).get("config") or {}
    return bool(settings.get("classes"))
