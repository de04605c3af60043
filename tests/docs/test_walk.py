"""The guided walk of docs/design.md names the frames that a real run passes on its way to the optimizer."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

from ..commands import Harness

ROOT = Path(__file__).parents[2]


def test_the_walk_is_the_way_of_a_run(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[traceback.StackSummary] = []
    step = torch.optim.Adam.step

    def traced(self: torch.optim.Adam, *arguments: Any) -> Any:
        stacks.append(traceback.extract_stack())
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", traced)
    assert harness("run", "tiny.yaml", "--epochs", "1", "--no-system-metrics").code == 0
    package = str(ROOT / "harness")
    frames = [
        (frame.name, frame.filename.removeprefix(f"{package}/")) for frame in stacks[0] if package in frame.filename
    ]

    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = page.partition("## A guided walk")[2].partition("\n## ")[0]
    walk = re.findall(r"^\d+\. `(\w+)` (?:in \[(\S+?)\]|there)", section, flags=re.M)
    files = [file for _, file in walk]
    named = [
        (name, file or next(earlier for earlier in reversed(files[:index]) if earlier))
        for index, (name, file) in enumerate(walk)
    ]
    assert frames == named
    assert len(frames) - 1 <= 8
    assert len(set(re.findall(r"\.\./harness/(\S+?)\)", section))) <= 7
