from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.tuning.storage import open_storage

from .common import SMALL
from .postgresql import PostgreSQL

STORAGES = ("journal", "sqlite", "postgresql")  # what --storage takes, and what it stands for when it is not given


@pytest.fixture
def small(workplace: Path) -> Path:
    """A working directory with a store in it, and the experiment file small.yaml."""
    (workplace / "small.yaml").write_text(SMALL)
    return workplace


@pytest.fixture(scope="session")
def sqlite_studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file without studies. Optuna's tables take half a second to make, so tests copy this one."""
    folder = tmp_path_factory.mktemp("sqlite")
    open_storage(f"sqlite:///{folder / 'studies.db'}", folder, "")
    return folder / "studies.db"


@pytest.fixture(params=STORAGES)
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """Every storage that is offered, one after the other; it holds no study. None means the journal in tmp_path."""
    if request.param == "journal":
        yield None
    elif request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_studies"), tmp_path / "studies.db")
        yield f"sqlite:///{tmp_path / 'studies.db'}"
    else:
        databases: PostgreSQL = request.getfixturevalue("postgresql_server")
        with databases.database("studies") as url:
            yield url
