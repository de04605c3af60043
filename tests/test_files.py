"""File names that are made of what users call things; SQLite files as URIs that SQLAlchemy, and so MLflow, reads."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import sqlalchemy

from harness.errors import redact
from harness.files import database_of, path_of, safe_file_name, sqlite_uri

ODD = (
    "..", ".", "", "/", "a/b", "a_b", "a b", "/etc/passwd", "../../x", "con", "CON", "con.txt", "nul", ".hidden",
    "-rf", "x" * 300, "x" * 299, "best", "Best", "BEST", "ends.", "ends", "\N{FIRE}", "\N{FIRE}\N{FIRE}",
    "\udcff", "a\0b", "é", "e\u0301", "C:\\x", "a:b", safe_file_name("Best"), safe_file_name("a/b"),
)  # fmt: skip


@pytest.mark.parametrize("name", ["small", "default", "a_b", "run-2.1", "2024-11-26"])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert safe_file_name(name) == name


@pytest.mark.parametrize("name", ODD)
def test_any_name_becomes_one_file_name(name: str, tmp_path: Path) -> None:
    made = safe_file_name(name)
    assert made == safe_file_name(name)
    assert (tmp_path / made).parent == tmp_path
    assert made not in {".", ".."}
    assert made[0] not in ".-"
    assert not made.endswith(".")
    assert made.split(".")[0].lower() not in {"con", "nul"}
    file = tmp_path / f"{made}.lock"
    file.touch()
    assert list(tmp_path.iterdir()) == [file]


def test_no_two_names_share_a_file() -> None:
    for one, other in itertools.combinations(ODD, 2):
        assert safe_file_name(one).casefold() != safe_file_name(other).casefold(), (one, other)


@pytest.mark.parametrize(
    ("name", "made"), [("a/b c", "a_b_c"), ("Best", "Best"), ("..", "_"), ("../x", "_x"), ("con", "_con")]
)
def test_without_a_hash_a_name_is_safe_all_the_same(name: str, made: str) -> None:
    assert safe_file_name(name, unique=False) == made


NAMES = [
    "a%20b",
    "100%",
    "a%2520b",
    "what?",
    "h#1",
    "two words",
    "it's",
    'say "hi"',
    "a&token=b",
    "p+q",
    "größe",
    "日本",
    "me@host:5",
    "a;b",
    "$HOME",
    "back\\slash",
    "~",
    "-n",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_the_same_in_every_notation(name: str) -> None:
    path = Path("/data") / name / "mlflow.db"
    uri = sqlite_uri(path)
    assert database_of(uri) == path
    assert sqlalchemy.make_url(uri).database == str(path)
    assert redact(f"the store {uri} failed") == f"the store {uri} failed"
    assert path_of(path.as_uri()) == path


def test_a_plain_path_stays_readable() -> None:
    assert sqlite_uri(Path("/home/mia/größe/x.db")) == "sqlite:////home/mia/größe/x.db"
