"""Join a study as a worker, and serve a storage to workers: `harness worker`, `harness storage serve`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness._version import __version__
from harness.api.context import api_context
from harness.api.progress import Progress
from harness.api.stores import storage_to_use
from harness.api.studies import Study, load_study
from harness.api.tuning import tune
from harness.errors import HarnessError
from harness.experiment.tags import Tag


def work(
    study: str,
    *,
    storage: str | None = None,
    max_time: str | None = None,
    tracking_uri: str | None = None,
    system_metrics: bool = True,
    allow_changes: bool = False,
    trust: bool = False,
    progress: Progress = True,
) -> Study:
    """Train trials of a study that exists, until it has all its trials.

    Start it on any machine that reaches the storage and the tracking server. Workers claim trials one by one: no trial
    is trained twice, and a trial whose worker died is resumed by another.

    Args:
        study: Name of the study.
        storage: See `harness.tune`.
        max_time: See `harness.run`.
        tracking_uri: See `harness.run`.
        system_metrics: See `harness.run`.
        allow_changes: Join although the study was started by another version of harness, or its images, judge or
            network source have changed.
        trust: See `harness.run`.
        progress: See `harness.run`.

    Returns:
        The study, as it is when this worker ends.

    Raises:
        HarnessError: There is no such study, or another version of harness has started it.
    """
    known = load_study(study, storage=storage, tracking_uri=tracking_uri)
    version = known.run.mlflow_run.data.tags.get(Tag.VERSION)
    if version != __version__ and not allow_changes:
        raise HarnessError(
            f"study {study} was started by harness {version}, and this is {__version__}: install the same version, or "
            "join it with --allow-changes"
        )
    return tune(
        study=study,
        storage=storage,
        max_time=max_time,
        tracking_uri=tracking_uri,
        system_metrics=system_metrics,
        allow_changes=allow_changes,
        trust=trust,
        progress=progress,
    )


def serve_storage(
    storage: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 13000,
    message: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve an Optuna storage to workers that cannot reach its database, until SIGTERM or Ctrl-C.

    Workers use `--storage grpc://HOST:PORT`. The connection is not encrypted and asks for no password.

    Args:
        storage: See `harness.tune`.
        host: Address to listen on; 0.0.0.0 for all.
        port: Port to listen on.
        message: Called with one line when the storage is served.

    Raises:
        HarnessError: The storage cannot be reached, or the port is taken.
    """
    with api_context():
        from harness.tuning.grpc_storage import serve
        from harness.tuning.storage import open_storage

        serve(open_storage(storage_to_use(storage), Path("mlruns").absolute(), "", message), host, port, message)
