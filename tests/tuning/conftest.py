from __future__ import annotations

from pathlib import Path

import pytest

from ..tuning.common import SMALL


@pytest.fixture
def small(workplace: Path) -> Path:
    """A working directory with a store in it, and the experiment file small.yaml."""
    (workplace / "small.yaml").write_text(SMALL)
    return workplace
