"""The README in two languages: the same commands, the same code, the same links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, KOREAN = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md"))
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def code_lines(text: str) -> list[str]:
    """The lines of all code blocks, fenced and indented, without comments."""
    blocks = FENCED.findall(text)
    indented = [line[4:] for line in FENCED.sub("", text).splitlines() if line.startswith("    ")]
    lines = [line for block in blocks for line in block.splitlines()] + indented
    return [re.sub(r"\s*(^|\s)# .*", "", line) for line in lines]


def spans(text: str) -> set[str]:
    """What stands in the text as code."""
    prose = "\n".join(line for line in FENCED.sub("", text).splitlines() if not line.startswith("    "))
    return {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)}


def links(text: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", FENCED.sub("", text)))


def test_code_blocks_are_the_same() -> None:
    assert len(code_lines(ENGLISH)) > 20
    assert code_lines(KOREAN) == code_lines(ENGLISH)


def test_commands_and_options_are_the_same() -> None:
    commands = {span for span in spans(KOREAN) if re.match(r"(harness|make|pip|source) |--", span)}
    assert len(commands) > 40
    assert commands <= spans(ENGLISH)
    rows = re.compile(r"^\| (`harness .*?) \|", re.MULTILINE)
    assert rows.findall(KOREAN) == rows.findall(ENGLISH)


def test_links_are_the_same() -> None:
    assert links(KOREAN) - {"README.md"} == links(ENGLISH) - {"README.ko.md"}
    assert "README.md" in links(KOREAN.partition("## ")[0])
    assert "README.ko.md" in links(ENGLISH.partition("## ")[0])


@pytest.mark.parametrize("text", [ENGLISH, KOREAN], ids=["English", "Korean"])
def test_linked_files_exist(text: str) -> None:
    missing = [link for link in links(text) if not link.startswith("http") and not (ROOT / link.split("#")[0]).exists()]
    assert missing == []


def test_the_sections_are_the_same() -> None:
    assert re.findall(r"^#+ ", KOREAN, re.MULTILINE) == re.findall(r"^#+ ", ENGLISH, re.MULTILINE)
