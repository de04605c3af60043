"""A real browser on a real `harness ui`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from harness.servers.ports import free_port

from ..commands import spawn, wait_for

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here: install Debian's `chromium`, or set CHROMIUM to the program")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own storage, as a new user has it, but for MLflow's assistant, which opens once over everything."""
    # So high that all charts are in view: MLflow draws only those.
    context = browser.new_context(viewport={"width": 1400, "height": 3200})
    context.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    page = context.new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    yield page
    context.close()


@pytest.fixture(scope="session")
def served(filled: Path) -> Iterator[str]:
    """What `harness ui` printed as the address of the experiment's page, in the working directory that is filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(filled)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        process = spawn("ui", "--no-open", "--port", str(free_port(0)))
        said = wait_for(process, "project gan: ")
    yield re.search(r"project gan: (\S+)", said)[1]  # type: ignore[index]
    _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
