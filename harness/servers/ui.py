"""`ui`: start MLflow's UI for a store, and open the page of some runs."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import formatting
from harness.errors import HarnessError
from harness.experiment.tags import Tag
from harness.files import database_of, sqlite_uri
from harness.servers import child_process
from harness.servers.ports import check_port, free_port
from harness.tracking import Store, ui_links, views

if TYPE_CHECKING:
    from harness.tracking import Run

PORT = 5000  # MLflow's default
RECENT = 100  # runs whose params are compared to choose columns


@dataclass(frozen=True)
class Page:
    """A page of the UI.

    Attributes:
        path: Its address, relative to the server.
        title: Its title.
        messages: Lines for the user.
    """

    path: str
    title: str
    messages: tuple[str, ...] = ()


def choose_page(store: Store, wanted: Sequence[Run]) -> Page:
    """Choose the page for these runs, and save the view that it needs in the store.

    - no runs: the newest MLflow experiment
    - several runs: their comparison
    - a run: its images and curves, or MLflow's page of the run if it has no images
    - a study: its trials, sorted by the objective

    Raises:
        HarnessError: There is no run in the store.
    """
    if len(wanted) > 1:
        return Page(ui_links.comparison_page(wanted), f"comparison of {len(wanted)} runs")
    if wanted and wanted[0].data.tags.get(Tag.KIND) == "study":
        return _study(store, wanted[0])
    if wanted:
        return _run(store, wanted[0])
    newest = next(iter(store.runs(limit=1)), None)
    if newest is None:
        start = formatting.harness_command("run", store=store.uri)
        raise HarnessError(f"there is no run in {store.redacted_uri} yet: `{start}` creates one")
    experiment = newest.info.experiment_id
    name = store.client.get_experiment(experiment).name
    view = views.save_view(store, name, store.runs(limit=RECENT, project=name, children=True))
    return Page(ui_links.experiment_page(experiment, view), f"project {name}")


def _run(store: Store, run: Run) -> Page:
    title = f"run {run.info.run_name}"
    if "mlflow.loggedImages" not in run.data.tags:
        return Page(ui_links.run_page(run), title)
    return Page(ui_links.experiment_page(run.info.experiment_id, views.save_run_view(store, run)), title)


def _study(store: Store, study: Run) -> Page:
    name = study.info.run_name
    trials = [trial for trial in store.children(study.info.run_id, {Tag.KIND: "trial"}) if trial.data.metrics]
    if len(trials) < 2:
        many = "no trial" if not trials else "one trial"
        return Page(
            ui_links.run_page(study), f"study {name}", (f"study {name} has {many} yet: its own page is opened",)
        )
    view = views.save_study_view(store, study, trials)
    return Page(ui_links.experiment_page(study.info.experiment_id, view), f"{len(trials)} trials of study {name}")


def serve(store: Store, page: Page, *, port: int | None, browse: bool, say: Callable[[str], None]) -> str | None:
    """Serve MLflow's UI on 127.0.0.1 until Ctrl-C or SIGTERM.

    Args:
        store: The store.
        page: The page that is opened.
        port: One that must be free, or None for 5000 or any free one.
        browse: Open a browser, if there is a screen.
        say: Called with each line of output.

    Returns:
        The name of the signal; None if the store is a server already, whose page is opened instead.

    Raises:
        HarnessError: The port is taken, or the server does not start.
    """
    if store.address is not None:
        if port is not None:
            raise HarnessError(f"{store.address} is a server already: leave --port out")
        _open(f"{store.address}/{page.path}", page, browse, say)
        return None
    if port is not None:
        check_port(port)
    chosen = port or free_port(PORT)
    address = f"http://127.0.0.1:{chosen}"
    folder, uri = store.root, store.uri
    if uri.startswith("sqlite:"):
        # A relative path: MLflow's server does not decode a URI everywhere, and creates folders by it.
        folder, uri = database_of(uri).parent, sqlite_uri(Path(database_of(uri).name))
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--artifacts-destination", (store.root / "artifacts").as_uri()]
    command += ["--host", "127.0.0.1", "--port", str(chosen), "--workers", "1"]
    # Job execution is for language models, and needs two more processes.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"}
    with child_process.run_server(command, "the MLflow server", cwd=folder, environment=quiet) as server:
        server.wait_until_ready(f"{address}/health")
        say(f"MLflow on {address}, store {store.redacted_uri} (Ctrl-C ends it)")
        _open(f"{address}/{page.path}", page, browse, say)
        return server.wait_for_signal()


def _open(address: str, page: Page, browse: bool, say: Callable[[str], None]) -> None:
    for message in page.messages:
        say(message)
    say(f"{page.title}: {address}")
    if browse and _has_screen():
        webbrowser.open(address)


def _has_screen() -> bool:
    """Whether a browser opens in a window, and not in this terminal."""
    graphical = sys.platform in {"darwin", "win32"} or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(graphical or os.environ.get("BROWSER"))
