"""Check what a run needs: the command `doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import formatting
from harness._version import __version__
from harness.errors import HarnessError, redact
from harness.formatting import format_count

PACKAGES = ("torch", "torchvision", "mlflow", "optuna")
MIN_FREE = 2 * 2**30  # bytes that a long run with its checkpoints may need


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    ok: bool
    text: str


def run_checks(tracking_uri: str | None = None) -> list[Finding]:
    """Run all checks. They write to the data cache only, and update the locations in a store that was moved."""
    sections: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("versions", _versions),
        ("devices", _devices),
        ("tracking", lambda: _tracking(tracking_uri)),
        ("data", _data),
        ("disk", _disk),
    ]
    findings: list[Finding] = []
    for subject, check in sections:
        try:
            findings.extend(check())
        except Exception as error:
            findings.append(Finding(subject, False, redact(f"{error}")))
    return findings


def _versions() -> Iterator[Finding]:
    found = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    yield Finding("versions", True, f"harness {__version__}, Python {platform.python_version()}, {found}")


def _devices() -> Iterator[Finding]:
    import torch

    threads = format_count(torch.get_num_threads(), "thread")
    cores = f"cpu: {threads} on {format_count(os.cpu_count() or 1, 'core')}"
    gpus = [
        f"cuda:{index} {torch.cuda.get_device_name(index)}, "
        f"{torch.cuda.get_device_properties(index).total_memory / 2**30:.0f} GiB"
        for index in range(torch.cuda.device_count())
    ]
    apple = ["mps"] if torch.backends.mps.is_available() else []
    yield Finding("devices", True, "; ".join([cores, *gpus, *apple] + ([] if gpus else ["no CUDA device"])))


def _tracking(uri: str | None) -> Iterator[Finding]:
    from harness.tracking import Store

    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None and not Path("mlruns/mlflow.db").is_file():
        yield Finding("tracking", True, "./mlruns/mlflow.db does not exist yet; the first run creates it")
        return
    messages: list[str] = []
    store = Store.open(uri, create=False, message=messages.append)
    yield from (Finding("tracking", True, message) for message in messages)
    waiting = [folder.name for folder in store.spool.glob("*") if (folder / "events.jsonl").is_file()]
    runs = store.runs(limit=1)
    newest = f"newest run {runs[0].info.run_name}" if runs else "no runs yet"
    yield Finding("tracking", True, f"{store.redacted_uri} is available; {newest}")
    if waiting:
        sync = formatting.harness_command("sync", store=store.uri)
        yield Finding(
            "tracking", True, f"{format_count(len(waiting), 'run')} in the spool; `{sync}` sends those that have ended"
        )


def _data() -> Iterator[Finding]:
    from harness import data

    missing = []
    for name, kind in data.DATASETS.items():
        if kind.options:
            continue  # its content depends on the experiment
        if kind().missing():
            missing.append(name)
            continue
        try:
            train, test = data.load_split(name, "train"), data.load_split(name, "test")
            yield Finding(
                "data", True, f"{name}: {len(train):,} + {len(test):,} images, checked, {data.cache_folder()}"
            )
        except HarnessError as error:
            yield Finding("data", False, str(error))
    if missing:
        yield Finding("data", True, f"downloaded at first use: {', '.join(missing)}")


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 2**30:.1f} GiB free in this folder"
    yield Finding(
        "disk", free >= MIN_FREE, text if free >= MIN_FREE else f"{text}; runs may need {MIN_FREE / 2**30:.0f} GiB"
    )
