"""Servers as children: what they are started with."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.servers import child_process


def test_programs_of_our_own_environment_are_found_where_it_is_not_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    asks = "import shutil, sys; sys.exit(shutil.which('uvicorn') or 'nowhere')"
    expected = shutil.which("uvicorn", path=str(Path(sys.executable).parent))
    assert expected is not None
    with (
        child_process.run_server([sys.executable, "-c", asks], "the server", cwd=tmp_path, environment={}) as server,
        pytest.raises(HarnessError, match=f"the server ended at once: {expected}"),
    ):
        server.wait_until_ready("http://127.0.0.1:9/")
