"""File names that are made of what users call things."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from harness.files import safe_file_name

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
