"""The site: it is built without a warning, its reference pages are complete, and it loads nothing from elsewhere."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness import api
from harness.cli import cli
from harness.experiment import Experiment
from harness.experiment import experiment as schema

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def read(page: Path) -> str:
    """The text of a page without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_command_and_option_has_its_entry(site: Path) -> None:
    page = (site / "reference" / "command-line" / "index.html").read_text(encoding="utf-8")
    for name, command in cli.commands.items():
        _, found, rest = page.partition(f'<h3 id="harness-{name}">')
        assert found, name
        section = rest.partition("<h3")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert f"<code>{parameter.opts[0]}</code>" in section, f"{name} {parameter.opts[0]}"
        assert "Examples:" in section, name
    assert "Sentinel" not in page


def test_defaults_are_in_their_column(site: Path) -> None:
    page = (site / "reference" / "command-line" / "index.html").read_text(encoding="utf-8")
    _, _, section = page.partition('<h3 id="harness-tune">')
    assert (
        "<td>Pruner: halving, hyperband, median, wilcoxon (between seeds only) or none.</td>\n<td>halving</td>"
        in section
    )
    assert "[default: " not in "".join(re.findall(r"<td>.*?</td>", page))


def test_every_key_of_an_experiment_file_has_its_row(site: Path) -> None:
    page = (site / "reference" / "experiment-file" / "index.html").read_text(encoding="utf-8")
    parts = re.split(r'<h2 id="', page)
    sections = {part.partition('"')[0]: part for part in parts[1:]}
    for path in schema._known_paths():
        section, _, leaf = path.rpartition(".")
        if leaf != "kind" or section == "objective":
            assert f"<td><code>{leaf}</code></td>" in sections[section or "top-level"], path
    described = read(site / "reference" / "experiment-file" / "index.html").lower()
    assert Experiment.model_fields["project"].description.lower() in described  # type: ignore[union-attr]


def test_every_name_of_the_python_api_has_its_entry(site: Path) -> None:
    page = (site / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    names = {*harness.__all__, *api.__all__} - {"__version__"}
    assert [name for name in names if not re.search(rf'<h3 id="harness\.([\w.]+\.)?{name}"', page)] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="?(https?://[^"\s>]+)')
    found = {url for page in site.rglob("*.html") for url in loaded.findall(page.read_text(encoding="utf-8"))}
    assert found == set()
